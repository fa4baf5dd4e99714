"""Asks banks whether accounts are there, before the first entry of each that moves money (domain/prenotes.py)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.chassis.data.transaction import Tx
from services.chassis.values.ids import new_id
from services.transactions.domain.ach import AchEntry
from services.transactions.domain.prenotes import DESCRIPTION, Judgement, Standing, judge_account
from services.transactions.domain.returns import NETWORK_CODE
from services.transactions.providers.protocols import Declined
from services.transactions.store import ach


async def judge_or_ask(tx: Tx, entry: AchEntry, now: datetime) -> Judgement:
    """What is known of the account of an entry that moves money; of which nothing is, its bank is asked.

    Raises: NotSealed.
    """
    earlier = await ach.list_of_account(tx, entry)
    judgement = judge_account(earlier, now)
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


def build_refused(return_code: str) -> Declined:
    """Why nothing is sent to an account, or from it, whose bank sent a prenote back."""
    message = f"Its bank knows no such account ({return_code}, of a prenote)."
    return Declined("INVALID_PAYMENT_DATA", message, retryable=False, metadata={NETWORK_CODE: return_code})
