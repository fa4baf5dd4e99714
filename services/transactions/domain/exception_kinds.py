"""The kinds of what a person has to look at: of each how much it hurts, what it means and what to do.

docs/exceptions.md has the same table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.chassis.values.money import Money


class ExceptionKind(StrEnum):
    PAYMENT_NOT_OURS = "PAYMENT_NOT_OURS"
    PAID_TWICE = "PAID_TWICE"
    ORDER_GIVEN_UP = "ORDER_GIVEN_UP"
    RETURN_TO_REVIEW = "RETURN_TO_REVIEW"
    WEBHOOK_FAILED = "WEBHOOK_FAILED"
    BANK_ACCOUNT_ALTERED = "BANK_ACCOUNT_ALTERED"
    ACH_CHANGE_ASKED_FOR = "ACH_CHANGE_ASKED_FOR"
    ACH_FILE_UNREADABLE = "ACH_FILE_UNREADABLE"
    ACH_RETURN_NOT_OURS = "ACH_RETURN_NOT_OURS"
    ACH_FILE_FOREIGN = "ACH_FILE_FOREIGN"
    ACH_FILE_ALTERED = "ACH_FILE_ALTERED"
    ACH_FILE_NOT_FETCHED = "ACH_FILE_NOT_FETCHED"
    ACH_UNAUTHORIZED_RATE = "ACH_UNAUTHORIZED_RATE"
    ACH_ADMINISTRATIVE_RATE = "ACH_ADMINISTRATIVE_RATE"
    ACH_OVERALL_RATE = "ACH_OVERALL_RATE"
    ACH_FILE_REJECTED = "ACH_FILE_REJECTED"
    ACH_FILE_NOT_ACKNOWLEDGED = "ACH_FILE_NOT_ACKNOWLEDGED"
    ACH_ACKNOWLEDGEMENT_NOT_OURS = "ACH_ACKNOWLEDGEMENT_NOT_OURS"
    ACH_REJECTED_FILE_PAID = "ACH_REJECTED_FILE_PAID"
    CARD_DISPUTED = "CARD_DISPUTED"
    ACH_FILE_NOT_APPLIED = "ACH_FILE_NOT_APPLIED"
    PAYOUT_NOT_REVERSED = "PAYOUT_NOT_REVERSED"
    SWEEP_NOT_EXPLAINED = "SWEEP_NOT_EXPLAINED"
    SWEEP_FAILED = "SWEEP_FAILED"
    SWEEP_REDIRECTED = "SWEEP_REDIRECTED"
    PAYOUT_NOT_PAID = "PAYOUT_NOT_PAID"
    SHORTFALL = "SHORTFALL"
    SWEEP_OVERDUE = "SWEEP_OVERDUE"
    MONEY_NOT_APPLIED = "MONEY_NOT_APPLIED"


class Severity(StrEnum):
    LOW = "LOW"  # in its turn
    MEDIUM = "MEDIUM"  # today
    HIGH = "HIGH"  # now


@dataclass(frozen=True, slots=True)
class About:
    """What an exception is about, as far as that is known.

    Args:
        owed_for: Of money that is owed, for what: several transactions in turn may pay it, or none.
        makers: Who had a part in it, beside who had one in its transaction and its bank account.
    """

    transaction_id: str | None = None
    bank_account_id: str | None = None
    provider: str | None = None
    provider_payment_id: str | None = None
    file_name: str | None = None
    amount: Money | None = None
    escrow_account_id: str | None = None
    party_id: str | None = None
    investment_id: str | None = None
    distribution_id: str | None = None
    allocation_id: str | None = None
    owed_for: str | None = None
    makers: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """A row of the table.

    Args:
        one_for_each: The fields of `About` that tell one exception of the kind from another.
        doubts_money: Whether money may be missing that the book has. Where it only does not leave, whoever pays from
            the escrow account has nothing to fear, and what is paid after all would wait for a person because of it.
    """

    severity: Severity
    one_for_each: tuple[str, ...]
    meaning: str
    remedy: str
    doubts_money: bool = True


_PAYMENT, _FILE = ("transaction_id", "provider_payment_id"), ("file_name",)
_SWEEP = ("provider", "provider_payment_id")
_DEBT = ("escrow_account_id", "owed_for")
_ORGANIZATION: tuple[str, ...] = ()  # one of the kind
KINDS: Final[Mapping[ExceptionKind, Description]] = {
    ExceptionKind.PAYMENT_NOT_OURS: Description(
        Severity.HIGH,
        _PAYMENT,
        "A provider says something of a payment that we did not order so, or contradicts what it said before. Nothing"
        " moved in the book.",
        "Compare the provider's statement with the transaction, and find out before anything else: it may have been"
        " paid back or be disputed there, or somebody changed it there. It opens again while the provider says so"
        " and the payment is not FINAL.",
    ),
    ExceptionKind.PAID_TWICE: Description(
        Severity.HIGH,
        ("transaction_id",),
        "A provider has two payments for one order. The book counts one of them.",
        "Find both at the provider by the transaction's id, and have the newer one returned.",
    ),
    ExceptionKind.ORDER_GIVEN_UP: Description(
        Severity.HIGH,
        ("transaction_id",),
        "The order of a payment had no answer for most of a day, and the provider has none under our id. It would take"
        " the same order for another one by now, so the transaction failed.",
        "Look for the payment at the provider by its amount and day. Only if it is not there, order it anew.",
    ),
    ExceptionKind.RETURN_TO_REVIEW: Description(
        Severity.MEDIUM,
        ("transaction_id", "bank_account_id"),
        "A bank sent a payment back for a reason that no rule of ours decides: R16 (frozen, perhaps by law), R17, R24"
        " (a duplicate, says the bank), or a code that we do not know; or after the last day on which it may. The"
        " return is booked. Or it sent a prenote back for such a reason.",
        "Ask the bank or the party why, before anything is drawn from that account or paid to it again.",
    ),
    ExceptionKind.WEBHOOK_FAILED: Description(
        Severity.LOW,
        _PAYMENT,
        "A provider's notification could not be applied to its transaction. Why is an exception of its own.",
        "Once the cause is gone, have the webhook applied again: GET /webhooks?status=FAILED&transactionId=…, then"
        " POST /webhooks/{id}/replay.",
    ),
    ExceptionKind.BANK_ACCOUNT_ALTERED: Description(
        Severity.HIGH,
        ("bank_account_id",),
        "A bank account is not what was sealed when it was added: somebody wrote to the database. It is blocked, and"
        " nothing was paid to it.",
        "Have the operators find out who wrote there. Two persons unblock the account, which retires it; then its party"
        " adds it anew.",
    ),
    ExceptionKind.ACH_CHANGE_ASKED_FOR: Description(
        Severity.MEDIUM,
        ("bank_account_id",),
        "A bank took a payment and asks for other data of the account next time (a notification of change). What it"
        " asks for was added as another account, as far as it can be: no money goes there by itself.",
        "Ask the party, by another way, whether it is so. If it is, one person makes the new account the default for"
        " payouts, and another confirms it, in time; that retires the old one. If not, retire the new one.",
    ),
    ExceptionKind.ACH_FILE_UNREADABLE: Description(
        Severity.HIGH,
        _FILE,
        "A file of the bank cannot be read, so what it says of our payments is not known. It is kept in the folder"
        " `rejected`, or lies unread where the bank put it.",
        "Have the bank send the file again; of one that lies there unread see to its name, its time and its rights.",
    ),
    ExceptionKind.ACH_RETURN_NOT_OURS: Description(
        Severity.MEDIUM,
        ("transaction_id", "provider_payment_id"),
        "A file of the bank tells of a payment that is none of ours, or once more, and otherwise, of one that came back"
        " already. What the file says of other payments is applied; it is kept in the folder `questions`.",
        "Find out with the bank, by the trace number, what it is about.",
    ),
    ExceptionKind.ACH_FILE_FOREIGN: Description(
        Severity.HIGH,
        _FILE,
        "A file that lay where the bank fetches ours is not one that we released, or not as we released it. It was"
        " taken away, into `.held`.",
        "Ask the bank at once whether it has fetched such a file, before it pays; have the operators find out who"
        " writes to that folder. A file of ours is compared with the bank's copy before it is put back; one that"
        " was fetched or rejected, or left more than three banking days ago, goes no more from there.",
    ),
    ExceptionKind.ACH_FILE_ALTERED: Description(
        Severity.HIGH,
        _FILE,
        "What a file for the bank was made of is not what was put into it: somebody wrote to the database. Nothing of"
        " it left.",
        "Have the operators put right the rows that `row_not_sealed` names in the log; then the file leaves.",
    ),
    ExceptionKind.ACH_FILE_NOT_FETCHED: Description(
        Severity.HIGH,
        _FILE,
        "A file has lain for hours where the bank fetches ours. Its entries count as settled on their day, whether or"
        " not the bank has them.",
        "Have it taken to the bank, today.",
    ),
    ExceptionKind.ACH_UNAUTHORIZED_RATE: Description(
        Severity.HIGH,
        _ORGANIZATION,
        "Of the debits of 60 days more than 0.5 % came back as not authorized. Nacha fines for that, and may have the"
        " bank end the debits.",
        "Find out whom these debits were drawn from and how they had agreed, and draw nothing like them. Tell the bank"
        " before it asks.",
    ),
    ExceptionKind.ACH_ADMINISTRATIVE_RATE: Description(
        Severity.MEDIUM,
        _ORGANIZATION,
        "Of the debits of 60 days more than 3 % came back because the account is closed or is none. Nacha may ask the"
        " bank to explain it.",
        "Find out how these accounts were added, and have accounts validated before their first debit.",
    ),
    ExceptionKind.ACH_OVERALL_RATE: Description(
        Severity.MEDIUM,
        _ORGANIZATION,
        "Of the debits of 60 days more than 15 % came back, for whatever reason. Nacha may ask the bank to explain it.",
        "Look at the returns by their codes, and have what most of them say put right: RETURNED transactions say it.",
    ),
    ExceptionKind.ACH_FILE_REJECTED: Description(
        Severity.HIGH,
        _FILE,
        "The bank rejected a file of ours. None of it moved: every payment in it has failed, and says why.",
        "Make sure of it with the bank by another way, before anything is paid anew; have put right what it says.",
    ),
    ExceptionKind.ACH_FILE_NOT_ACKNOWLEDGED: Description(
        Severity.HIGH,
        _FILE,
        "A file left, and the bank does not say whether it accepts it. None of it counts as settled, or as failed.",
        "Ask the bank whether it has the file, and to send its acknowledgement. Send nothing again.",
    ),
    ExceptionKind.ACH_ACKNOWLEDGEMENT_NOT_OURS: Description(
        Severity.HIGH,
        _FILE,
        "The bank acknowledges a file that is none of ours, by its name or its sums; or says of one the contrary of"
        " what it said, or of what has come back. That was not believed.",
        "Ask the bank which files it has of that day, with their sums, and compare; have the operators find out who"
        " writes to the inbound folder.",
    ),
    ExceptionKind.ACH_REJECTED_FILE_PAID: Description(
        Severity.HIGH,
        ("transaction_id", "provider_payment_id"),
        "The bank sends an entry back of a file that it had rejected. So it carried that file out, or somebody else"
        " said that it was rejected; here everything in it has failed.",
        "Pay nothing of that file anew. Ask the bank what it did with each of its entries.",
    ),
    ExceptionKind.CARD_DISPUTED: Description(
        Severity.HIGH,
        ("transaction_id", "provider_payment_id"),
        "Who holds a card disputes a payment by it, or somebody answered such a dispute at the provider, or it is lost"
        " or won. While it is open the money is held, and not final; what is lost has gone back; what is won is here as"
        " before, once the provider has given back what it took (MONEY_AWAITED until then). `cause` says how it"
        " stands.",
        "Answer it at the provider with what speaks for the payment, before `disputeResponseDueTime`: what nobody"
        " answers is lost. If nobody of yours answered, find out who signs in there. Where the money is awaited for"
        " more than a few days, ask the provider. Of what is lost, ask the party for what it owes by then"
        " (`receivableAmount` of its investment), which is nothing where the money was still in escrow. Of what"
        " is won nothing is left to be done: resolve it.",
    ),
    ExceptionKind.ACH_FILE_NOT_APPLIED: Description(
        Severity.HIGH,
        ("transaction_id", "provider_payment_id", "file_name"),
        "A file of the bank tells of a payment, or of a file of ours, of which a row is not what we wrote: somebody"
        " wrote to the database. What it says of that one is not applied yet. The file stays in `.reading` and is"
        " tried again each minute.",
        "Let nothing leave that depends on that payment: the bank may have taken it back. Have the operators put"
        " right the row that the cause names; then it is applied by itself, once.",
    ),
    ExceptionKind.PAYOUT_NOT_REVERSED: Description(
        Severity.HIGH,
        ("transaction_id",),
        "A payout that was paid in error was not taken back, or not just once: its reversal failed, or a bank did more"
        " or less than the book has by now. `cause` says which.",
        "Ask who was paid to give it back, or give back what was drawn too much; book by hand what the cause says.",
    ),
    ExceptionKind.SWEEP_NOT_EXPLAINED: Description(
        Severity.HIGH,
        _SWEEP,
        "What a provider moved to the custodian's bank account, or from there, is not what its lines add up to, or the"
        " provider says of it otherwise than before. Which contributions are in it is not known for certain.",
        "Find it in the provider's dashboard by its id, and compare it with the custodian's statement. If nobody of"
        " yours ordered it there by hand, find out who did, and have the provider's schedule move all money.",
    ),
    ExceptionKind.SWEEP_FAILED: Description(
        Severity.HIGH,
        _SWEEP,
        "What a provider moved to the custodian's bank account, or from there, did not arrive. The money is still at"
        " the provider, though the book has it as cash: less can be paid out than the book says.",
        "See to it that nothing is paid out for which the custodian's account has no cash. Have the bank account at the"
        " provider put right, and its sweeps go on: the money comes by a later one.",
    ),
    ExceptionKind.SWEEP_REDIRECTED: Description(
        Severity.HIGH,
        _SWEEP,
        "What a provider moves goes to another bank account, or comes from another one, than the sweep before it, or"
        " than the one before it in which you have money.",
        "Ask at once who of yours changed it at the provider, and compare the account there with the custodian's. If"
        " nobody did, have the provider stop its sweeps, and find out who signs in there.",
    ),
    ExceptionKind.PAYOUT_NOT_PAID: Description(
        Severity.MEDIUM,
        _DEBT,
        "Money that is to be paid stands still: nobody approved it, the book had too little, a bank or provider refused"
        " it or sent it back, or its payee has no bank account that may be paid. Nothing pays it by itself. `cause`"
        " says to whom, how much, for what and why; `amount` is what stands still of it by now, of a refund in parts"
        " all of them together.",
        "Where another exception is open about the same transaction or the file that it was in, settle that one first:"
        " the money may have left."
        " Then remove the cause, and have it sent again as `cause` says. It says so by itself when it is ordered anew,"
        " and when it has arrived; then resolve it. Of what staff ordered it does only where the new order names it as"
        " replacedTransactionId. If nothing is owed any more (set off, taken back by its bank, or not wanted), resolve"
        " it, too.",
        doubts_money=False,
    ),
    ExceptionKind.SHORTFALL: Description(
        Severity.MEDIUM,
        _DEBT,
        "Money that belongs in an escrow account is not there, and the book says so: a party owes what its bank"
        " took back, payment providers kept their fees and nobody has paid them in, or the bank account is"
        " overdrawn. `cause` says which, and how much by now.",
        "Of a party, ask it for the money, or have it set off (receivables.md). Of fees, have them paid in or"
        " taken from FEES, before the closing (fees-and-draws.md). An overdrawn bank account is made good by what"
        " comes in next: until then too little can be paid out. It says so by itself when less is missing; once"
        " nothing is, resolve it.",
        doubts_money=False,
    ),
    ExceptionKind.SWEEP_OVERDUE: Description(
        Severity.MEDIUM,
        _SWEEP,
        "What a provider moved to the custodian's bank account, or from there, is on its way for days longer than the"
        " provider said. The book has it as cash, and the bank does not.",
        "Ask the provider where it is, and see to it that nothing is paid out for which the custodian's account has no"
        " cash. Once it has arrived or failed, the cause says so.",
    ),
    ExceptionKind.MONEY_NOT_APPLIED: Description(
        Severity.MEDIUM,
        _DEBT,
        "Money is in an escrow account and belongs to nothing there: it came while the account was frozen and is"
        " not applied to its investment (UNAPPLIED), or nobody has explained it (SUSPENSE). No closing takes it,"
        " and no refund gives it back. `cause` says whose it is, and how much by now.",
        "Once the account is ACTIVE, apply it by an entry by hand to the investment that it was for, which a"
        " second person approves (wires-and-checks.md): of one that was withdrawn it goes back then. What is"
        " explained goes where it belongs in the same way. It says so by itself when less is left; once nothing"
        " is, resolve it.",
        doubts_money=False,
    ),
}
