"""Entries that somebody writes into a book of escrow with its login and its proof, by the book's own functions."""

from __future__ import annotations

import sqlalchemy as sa
from realco.escrow.v1 import postings_pb2

from services.chassis.values.ids import new_id
from services.escrow.domain.journal import PostingKey
from services.escrow.jobs import BookCheck
from tests.support.escrow import Escrow, key, usd

HELD = "subscription:inv-001"


def posting(accounts, *, of="1,1", kinds="CASH,FEES", parties='"",""', debits="t,f") -> str:
    """A call of the posting function: an entry of two legs of 5."""
    orgs = ",".join("org_1" for _ in accounts)
    return (
        f"post_journal_entries(now(), '{{{orgs}}}', '{{{','.join(accounts)}}}', '{{{of}}}', '{{{kinds}}}',"
        f" '{{{parties}}}', '{{1}}', '{{1}}', ARRAY[gen_random_uuid()], ARRAY['x'::bytea], '{{je_x}}', '{{FEE}}',"
        " '{x}', '{NULL}', '{USD}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{x}', '{NULL}', '{NULL}', '{f}', '{2}',"
        f" '{{0}}', '{{f}}', '{{1,2}}', '{{{debits}}}', '{{f,f}}', '{{5,5}}', '{{NULL}}', '{{x}}')"
    )


async def opened(escrow: Escrow) -> str:
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), (HELD, -100))
    return account


async def forge(
    escrow: Escrow,
    account: str,
    asked: PostingKey | None = None,
    *,
    kinds: str = "CASH,SUBSCRIPTION",
    party: str = "inv-001",
    debits: str = "t,f",
    verdict: str = "posted",
    transaction_id: str = "NULL",
    reverses: str = "NULL",
    entry_type: str = "FEE",
    amount_minor: int = 5,
    pending: bool = False,
) -> str:
    """A deposit that nobody paid in, by a call of the book's function; under the key of somebody's request."""
    entry_id = new_id("je")
    of_party = ("SUBSCRIPTION", "RETURNS_RECEIVABLE")
    parties = ",".join(party if kind in of_party else '""' for kind in kinds.split(","))
    call = posting([account], kinds=kinds, parties=parties, debits=debits)
    call = (
        call.replace("'{org_1}'", ":orgs")
        .replace("{je_x}", f"{{{entry_id}}}")
        .replace("'{FEE}'", f"'{{{entry_type}}}'")
        .replace("{5,5}", f"{{{amount_minor},{amount_minor}}}")
        .replace("'{f,f}'", "'{t,t}'" if pending else "'{f,f}'")
    )
    call = call.replace(
        "'{USD}', '{NULL}', '{NULL}', '{NULL}', '{NULL}'",
        f"'{{USD}}', '{{{transaction_id}}}', '{{NULL}}', '{{NULL}}', '{{{reverses}}}'",
    )
    if asked is not None:
        call = call.replace("gen_random_uuid()", f"'{asked.key}'::uuid")
        call = call.replace("'x'::bytea", f"'\\x{asked.fingerprint.hex()}'::bytea")
    async with escrow.database.begin(escrow.org_id) as tx:
        asked = "SELECT coalesce(verdict[1], 'posted') FROM " + call.replace("::", "\\:\\:")
        statement = sa.text(asked).bindparams(orgs=[escrow.org_id])
        assert (told := await tx.scalar(statement)) == verdict, told
    return entry_id


async def pay(escrow: Escrow, *accounts: str, amount_minor: int = 1) -> str:
    """What becomes of a payout, of each escrow account one."""
    items = [
        postings_pb2.BatchBookPayoutsRequest.Item(
            idempotency_key=key(),
            escrow_account_id=account,
            transaction_id=key(),
            party_id="inv-001",
            type="REFUND",
            amount=usd(amount_minor),
        )
        for account in accounts
    ]
    request = postings_pb2.BatchBookPayoutsRequest(items=items)
    [result] = (await escrow.call("BatchBookPayouts", request, escrow.transactions)).results
    return str(result.WhichOneof("outcome"))


async def check(escrow: Escrow) -> dict[str, list[str]]:
    faults: dict[str, list[str]] = {}
    job = BookCheck(escrow.database, faults)
    while await job.run():
        pass
    return faults
