"""A bank account: how it is confirmed, blocked and retired, and when money may come from it or go to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from services.chassis.values.accounts import check_bank_account
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import etag_of
from services.chassis.values.moves import Moves
from services.chassis.values.refusals import BankAccountNotUsable, IllegalStatusChange
from services.transactions.domain.refusals import BankAccountBlocked, TooManyBankAccounts

# Whoever owns an account hears that it was confirmed, and has a day to say that it is not theirs. A house rule.
COOL_DOWN = timedelta(hours=24)
# So long counts, for whoever stopped payouts to a party alone, that they did: one more account takes a day each time.
PAYOUT_STOPS_WITHIN = timedelta(days=30)
# Of one party, at once: each waits in the inbox of all who may confirm it.
PENDING_MAX = 20


class BankAccountStatus(StrEnum):
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    BLOCKED = "BLOCKED"
    DELETED = "DELETED"


class HolderType(StrEnum):
    """Whose account it is at the bank: the network has other rules, and another time for returns, of each."""

    PERSON = "PERSON"
    COMPANY = "COMPANY"


# What is by law one natural person, or several: no account of theirs at a bank is a company's.
NATURAL_PERSONS = frozenset({"INDIVIDUAL", "JOINT"})


class Confirmation(StrEnum):
    """Who said that money may go to an account."""

    PERSONS = "PERSONS"
    BANK = "BANK"


class NameMatch(StrEnum):
    """What a bank says of who holds an account: whether it is who should."""

    MATCHES = "MATCHES"
    DIFFERS = "DIFFERS"
    NOT_TOLD = "NOT_TOLD"
    SIMILAR = "SIMILAR"


class BlockReason(StrEnum):
    RETURNED_BY_BANK = "RETURNED_BY_BANK"
    ALTERED = "ALTERED"


S = BankAccountStatus

LIVE = frozenset({S.PENDING, S.ACTIVE, S.SUSPENDED})
BANK_ACCOUNT_MOVES: Final[Moves[BankAccountStatus]] = {
    S.PENDING: frozenset({S.ACTIVE, S.SUSPENDED, S.BLOCKED, S.DELETED}),
    # Back to PENDING where it is to become the default: a second person confirms that, too.
    S.ACTIVE: frozenset({S.PENDING, S.SUSPENDED, S.BLOCKED, S.DELETED}),
    S.SUSPENDED: frozenset({S.ACTIVE, S.BLOCKED, S.DELETED}),
    S.BLOCKED: frozenset({S.PENDING, S.DELETED}),
    S.DELETED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAccount:
    bank_account_id: str
    party_id: str
    account_holder_name: str
    routing_number: str
    account_number_encrypted: bytes  # vault.py; the only copy
    account_number_digest: str  # vault.py: the same for the same account
    account_number_last4: str
    account_type: str
    holder_type: HolderType = HolderType.PERSON
    default_for_payouts: bool  # of a PENDING one: it becomes the default when it is confirmed
    status: BankAccountStatus = S.PENDING
    block_reason: BlockReason | None = None
    block_network_code: str | None = None
    external_id: str | None
    metadata: Mapping[str, str]
    created_by: str
    annotated_by: str | None = None  # who wrote external_id and metadata, where that is not who added it
    makers: tuple[str, ...]  # who made it, or changed where its money goes, in the order of their names
    replaces_bank_account_id: str | None = None  # whose bank asked for what this one has
    replaced_by_bank_account_id: str | None = None
    name_match: NameMatch | None = None  # what its bank said when it was linked; None: it was typed
    has_token_number: bool = False  # its number is a token of the bank's, and the same account has others
    confirmed_at: datetime | None = None
    confirmation: Confirmation | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def etag(self) -> str:
        return etag_of(self.bank_account_id, self.version)

    @property
    def annotator(self) -> str:
        """Who wrote its external_id and metadata."""
        return self.annotated_by or self.created_by

    @property
    def payout_start(self) -> datetime | None:
        """From when money goes to it; None for one that is not confirmed."""
        return None if self.confirmed_at is None else self.confirmed_at + COOL_DOWN

    @property
    def is_corporate(self) -> bool:
        """Whether debits come back by the rules of companies alone.

        A second person has said so: else who is drawn from could have money called final that the bank of a person,
        who never was a company, takes back for 60 days (R05). A bank that says whose name is on it does not say that.
        """
        return self.holder_type is HolderType.COMPANY and self.confirmation is Confirmation.PERSONS

    @property
    def is_forbidden(self) -> bool:
        """Whether payments to it and from it are forbidden: to the account, whatever row it stands in.

        By a bank's return; or its row was altered, and might have said that a return forbids it.
        """
        return self.block_reason is not None

    def is_cooling_down(self, now: datetime) -> bool:
        return self.payout_start is not None and now < self.payout_start


def check_holder_type(holder: HolderType, party_kind: str) -> None:
    """
    Args:
        party_kind: What the party is by law.

    Raises: InvalidField: its bank would take debits back as a person's, whatever they were called here.
    """
    if holder is HolderType.COMPANY and party_kind in NATURAL_PERSONS:
        raise InvalidField(
            f"The party is {party_kind}: no account of it is a company's.",
            fields={"holder_type": f"must be {HolderType.PERSON} for a party that is {party_kind}"},
        )


def check_usable(
    account: BankAccount | None, party_id: str, *, is_inbound: bool, field: str | None = None
) -> BankAccount:
    """The account, if money of the party may come from it, or go to it.

    Raises: BankAccountNotFound, BankAccountNotUsable, Unavailable: as check_bank_account.
    """
    found = check_bank_account(account, party_id, is_inbound=is_inbound, field=field)
    if is_inbound and found.replaced_by_bank_account_id is not None:
        raise BankAccountNotUsable(
            f"Its bank asks for other data: draw from {found.replaced_by_bank_account_id}.",
            fields={field: "is replaced"} if field else None,
            bank_account_id=found.bank_account_id,
            status=found.status,
        )
    return found


def check_may_add_another(accounts: Iterable[BankAccount]) -> None:
    """
    Args:
        accounts: All that the party has.

    Raises: TooManyBankAccounts.
    """
    if sum(each.status is S.PENDING for each in accounts) >= PENDING_MAX:
        message = f"{PENDING_MAX} bank accounts of this party are PENDING: have one confirmed, or retire one first."
        raise TooManyBankAccounts(message, bank_accounts_max=PENDING_MAX)


# What a person takes for one another in the last digits of an account.
_ALIKE = str.maketrans("oOQiIlLsSBzZbGgq", "0001111558226699")


def reads_like(one: BankAccount, other: BankAccount) -> bool:
    """Whether what people see of their numbers is the same at a glance."""
    first, second = (each.account_number_last4.translate(_ALIKE).upper() for each in (one, other))
    return first == second


def check_may_update(account: BankAccount) -> None:
    """Raises: BankAccountNotUsable: nothing comes of it any more, so nothing is said of it."""
    if account.status not in LIVE:
        raise BankAccountNotUsable(
            f"The bank account is {account.status}.", bank_account_id=account.bank_account_id, status=account.status
        )


def change_default(account: BankAccount, *, is_default: bool, person: str) -> BankAccount:
    """One that is to be the default waits for a second person again, who is not this one."""
    if account.default_for_payouts or not is_default:
        return replace(account, default_for_payouts=is_default)
    makers = tuple(sorted({*account.makers, person}))
    status = S.PENDING if account.status is S.ACTIVE else account.status
    unconfirmed = replace(account, confirmed_at=None, confirmation=None)
    return replace(unconfirmed, default_for_payouts=True, status=status, makers=makers)


def stops_payouts(before: BankAccount, after: BankAccount, person: str) -> bool:
    """Whether a person's change keeps money from going where it goes, or was to go once a second person says yes.

    What waits and nobody else has made or changed is the person's own to take back: no money goes there.
    """
    if before.status is S.PENDING and before.makers == (person,):
        return False
    if after.status is S.DELETED:
        return before.status in LIVE
    is_to_wait = before.status is S.ACTIVE and after.status is S.PENDING
    return is_to_wait or (before.default_for_payouts and not after.default_for_payouts)


def block(account: BankAccount, reason: BlockReason, network_code: str | None) -> BankAccount:
    """A retired account stays retired, but bears the reason: retiring it must not let an attempt through. One that was
    altered stays so, whatever forbids it besides: it is used no more."""
    status = S.BLOCKED if account.status in LIVE else account.status
    reason = BlockReason.ALTERED if account.block_reason is BlockReason.ALTERED else reason
    return replace(
        account, status=status, block_reason=reason, block_network_code=network_code, default_for_payouts=False
    )


def suspend(account: BankAccount) -> BankAccount:
    """A bank's return forbids the same account as another party's: nobody uses this one before a second person, who is
    told of that, has confirmed it. Who named the account of somebody else has it blocked by that for nobody else."""
    return replace(account, status=S.SUSPENDED, confirmed_at=None, confirmation=None)


def count_owners(same: Iterable[BankAccount]) -> int:
    """How many parties have an account, blocked or not.

    Args:
        same: All that ever stood for it.
    """
    return len({account.party_id for account in same if account.status is not S.DELETED})


def check_is_allowed(accounts: Iterable[BankAccount], *, tells_which: bool, field: str = "account_number") -> None:
    """
    Args:
        accounts: All that stand for one account at one bank, of whatever party.
        tells_which: Whether the refusal says which of them is forbidden: it may be another party's.
        field: The request's field that says which account it is.

    Raises: BankAccountBlocked.
    """
    for account in accounts:
        if account.is_forbidden:
            raise BankAccountBlocked(account.bank_account_id if tells_which else None, field)


def check_may_unblock(account: BankAccount) -> None:
    """Raises: IllegalStatusChange."""
    if not account.is_forbidden:
        raise IllegalStatusChange(account.status, S.PENDING, "Nothing forbids this bank account.")


def unblock(account: BankAccount, person: str) -> BankAccount:
    """One that is not retired waits for a second person again, who is not this one. What was altered is added anew."""
    status = S.PENDING if account.status is S.BLOCKED else account.status
    if account.block_reason is BlockReason.ALTERED:
        status = S.DELETED
    makers = tuple(sorted({*account.makers, person}))
    unconfirmed = replace(account, confirmed_at=None, confirmation=None, makers=makers)
    return replace(unconfirmed, status=status, block_reason=None, block_network_code=None)


def list_payee_makers(account: BankAccount | None, *, is_inbound: bool) -> frozenset[str]:
    """Who has a part in a payment for having made or changed the account that is paid; nobody in what comes in."""
    return frozenset() if account is None or is_inbound else frozenset(account.makers)
