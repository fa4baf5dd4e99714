"""Asks banks whether accounts are there, before the first entry of each that moves money (domain/prenotes.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from services.chassis.data.transaction import Tx
from services.chassis.values.failure import Failure
from services.chassis.values.ids import new_id
from services.transactions.domain.ach import AchEntry
from services.transactions.domain.prenotes import DESCRIPTION, Judgement, Standing, build_failure, judge_account
from services.transactions.store import ach
from services.transactions.store.bank_accounts import find_bank_account


async def leave_until_known(
    tx: Tx, waiting: Iterable[AchEntry], before: datetime, now: datetime
) -> tuple[list[AchEntry], dict[str, Failure]]:
    """What may leave at the cut-off, prenotes among it; with what fails instead, by its id, and why. The rest waits.

    Raises: NotSealed.
    """
    due, failures = list[AchEntry](), dict[str, Failure]()
    judged: dict[tuple[str, bool], Judgement] = {}
    for entry in waiting:
        account = entry.bank_account_id, entry.is_inbound
        if not entry.is_prenote and account not in judged:
            judged[account] = await judge_or_ask(tx, entry, before, now)
        standing = Standing.KNOWN if entry.is_prenote else judged[account].standing
        if standing in (Standing.KNOWN, Standing.REFUSED):
            due.append(entry)
        if standing is Standing.REFUSED:
            failures[entry.ach_entry_id] = build_failure(judged[account].return_code)
    return due, failures


async def judge_or_ask(tx: Tx, entry: AchEntry, before: datetime, now: datetime) -> Judgement:
    """What is known of the account of an entry that moves money; of which nothing is, its bank is asked.

    Raises: NotSealed.
    """
    earlier = await ach.list_of_account(tx, entry)
    account = await find_bank_account(tx, entry.bank_account_id)
    judgement = judge_account(earlier, before, None if account is None else account.confirmed_at)
    if judgement.standing is Standing.UNKNOWN:
        number = 1 + sum(each.is_prenote for each, _ in earlier)
        await ach.ENTRIES.insert_if_new(tx, build_prenote(entry, number, now))
    return judgement


def build_prenote(entry: AchEntry, number: int, now: datetime) -> AchEntry:
    """
    Args:
        number: Of the prenotes of the account that go this way, from 1: each is asked once.
    """
    way = "in" if entry.is_inbound else "out"
    return replace(
        entry,
        ach_entry_id=new_id("ach"),
        provider_key=f"prenote:{entry.bank_account_id}:{way}:{number}",
        reference=entry.bank_account_id,
        amount_minor=0,
        presentment=1,
        description=DESCRIPTION,
        is_prenote=True,
        created_at=now,
        updated_at=now,
    )
