"""Subscribers as other teams run them: the two of the documentation, and a team that was granted one organization."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nats
import nats.errors
import pytest
from realco.escrow.v1.events_pb2 import JournalEntriesPosted

from demo.harness.money import usd
from demo.harness.polling import wait_for
from deploy.local.instance import Instance
from tests.e2e.organization import Organization
from tests.support.node import PROGRAM, install_packages

DOCS = Path(__file__).parents[2] / "docs"
LENDER, LENDER_S_ORGANIZATION = "lender", "org-of-the-lender"  # as in teams.toml


def python(url: str, keys: Path) -> list[str | Path]:
    return [sys.executable, "subscriber.py", url, keys]


def typescript(url: str, keys: Path) -> list[str | Path]:
    return [PROGRAM, "subscriber.ts", url, keys]


# nats.js' own ordered consumer: it chooses the names, and a new one whenever it was cut off.
ORDERED = """
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
const { host, username, password } = new URL(process.argv[1]);
const client = await connect({ servers: host, user: username, pass: password, inboxPrefix: `_INBOX_${username}` });
const filter_subjects = "realco.escrow.v1.JournalEntriesPosted.*.>";
const consumer = await jetstream(client).consumers.get("ESCROW", { filter_subjects });
for await (const message of await consumer.consume()) console.log(message.subject);
"""


def ordered(url: str, _: Path) -> list[str | Path]:
    return [PROGRAM, "--input-type=module", "--eval", ORDERED, "--", url]


@contextmanager
def running(command: Sequence[str | Path], out: Path) -> Iterator[subprocess.Popen[bytes]]:
    install_packages(DOCS)
    with out.open("wb") as file:
        process = subprocess.Popen(command, cwd=DOCS, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def book_opening_balance(org: Organization, amount_minor: int) -> str:
    """Returns: the escrow account it was posted in."""
    account = org.open_escrow_account()
    entry = {
        "type": "ADJUSTMENT",
        "description": "Opening balance",
        "legs": [
            {"ledgerAccount": {"kind": "CASH"}, "direction": "DEBIT", "amount": usd(amount_minor)},
            {"ledgerAccount": {"kind": "SUSPENSE"}, "direction": "CREDIT", "amount": usd(amount_minor)},
        ],
    }
    org.do_together(f"/escrow-accounts/{account}/journal-entries", {"journalEntry": entry})
    return account


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (python, "SUSPENSE CREDIT 90210 POSTED"),
        (typescript, '"amountMinor":"90210"'),
        (ordered, "{account}"),
    ],
)
def test_a_subscriber_prints_a_posting(
    org: Organization, tmp_path: Path, command: Callable[[str, Path], list[str | Path]], line: str
) -> None:
    out = tmp_path / "subscriber.log"
    with running(command(org.instance.nats_url("subscriber"), org.instance.identity.event_jwks_file), out) as process:
        account = book_opening_balance(org, 90210)
        printed = line.format(account=account) if command is ordered else line
        wait_for("the posting on the subscriber's screen", out.read_text, lambda said: printed in said)
        assert process.poll() is None, out.read_text()


@pytest.mark.parametrize("command", [python, typescript])
def test_a_subscriber_takes_nothing_from_whoever_has_no_key_of_the_service(
    org: Organization, tmp_path: Path, command: Callable[[str, Path], list[str | Path]]
) -> None:
    out, keys = tmp_path / "subscriber.log", tmp_path / "keys.json"
    ours = json.loads(org.instance.identity.event_jwks_file.read_text())["keys"]
    told, *_ = (key for key in ours if key["kid"].startswith("escrow:"))
    other, *_ = (key for key in ours if not key["kid"].startswith("escrow:"))
    keys.write_text(json.dumps({"keys": [told | {"x": other["x"]}]}))
    book_opening_balance(org, 90210)
    with running(command(org.instance.nats_url("subscriber"), keys), out) as process:
        assert process.wait(30) != 0
    assert "signature" in out.read_text().lower()
    assert "90210" not in out.read_text()


async def test_a_team_s_durable_brings_what_its_organization_posts_and_nothing_else(instance: Instance) -> None:
    own, other = Organization(instance, LENDER_S_ORGANIZATION), Organization(instance)
    book_opening_balance(other, 1_00)
    account = book_opening_balance(own, 2_00)
    book_opening_balance(other, 3_00)
    client = await nats.connect(instance.nats_url(LENDER), inbox_prefix=f"_INBOX_{LENDER}")
    try:
        js = client.jetstream()
        pull = await js.pull_subscribe("realco.escrow.v1.JournalEntriesPosted.>", "postings", stream="ESCROW")
        [message] = await pull.fetch(1, timeout=10)
        await message.ack_sync(timeout=5)
        with pytest.raises(nats.errors.TimeoutError):
            await pull.fetch(1, timeout=1)
    finally:
        await client.close()
        own.close()
        other.close()
    event = JournalEntriesPosted.FromString(message.data)
    assert (event.meta.org_id, event.escrow_account_id) == (LENDER_S_ORGANIZATION, account)
