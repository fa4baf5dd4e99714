"""Why a refund is approved by a second person: every reason that holds, for whoever decides weighs all of them.

They are found when the refund is ordered, and kept with it; and again whenever somebody reads what waits, for what
became true since.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from realco.distributions.v1.payout_orders_pb2 import PayoutOrder

from services.chassis.data.transaction import Tx
from services.transactions.domain.open_questions import Exceptions
from services.transactions.domain.refunds import count_refundable, explain_refund, list_by_account
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import (
    REFUND_BY_HAND,
    REFUND_IN_QUESTION,
    REFUND_NOT_KNOWN,
    REFUND_NOT_RECEIVED,
    REFUND_REJECTED,
    TYPES,
)
from services.transactions.store.contributions import GivenBack, list_received, sum_given_back
from services.transactions.store.exceptions import list_exceptions_of_nobody, list_questioned


class RefundFacts(NamedTuple):
    """What came of investments, what went back, and what is in question of either.

    Args:
        received: The contributions that arrived for each (party, investment), the last one first; None: not known.
        questioned: Contributions, and refunds that came to nothing, about which an exception is open, may be, or was.
        of_nobody: The exceptions about no payment that is known; None where no refund came to nothing.
    """

    received: Mapping[tuple[str, str], list[Transaction] | None]
    given_back: GivenBack
    questioned: Collection[str]
    of_nobody: Exceptions | None

    def list_received(self, party_id: str, investment_id: str) -> list[Transaction] | None:
        """None: somebody altered what came, or what went back, so nobody knows."""
        if investment_id in self.given_back.altered:
            return None
        return self.received.get((party_id, investment_id), [])

    def list_doubts(self, party_id: str, investment_id: str) -> list[str]:
        """What holds whoever decided on the refund: none of it did they read."""
        given_back, ended = self.given_back, self.given_back.ended.get(investment_id, [])
        about = (*ended, *(row.transaction_id for row in self.list_received(party_id, investment_id) or ()))
        in_question = any(each in self.questioned for each in about) or (
            # It may be about their file.
            self.of_nobody is not None
            and bool(ended)
            and self.of_nobody.may_be_open(since=given_back.ended_since[investment_id])
        )
        # Whoever asks for it again, or approved it before, does not overrule who said no.
        is_rejected = investment_id in given_back.rejected
        came_back = sorted(given_back.came_back.get(investment_id, ()))
        return [REFUND_IN_QUESTION] * in_question + [REFUND_REJECTED] * is_rejected + came_back


async def read_refund_facts(tx: Tx, investment_ids: Collection[str]) -> RefundFacts:
    received = await list_received(tx, investment_ids) if investment_ids else {}
    given_back = await sum_given_back(tx, investment_ids)
    about = [row.transaction_id for rows in received.values() for row in rows or ()]
    about += [each for ids in given_back.ended.values() for each in ids]
    questioned = await list_questioned(tx, about) if about else frozenset[str]()
    of_nobody = await list_exceptions_of_nobody(tx) if given_back.ended else None
    return RefundFacts(received, given_back, questioned, of_nobody)


def list_refund_reasons(
    party_id: str, investment_id: str, amount_minor: int, order: PayoutOrder, facts: RefundFacts
) -> list[str]:
    """Why a refund is approved, wherever it goes; empty where nobody has to.

    Args:
        order: As distributions has it.
    """
    released_minor = order.released_amount.amount_minor if order.HasField("released_amount") else None
    reasons = _list_reasons(party_id, investment_id, amount_minor, facts, released_minor=released_minor)
    if order.refund_approved:
        # They read what was posted by hand, and how much goes back.
        return [each for each in reasons if each != REFUND_NOT_RECEIVED]
    return reasons + [REFUND_BY_HAND] * order.has_entries_by_hand


async def list_reasons_now(tx: Tx, row: Transaction) -> list[str]:
    """Why a refund that waits is approved, as it stands now. What a closing took of it and what persons posted by hand
    only distributions knows, who said so as it was ordered; and what its bank may still take back is told by itself.
    """
    if not TYPES[row.type].gives_back or row.investment_id is None:
        return []
    facts = await read_refund_facts(tx, {row.investment_id})
    received = facts.list_received(row.party_id, row.investment_id)
    where = []
    if received is not None and row.refunded_transaction_id is None:
        by_account = list_by_account(received) if row.rail.pays_to_account else []
        where = explain_refund(row.bank_account_id, by_account, is_approved=True)
    minor, itself_minor = row.amount.amount_minor, row.announced_amount.amount_minor
    return where + _list_reasons(
        row.party_id, row.investment_id, minor, facts, released_minor=0, itself_minor=itself_minor
    )


def _list_reasons(
    party_id: str,
    investment_id: str,
    amount_minor: int,
    facts: RefundFacts,
    *,
    released_minor: int | None,
    itself_minor: int = 0,
) -> list[str]:
    """What holds of a refund by what transactions knows of the investment.

    Args:
        released_minor: What closings took of it; None: not known.
        itself_minor: What the refund is counted with among what goes back.
    """
    doubts = facts.list_doubts(party_id, investment_id)
    received = facts.list_received(party_id, investment_id)
    if received is None or released_minor is None:
        return [REFUND_NOT_KNOWN, *doubts]
    gone_minor = facts.given_back.of_investments[investment_id] - itself_minor
    left_minor = count_refundable(received, released_minor=released_minor, gone_minor=gone_minor)
    return doubts + [REFUND_NOT_RECEIVED] * (amount_minor > left_minor)


def join_reasons(reasons: Sequence[str]) -> str | None:
    """As a transaction and its approval keep them; None where nobody has to approve it."""
    return "; ".join(dict.fromkeys(reasons)) or None


def list_new_reasons(kept: str, now: Sequence[str]) -> list[str]:
    """Those that did not hold yet when the others were kept."""
    known = kept.split("; ")
    return [each for each in dict.fromkeys(now) if each not in known]
