"""Asks banks whether accounts are there, before the first entry of each that moves money (domain/prenotes.py)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from services.chassis.data.transaction import Tx
from services.chassis.values.ids import new_id
from services.transactions.domain.ach import Due, PaymentEntry, PrenoteEntry
from services.transactions.domain.prenotes import DESCRIPTION, Judgement, Standing, build_failure, judge_account
from services.transactions.store import ach
from services.transactions.store.bank_accounts import find_bank_account


async def leave_until_known(tx: Tx, waiting: Iterable[PaymentEntry], before: datetime, now: datetime) -> list[Due]:
    """What may leave at the cut-off, or never will, for its bank has said no. The rest waits.

    Raises: NotSealed.
    """
    due: list[Due] = []
    judged: dict[tuple[str, bool], Judgement] = {}
    for entry in waiting:
        account = entry.bank_account_id, entry.is_inbound
        if account not in judged:
            judged[account] = await judge_or_ask(tx, entry, before, now)
        standing, return_code = judged[account]
        if standing is Standing.KNOWN:
            due.append(Due(entry))
        elif standing is Standing.REFUSED:
            due.append(Due(entry, build_failure(return_code)))
    return due


async def judge_or_ask(tx: Tx, entry: PaymentEntry, before: datetime, now: datetime) -> Judgement:
    """What is known of the account of an entry that moves money; of which nothing is, its bank is asked.

    Raises: NotSealed.
    """
    earlier = await ach.list_of_account(tx, entry)
    account = await find_bank_account(tx, entry.bank_account_id)
    judgement = judge_account(earlier, before, None if account is None else account.confirmed_at)
    if judgement.standing is Standing.UNKNOWN:
        number = 1 + sum(isinstance(each, PrenoteEntry) for each, _ in earlier)
        await ach.ENTRIES.insert_if_new(tx, build_prenote(entry, number, now))
    return judgement


def build_prenote(entry: PaymentEntry, number: int, now: datetime) -> PrenoteEntry:
    """
    Args:
        number: Of the prenotes of the account that go this way, from 1: each is asked once.
    """
    way = "in" if entry.is_inbound else "out"
    return PrenoteEntry(
        **entry.list_addressed(),
        ach_entry_id=new_id("ach"),
        provider_key=f"prenote:{entry.bank_account_id}:{way}:{number}",
        is_inbound=entry.is_inbound,
        amount_minor=0,
        presentment=1,
        description=DESCRIPTION,
        created_at=now,
        updated_at=now,
    )
