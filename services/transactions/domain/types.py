"""What money moves for: one table of the types of transactions, which everything else reads.

A type says which way its money goes, who orders it, and what holds for it whatever rail it takes. What escrow books
when money has come in is escrow's to say, and a test compares; a payout names the ledger account that its money is
taken from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Why a second person approves a transaction, whatever compliance says.
STAFFS_DEBIT = "somebody else has it drawn from the party's bank account"
PROCEEDS = "the proceeds of an offering are paid out"
STAFFS_PAYOUT = "staff has it paid out of the escrow account"
REFUND_ELSEWHERE = "a refund goes to another account than the money came from"
REFUND_NOT_FINAL = "the bank may still take back the money that is refunded"
REFUND_NOT_RECEIVED = "a refund is more than what was received, less what a closing took and what went back"
REFUND_BY_HAND = "persons posted some of the money that is refunded by hand"
REFUND_IN_QUESTION = "an exception is, or was, open that is, or may be, about the money that is refunded"
REFUND_CAME_BACK = "an earlier refund of the investment came back, as its bank or provider says"
REFUND_CAME_BACK_BY_PERSONS = "an earlier refund of the investment came back or was never paid, as two persons say"
REFUND_TAKEN_BACK = "an earlier refund of the investment was paid, and two persons had it taken back by a debit"
REFUND_REJECTED = "a second person said no to an earlier refund of the investment"
REFUND_NOT_KNOWN = "somebody altered in the database what the party paid in"


@dataclass(frozen=True, slots=True)
class TransactionType:
    """What holds for one type.

    Args:
        label: What it is called before whoever decides about it.
        source: The kind of ledger account that its money is taken from, for a payout; none where money comes in.
        shared_target: The kind of ledger account that money in is put on, at once or when the offering is closed, where
            that is not its party's own: others gain from it, too.
        is_for_investors: Whether an investor may order it for a party it acts for; staff may order all that comes in.
            A payout is ordered by another service, or by staff where is_for_staff says so.
        is_for_sponsor: Whether it is paid to, or drawn from, the sponsor of the escrow account alone, whose money it
            is. By wire or check others send such money, too.
        is_for_staff: Whether staff orders this payout: nothing that was decided elsewhere says that it is owed.
        is_for_investment: Whether it pays what an investment commits to, and so names it.
        is_transfer: Whether it goes to another escrow account, and so names it; there it is put on the same kind.
        gives_back: Whether it gives a contribution back, and so goes to the account that the money came from, unless a
            second person agrees.
        owed_once_a: The field of a payout that names the debt which it pays, as several may in turn. None of what staff
            orders: each order is a debt of its own, unless it is paid instead of another one.
        is_owed_in_parts: Whether several payouts may each pay a part of one debt. Else one pays all that is left of it.
        resend_path: Where it is sent again, with fields of the payout in it, and {id} where none of them says it.
        approval_reason: Why a second person approves each of them; none where only some need one.
    """

    name: str
    label: str
    source: str | None = None
    shared_target: str | None = None
    is_for_investors: bool = False
    is_for_sponsor: bool = False
    is_for_staff: bool = False
    is_for_investment: bool = False
    is_transfer: bool = False
    gives_back: bool = False
    owed_once_a: str | None = None
    is_owed_in_parts: bool = False
    resend_path: str | None = None
    approval_reason: str | None = None

    @property
    def is_inbound(self) -> bool:
        """Whether money comes in from the party, pulled or sent; else it is a payout."""
        return self.source is None

    @property
    def is_ordered_by_persons(self) -> bool:
        """Whether a person orders it by a request of its own; else another service does, once persons decided there."""
        return self.is_inbound or self.is_for_staff

    @property
    def direction(self) -> str:
        """The same as `Money.Direction` names it."""
        return "IN" if self.is_inbound else "OUT"


def _order_of_staff(
    name: str, label: str, *, source: str, is_for_sponsor: bool = False, is_transfer: bool = False
) -> TransactionType:
    return TransactionType(
        name,
        label,
        source=source,
        is_for_staff=True,
        is_for_sponsor=is_for_sponsor,
        is_transfer=is_transfer,
        approval_reason=STAFFS_PAYOUT,
    )


TYPES: Mapping[str, TransactionType] = MappingProxyType(
    {
        each.name: each
        for each in (
            TransactionType("DEPOSIT", "Cash of the issuer", shared_target="DISTRIBUTABLE", is_for_sponsor=True),
            TransactionType(
                "ESCROW_DEPOSIT",
                "Contribution",
                shared_target="ISSUER_PROCEEDS",
                is_for_investors=True,
                is_for_investment=True,
            ),
            TransactionType(
                "DISTRIBUTION",
                "Distribution",
                source="PAYABLE",
                owed_once_a="allocation_id",
                resend_path="/distributions/{distribution_id}/allocations/{allocation_id}/resend",
            ),
            TransactionType(
                "ESCROW_WITHDRAWAL",
                "Proceeds of an offering",
                source="ISSUER_PROCEEDS",
                owed_once_a="escrow_account_id",  # it has one offering, and that one closing
                resend_path="/offerings/{id}/proceeds/resend of the offering of the escrow account",
                approval_reason=PROCEEDS,
            ),
            TransactionType(
                "REFUND",
                "Refund of a contribution",
                source="SUBSCRIPTION",
                gives_back=True,
                owed_once_a="investment_id",
                is_owed_in_parts=True,  # to each card its own, and once more where money came late
                resend_path="/investments/{investment_id}/refund/resend",
            ),
            _order_of_staff("WITHDRAWAL", "Cash taken back by the issuer", source="DISTRIBUTABLE", is_for_sponsor=True),
            _order_of_staff("CONSTRUCTION_DRAW", "Construction draw", source="RESERVES"),
            _order_of_staff("PLATFORM_FEE", "Platform fee", source="FEES"),
            _order_of_staff("REFERRAL_FEE", "Referral fee", source="FEES"),
            _order_of_staff(
                "TRANSFER",
                "Transfer to another escrow account",
                source="DISTRIBUTABLE",
                is_for_sponsor=True,
                is_transfer=True,
            ),
        )
    }
)

# For statements of SQL.
INBOUND = sorted(each.name for each in TYPES.values() if each.is_inbound)
CONTRIBUTIONS = sorted(each.name for each in TYPES.values() if each.is_for_investment)
