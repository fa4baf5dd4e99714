"""Journal entries that another service of the company streams into the book, over gRPC and the real book."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from joserfc.jwk import ECKey
from realco.escrow.v1 import bulk_postings_pb2 as pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1.bulk_postings_pb2_grpc import BulkPostingsServiceStub

from services.chassis.calls.serving import add_servicer
from services.chassis.calls.tokens import ServiceIdentity
from services.chassis.runtime import server
from services.escrow.api import BulkPostingsServicer
from tests.support.escrow import Escrow, new_entry
from tests.support.identity import Issuer

SERVICE = pb.DESCRIPTOR.services_by_name["BulkPostingsService"]
RPC = "/realco.escrow.v1.BulkPostingsService/StreamPostJournalEntries"


@asynccontextmanager
async def served(escrow: Escrow, folder: Path) -> AsyncIterator[Any]:
    """The stub's RPC, as `importer` calls it, which was granted it."""
    issuer, importer = Issuer(folder), ServiceIdentity("importer", ECKey.generate_key("P-256"))
    issuer.admit(importer)
    grants = {RPC: frozenset({"importer"})}
    running = server.build(server.Interceptor("escrow", issuer.verifier("escrow"), [SERVICE], grants=grants), 10)
    add_servicer(BulkPostingsServicer(escrow.dependencies), running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    metadata = (("authorization", f"Bearer {importer.token('escrow')}"), ("x-realco-org", escrow.org_id))
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = BulkPostingsServiceStub(channel).StreamPostJournalEntries
        yield lambda *requests, timeout=10.0: stream(*requests, metadata=metadata, timeout=timeout)
    await running.stop(None)


def batch(account: str, *keys: str, minor: int = 100) -> pb.StreamPostJournalEntriesRequest:
    entry = new_entry(("cash", minor), ("distributable", -minor))
    item = journal_pb.BatchPostJournalEntriesRequest.Item
    items = [item(idempotency_key=name, journal_entry=entry) for name in keys]
    return pb.StreamPostJournalEntriesRequest(escrow_account_id=account, items=items)


def keys_of(results: journal_pb.PostingResults) -> list[tuple[str, str, bool]]:
    return [(each.idempotency_key, each.WhichOneof("outcome"), each.replayed) for each in results.results]


async def test_each_batch_is_committed_and_answered_before_the_next_is_needed(escrow, tmp_path):
    account = await escrow.open()
    async with served(escrow, tmp_path) as stream:
        call = stream()
        await call.write(batch(account, "a", "b"))
        assert keys_of(await call.read()) == [("a", "journal_entry", False), ("b", "journal_entry", False)]
        assert await escrow.posted(account) == {"cash": 200, "distributable": 200}
        # What was booked keeps its answer, and what is refused is refused alone.
        await call.write(batch(account, "b", "c"))
        assert keys_of(await call.read()) == [("b", "journal_entry", True), ("c", "journal_entry", False)]
        await call.write(batch(account, "c", minor=7))
        [refused] = (await call.read()).results
        assert refused.failure.code == "IDEMPOTENCY_KEY_REUSED"
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert not await call.trailing_metadata()
    [entry] = await escrow.post_together(account, [("a", batch(account, "a").items[0].journal_entry)])
    assert entry.replayed, "a key is that of the other RPCs that post, too"


async def test_a_batch_that_is_not_valid_ends_the_stream_and_those_before_it_are_booked(escrow, tmp_path):
    account = await escrow.open()
    requests = [batch(account, "a"), batch(account, "b", "", "c")]
    async with served(escrow, tmp_path) as stream:
        answer = aiter(stream(iter(requests)))
        assert keys_of(await anext(answer)) == [("a", "journal_entry", False)]
        with pytest.raises(aio.AioRpcError) as ended:
            await anext(answer)
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "items[1].idempotency_key" in (ended.value.details() or "")
    assert await escrow.posted(account) == {"cash": 100, "distributable": 100}


async def test_a_stream_is_one_call_that_ends_at_its_deadline(escrow, tmp_path):
    account = await escrow.open()
    async with served(escrow, tmp_path) as stream:
        call = stream(timeout=1.0)
        await call.write(batch(account, "a"))
        assert keys_of(await call.read()) == [("a", "journal_entry", False)]
        with pytest.raises(aio.AioRpcError) as ended:
            await call.read()
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_one_caller_has_so_many_streams_open_and_no_more(escrow, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "STREAMS_MAX", 3)
    account = await escrow.open()
    async with served(escrow, tmp_path) as stream:
        calls = [stream() for _ in range(3)]
        for number, call in enumerate(calls):
            await call.write(batch(account, f"key-{number}-of-a-stream"))
            assert keys_of(await call.read())
        with pytest.raises(aio.AioRpcError) as refused:
            await stream().read()
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await calls[0].done_writing()
        assert await calls[0].read() is aio.EOF
        again = stream()
        await again.write(batch(account, "key-of-another-stream"))
        assert keys_of(await again.read())
