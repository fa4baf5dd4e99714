"""What somebody sends over NATS that nobody asked for takes no memory and holds nobody up, and is told."""

from __future__ import annotations

import asyncio
import json
import uuid

import nats.errors
import pytest
from structlog.testing import capture_logs

from services.chassis.events import streams
from services.chassis.events.reader import Reader
from tests.support.chassis import until
from tests.support.nats_users import run_everybody, user

SETTLED = "realco.transactions.v1.TransactionSettled.org_1._"


def read_places(logged) -> list[str]:
    return [line["place"] for line in logged if line["event"] == "messages_dropped"]


@pytest.fixture
def everybody(tmp_path):
    """Each with an account of their own, as an installation has it."""
    with run_everybody(tmp_path) as server:
        yield server


async def test_what_is_sent_to_where_a_reader_read_before_does_not_reach_its_process(everybody):
    """Who has the service's password hears where answers arrive, and can have a stream answer there again and again."""
    reading = await streams.connect(everybody.url("compliance"), "compliance")
    async with user(everybody, "transactions") as (teller, _), user(everybody, "compliance") as (thief, refused):
        for number in range(300):
            await teller.jetstream().publish(SETTLED, b"%d" % number + bytes(1000))
        overheard = await thief.subscribe("_INBOX_compliance.>")
        await thief.flush()
        reader = Reader(streams.jetstream(reading), "TRANSACTIONS")
        assert await reader.read(300, 256) == []
        inbox = (await overheard.next_msg(5)).subject
        await overheard.unsubscribe()
        await reading.flush()
        before, asked = reading.stats["in_bytes"], json.dumps({"seq": 1, "batch": 300}).encode()
        own = await thief.subscribe("_INBOX_compliance.own")
        for reply in [inbox, f"{inbox.rpartition('.')[0]}.another"] * 20 + ["_INBOX_compliance.own"]:
            await thief.publish("$JS.EVENTS.API.DIRECT.GET.TRANSACTIONS", asked, reply=reply)
        await own.next_msg(5)  # so those before it were answered, too
        await reading.flush()
        assert (reading.stats["in_bytes"] - before, refused) == (0, set())
        assert [one.sequence for one in await reader.read(298, 256)] == [299, 300]
    await reading.close()


GOOD, STRAY, END = "good", "stray", "end"
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("sent", "size", "in_headers", "heard", "told"),
    [
        ([GOOD] * 3 + [STRAY] * 50 + [END], 1, False, 3, 0),
        ([STRAY] * 50 + [GOOD] * 3 + [END], 1, False, 3, 0),
        ([GOOD] * 3 + [STRAY] * 500, 1, False, 3, 1),  # what came before is as good as ever
        ([STRAY] * 500 + [GOOD] * 3 + [END], 1, False, None, 1),
        ([STRAY] * 20 + [END], MIB // 2, False, None, 1),
        ([GOOD] * 9 + [STRAY] * 20, MIB // 2, True, 9, 1),
        ([GOOD] * 20, MIB * 9 // 10, False, 8, 1),
    ],
)
async def test_a_reader_takes_no_more_than_it_asked_for_and_tells_of_the_rest(
    js, nats_url, sent, size, in_headers, heard, told
):
    stream, answering = f"S{uuid.uuid4().hex}", await streams.connect(nats_url, "answering")

    async def answer(question) -> None:
        sequence = 0
        for kind in sent:
            if kind == END:
                await answering.publish(question.reply, headers={"Status": "204"})
                continue
            sequence += kind == GOOD
            headers = {"Nats-Stream": stream if kind == GOOD else "OTHER", "Nats-Sequence": str(sequence)}
            headers |= {"Nats-Num-Pending": "0", "Nats-Time-Stamp": "now", "Nats-Subject": SETTLED}
            if in_headers:
                headers["Large"] = "x" * size
            await answering.publish(question.reply, b"" if in_headers else bytes(size), headers=headers)

    await answering.subscribe(f"$JS.API.DIRECT.GET.{stream}", cb=answer)
    await answering.flush()
    reader = Reader(js, stream)
    with capture_logs() as logged:
        if heard is None:
            with pytest.raises(nats.errors.Error, match="more came"):
                await reader.read(0, 256)
        else:
            assert [one.sequence for one in await reader.read(0, 256)] == [*range(1, heard + 1)]
    await answering.close()
    assert read_places(logged) == ["inbox"] * told


async def test_a_reader_asks_nothing_while_nats_is_away_and_goes_on_once_it_is_back(js, nats_url):
    reader = Reader(js, "ESCROW")
    last = (await js.stream_info("ESCROW")).state.last_seq
    client = streams.client_of(js)
    await client._process_op_err(nats.errors.StaleConnectionError())
    assert not client.is_connected
    assert await reader.read(last, 1) == []


async def test_a_flush_ends_once_the_server_has_read_what_was_sent_before_it(js, nats_url, monkeypatch):
    client, written = await streams.connect(nats_url, "flushing"), []
    monkeypatch.setattr(client._transport, "write", written.append)
    monkeypatch.setattr(client._transport, "writelines", written.extend)
    await client.subscribe("asked")
    with pytest.raises(nats.errors.TimeoutError):
        await client.flush(timeout=1)
    monkeypatch.undo()
    await client.close()
    assert [line.split()[0] for line in written] == [b"SUB", b"PING"]


async def test_answers_that_nobody_waits_for_are_told_once_a_minute_and_those_of_others_arrive(js, nats_url):
    flooding = await streams.connect(nats_url, "flooding")
    client = await streams.connect(nats_url, "answered")

    async def answer(question) -> None:
        await flooding.publish(question.reply, b"answer")

    subject = f"ask.{uuid.uuid4().hex}"
    await flooding.subscribe(subject, cb=answer)
    await flooding.flush()
    with capture_logs() as logged:
        await client.request(subject, timeout=5)
        inbox = client._resp_sub_prefix.decode()
        for _ in range(900):
            await flooding.publish(f"{inbox}late")
        await flooding.flush()
        assert (await client.request(subject, timeout=5)).data == b"answer"
        assert read_places(logged) == []
        for _ in range(5_000):
            await flooding.publish(f"{inbox}unasked")
        await flooding.flush()
        assert (await client.request(subject, timeout=5)).data == b"answer"
    await flooding.close()
    await client.close()
    assert read_places(logged) == ["inbox"]


async def test_what_comes_faster_than_it_is_taken_is_dropped_and_told_once_a_minute_for_each_subject(js, nats_url):
    client, never = await streams.connect(nats_url, "slow"), asyncio.Event()
    subjects = [f"slow.{uuid.uuid4().hex}" for _ in range(2)]
    taken: list[str] = []

    async def wait(message) -> None:
        taken.append(message.subject)
        await never.wait()

    with capture_logs() as logged:
        for subject in subjects:
            await client.subscribe(subject, cb=wait, pending_msgs_limit=10)
        await client.flush()
        for subject in subjects * 50:
            await streams.client_of(js).publish(subject, b"x")
        await until(lambda: sorted(read_places(logged)) == sorted(subjects))
        await streams.client_of(js).flush()
        await client.flush()
    await client.close()
    assert (sorted(read_places(logged)), len(taken)) == (sorted(subjects), 2)
    assert [line for line in logged if line["event"] == "nats_error"] == []


async def test_no_subscription_of_ours_keeps_more_than_a_few_mebibytes(js):
    subscription = await streams.client_of(js).subscribe(f"any.{uuid.uuid4().hex}")
    assert subscription._pending_bytes_limit <= 8 * MIB
    await subscription.unsubscribe()
