"""The service as it runs: a process that takes calls over gRPC, publishes what it books and books what it hears."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nats
import pytest
from grpc import aio
from realco.compliance.v1 import clearances_pb2, clearances_pb2_grpc, persons_pb2, persons_pb2_grpc
from realco.distributions.v1 import commitments_pb2, commitments_pb2_grpc
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1.escrow_accounts_pb2_grpc import EscrowAccountsServiceStub
from realco.escrow.v1.journal_pb2_grpc import JournalServiceStub
from realco.type.v1.event_pb2 import EventMeta

from deploy import provision
from deploy.local.ports import choose_free_port
from services.chassis.calls.wire import to_timestamp
from services.chassis.events.subjects import subject_of
from services.chassis.values.ids import new_id
from tests.support.escrow import key, new_entry
from tests.support.escrow_payments import EVENTS, Payment
from tests.support.event_keys import event_key_settings, signed
from tests.support.identity import Issuer
from tests.support.seals import data_key_settings

ROOT = Path(__file__).resolve().parents[2]


class Persons(persons_pb2_grpc.PersonsServiceServicer):
    """Compliance, as far as a person's write asks it: nobody's sessions were ended."""

    async def ListPartiesOfPerson(
        self, request: persons_pb2.ListPartiesOfPersonRequest, context: Any
    ) -> persons_pb2.ListPartiesOfPersonResponse:
        return persons_pb2.ListPartiesOfPersonResponse()


class Clearances(clearances_pb2_grpc.ClearancesServiceServicer):
    """Compliance, as far as an escrow account's opening asks it: it knows every party."""

    async def BatchGetClearances(
        self, request: clearances_pb2.BatchGetClearancesRequest, context: Any
    ) -> clearances_pb2.BatchGetClearancesResponse:
        known = [{"party_id": each, "known": True} for each in request.party_ids]
        return clearances_pb2.BatchGetClearancesResponse(clearances=known)


class Commitments(commitments_pb2_grpc.CommitmentsServiceServicer):
    """Distributions, as far as cash that is to be distributed asks it: nobody has committed."""

    async def ListCommittedParties(
        self, request: commitments_pb2.ListCommittedPartiesRequest, context: Any
    ) -> commitments_pb2.ListCommittedPartiesResponse:
        return commitments_pb2.ListCommittedPartiesResponse()


@asynccontextmanager
async def process(tmp_path: Path, urls: SimpleNamespace, nats_url: str, issuer: Issuer) -> AsyncIterator[Any]:
    """`python -m services.escrow` on a port of its own."""
    key_file = tmp_path / "service.pem"
    key_file.touch(mode=0o600)
    key_file.write_bytes(issuer.escrow._key.as_pem(private=True))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "database_url").write_text(urls.app_url)
    (secrets / "worker_database_url").write_text(urls.worker_url)
    (secrets / "nats_url").write_text(nats_url)
    port = choose_free_port()
    others = aio.server()
    persons_pb2_grpc.add_PersonsServiceServicer_to_server(Persons(), others)
    clearances_pb2_grpc.add_ClearancesServiceServicer_to_server(Clearances(), others)
    commitments_pb2_grpc.add_CommitmentsServiceServicer_to_server(Commitments(), others)
    others_port = others.add_insecure_port("127.0.0.1:0")
    await others.start()
    variables = {
        "SECRETS_DIR": str(secrets),
        "ENVIRONMENT": "local",
        "GRPC_PORT": str(port),
        "CLOCK_FILE": str(tmp_path / "clock.json"),  # of which there is none: time is as it is
        **issuer.environment(),
        "SERVICE_KEY_FILE": str(key_file),
        "DRAIN_WAIT_SECONDS": "0",
        "COMPLIANCE_ADDRESS": f"127.0.0.1:{others_port}",
        "DISTRIBUTIONS_ADDRESS": f"127.0.0.1:{others_port}",
        # Nobody is there: only who pays needs it.
        "TRANSACTIONS_ADDRESS": "127.0.0.1:1",
        **event_key_settings(tmp_path, "escrow"),
        **data_key_settings(tmp_path),
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.escrow", cwd=ROOT, env=os.environ | variables, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            yield running, EscrowAccountsServiceStub(channel), JournalServiceStub(channel)
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()
        await others.stop(None)


async def until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


@pytest.fixture
def issuer(tmp_path) -> Issuer:
    return Issuer(tmp_path)


@pytest.mark.usefixtures("durable")
async def test_it_takes_calls_publishes_what_it_books_and_books_what_it_hears(tmp_path, service_urls, nats_url, issuer):
    client = await nats.connect(nats_url)
    await provision.provision(client)
    js = client.jetstream()
    urls = await service_urls("escrow")
    async with process(tmp_path, urls, nats_url, issuer) as (running, accounts, journal):
        call = {"metadata": [("authorization", f"Bearer {issuer.token()}")], "timeout": 10}
        opened = await accounts.CreateEscrowAccount(
            accounts_pb.CreateEscrowAccountRequest(
                idempotency_key=key(),
                display_name="Oak Street",
                currency_code="USD",
                sponsor_party_id=new_id("pty"),
                custodian_name="First Custody",
            ),
            **call,
        )
        account = opened.escrow_account_id
        wanted = new_entry(("cash", 100), ("distributable", -100), type_=journal_pb.JournalEntry.DEPOSIT)
        request = journal_pb.PostJournalEntryRequest(
            idempotency_key=key(), escrow_account_id=account, journal_entry=wanted
        )
        asked = await journal.PostJournalEntry(request, **call)
        assert (await journal.PostJournalEntry(request, **call), asked.approval.kind) == (asked, "POST_JOURNAL_ENTRY")

        await tell(js, Payment(account, "ESCROW_DEPOSIT", 50), "SUBMITTED", "SETTLED", "SETTLED", "COMPLETED")
        heard = await js.pull_subscribe(f"{events.JournalEntriesPosted.DESCRIPTOR.full_name}.>", stream="ESCROW")
        [message] = await heard.fetch(1, timeout=20)
        assert events.JournalEntriesPosted.FromString(message.data).journal_entries[0].escrow_account_id == account
        assert message.headers["ce-subject"] == account

        async def settled() -> bool:
            balance = await accounts.GetEscrowAccountBalance(
                accounts_pb.GetEscrowAccountBalanceRequest(escrow_account_id=account), **call
            )
            return balance.posted.amount_minor == 50 and balance.held.amount_minor == 0

        await until(settled)
        assert (
            await journal.GetTrialBalance(journal_pb.GetTrialBalanceRequest(escrow_account_id=account), **call)
        ).balanced
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), 30) == 0
    await client.close()


async def tell(js, payment: Payment, *facts: str) -> None:
    """Publishes as the relay of the transactions service does."""
    for fact in facts:
        event_id = str(uuid.uuid4())
        meta = EventMeta(event_id=event_id, org_id="org_1", actor="admin-1", occur_time=to_timestamp(datetime.now(UTC)))
        event = EVENTS[fact](transaction=payment.transaction, meta=meta)
        subject = subject_of(event.DESCRIPTOR.full_name, "org_1", "_")
        body = event.SerializeToString()
        await js.publish(subject, body, headers=signed(subject, event_id, body))
