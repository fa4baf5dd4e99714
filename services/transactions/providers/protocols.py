"""What payment providers do for us, in nine small protocols. A provider's package implements those it has."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar

from services.chassis.process.telemetry import log
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money
from services.transactions.domain.linked_accounts import LinkedAccount
from services.transactions.domain.payments import FormerLife, Payment, find_difference
from services.transactions.domain.rails import PROVIDERS
from services.transactions.domain.refusals import BankLinksNotSetUp
from services.transactions.domain.sweeps import ProviderLine, ProviderSweep, SweepList
from services.transactions.domain.verifications import ProviderVerification
from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.providers.ach_file.config import AchFileConfig
from services.transactions.providers.choice import NO_CHOICE, ProviderChoice

T = TypeVar("T")

TEXT_CHARACTERS_MAX = 255  # of an event's id and type, and of what a provider answers


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """One attempt at one transaction. `key` makes it happen at most once; `reference` finds it again.

    Args:
        bank_account_id: And its number; empty where the rail has no account.
        earlier_payment_ids: The provider's ids of the attempts before: nothing more may move by them.
        confirmed_payment_id: The provider's id of a payment that arrived from the same account before; empty for none.
        verification_id: The provider's id of the account's verification by its holder; empty for none.
        refunded_payment_id: The provider's id of what a refund gives back, to where it came from; empty for none.
    """

    key: str
    reference: str
    payment_method: str
    party_id: str
    bank_account_id: str
    amount: Money
    is_inbound: bool
    presentment: int
    routing_number: str
    account_number: str
    account_type: str
    holder_type: str
    account_holder_name: str
    description: str
    earlier_payment_ids: Collection[str] = ()
    confirmed_payment_id: str = ""
    verification_id: str = ""
    refunded_payment_id: str = ""

    def __repr__(self) -> str:
        return f"PaymentOrder(key={self.key!r})"  # the rest is personal data


@dataclass(frozen=True, slots=True)
class VerificationOrder:
    """A bank account that its holder is to verify. `key` makes it happen once; `reference` is our id of it."""

    key: str
    reference: str
    party_id: str
    routing_number: str
    account_number: str
    account_type: str
    holder_type: str
    account_holder_name: str

    def __repr__(self) -> str:
        return f"VerificationOrder(key={self.key!r})"  # the rest is personal data


class Declined(Exception):
    """The provider refuses for certain: nothing was done, and nothing will be."""

    def __init__(
        self, code: str, message: str, *, retryable: bool, metadata: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.retryable, self.metadata = code, message, retryable, metadata


class OutcomeUnknown(Exception):
    """The provider may or may not have done it, or cannot be asked at present. Never a reason to call it failed."""

    def __init__(self, message: str, *, retry_after_seconds: int = 0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotAsOrdered(OutcomeUnknown):
    """The provider has a payment in our name that it must not have so: nothing is ordered, and a person looks."""

    def __init__(self, message: str, payment_id: str) -> None:
        super().__init__(message)
        self.payment_id = payment_id


def check_as_ordered(payment: Payment, order: PaymentOrder) -> None:
    """Whether a provider's answer to an order is about it. Raises: OutcomeUnknown."""
    wrong = find_difference(
        payment,
        reference=order.reference,
        amount=order.amount,
        is_inbound=order.is_inbound,
        presentment=order.presentment,
    )
    if wrong:
        raise OutcomeUnknown(f"the provider's answer differs in {wrong}")


# What reading an answer raises that is not what it should be, in our code or in a provider's own client: OSError of a
# time that the operating system cannot spell.
NOT_READ = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)


async def ask_provider(asked: Coroutine[Any, Any, T], seconds: float) -> T:
    """What a provider answers in time, and so that it can be read: of all else the outcome is not known.

    Raises: OutcomeUnknown.
    """
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError:
        raise OutcomeUnknown("the provider does not answer") from None
    except NOT_READ as error:
        # Whose fault it is, ours or the answer's, without any value of it.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        log.warning("provider_answer_not_read", cause=type(error).__name__, at=f"{frame.filename}:{frame.lineno}")
        raise OutcomeUnknown("the provider's answer cannot be read") from None


class PaymentOrders(Protocol):
    """Takes orders."""

    async def submit(self, order: PaymentOrder) -> Payment:
        """Orders the payment. The same key again is the same payment.

        Raises:
            Declined: it will not happen.
            OutcomeUnknown: look it up.
        """
        ...


class PaymentLookUps(Protocol):
    """Says how payments stand."""

    async def list_payments(
        self, reference: str, refunded_payment_id: str = "", former_life: FormerLife | None = None
    ) -> list[Payment]:
        """Every payment made under our reference, newest first. Raises OutcomeUnknown.

        Args:
            refunded_payment_id: As the order has it.
            former_life: Our database was restored and may lack what we keep of those that were made then.
        """
        ...

    async def get_payment(self, payment_id: str) -> Payment | None:
        """The payment as it is now; None if there is none. Raises OutcomeUnknown."""
        ...


class PaymentCancellations(Protocol):
    """Ends payments that wait for their payer."""

    async def cancel_payment(self, payment_id: str) -> None:
        """Has it cancelled, if no bank has seen it yet: how it stands then is to be asked. Raises OutcomeUnknown."""
        ...


class AccountVerifications(Protocol):
    """Has the holder of a bank account verify it before the first payment. Nothing is drawn by that."""

    def is_about(self, provider_id: str) -> bool:
        """Whether an event is about a verification, and not about a payment, by the id that it names."""
        ...

    async def begin(self, order: VerificationOrder) -> ProviderVerification:
        """Asks for it. The same key again is the same verification.

        Raises:
            Declined: it will not happen.
            OutcomeUnknown: ask again.
        """
        ...

    async def get_verification(self, provider_id: str) -> ProviderVerification | None:
        """As it is now, by whatever id an event names; None if there is none. Raises OutcomeUnknown."""
        ...


class PaymentReversals(Protocol):
    """Takes back by a debit what was paid out in error."""

    async def get_reversal_day(self) -> date:
        """When what is ordered now settles."""
        ...

    async def reverse_payment(self, payment_id: str, key: str) -> None:
        """Orders that all of it is taken back, once: how that stands the payment says then. Raises OutcomeUnknown.

        Args:
            key: The same key again is the same reversal.
        """
        ...


class EventPage(NamedTuple):
    """Events that came after another one, oldest first, each with its body.

    Args:
        last_id: After which the next page begins; empty where there is no event yet.
        is_late: The provider does not keep the event after which they were asked for any more: some may be missing.
    """

    events: Sequence[tuple[ProviderEvent, bytes]]
    last_id: str
    has_more: bool = False
    is_late: bool = False


class PaymentEvents(Protocol):
    """Says what became of payments, in order: also what no webhook told."""

    feed: str  # whose events these are: ids mean nothing in another feed

    async def begin(self) -> EventPage:
        """Where reading begins, once. Raises OutcomeUnknown."""
        ...

    async def list_oldest(self) -> EventPage:
        """The first ones that the provider keeps. Raises OutcomeUnknown."""
        ...

    async def list_events(self, after_id: str) -> EventPage:
        """What came after the event with this id. Raises OutcomeUnknown."""
        ...


class ProviderSweeps(Protocol):
    """Says what the provider moves between its balance and the custodian's bank account, and of what that consists."""

    feed: str  # whose sweeps these are

    async def list_sweeps(self, since: datetime) -> SweepList:
        """Those that were made since then, in any order. Raises OutcomeUnknown."""
        ...

    async def list_lines(self, sweep: ProviderSweep) -> list[ProviderLine]:
        """All of which one that is listed consists, each once. Raises OutcomeUnknown."""
        ...


class WebhookReader(Protocol):
    """Proves and reads the webhooks of one provider."""

    async def read_webhook(self, body: bytes, proof: str) -> ProviderEvent:
        """The event in a webhook, once its origin is proved on the raw bytes.

        Raises:
            WebhookSignatureInvalid: it is not genuine, or too old, or from the future.
            Unavailable: the proof cannot be checked at present; the provider sends the webhook again.
        """
        ...


class LinkToken(NamedTuple):
    """What the provider's page is opened with, and from when on it opens nothing."""

    text: str
    expires_at: datetime


class BankLinks(Protocol):
    """Lets a person sign in to a bank, and asks that bank once. Nothing is kept with which it could be asked again."""

    async def create_link_token(self, party_id: str) -> LinkToken:
        """Another one each time. Raises: BankLinksNotSetUp, OutcomeUnknown."""
        ...

    async def read_account(self, public_token: str, provider_account_id: str, legal_name: str) -> LinkedAccount:
        """The account that was chosen there. It uses the public token up, and ends the access.

        Args:
            provider_account_id: Which, by the provider's id; empty where there is one alone.
            legal_name: Whose it should be.

        Raises:
            BankLinksNotSetUp, PublicTokenNotUsable, LinkedAccountNotUsable
            InvalidField: no account is named, or none of those.
            OutcomeUnknown: nobody knows; the public token may be used up.
        """
        ...


@dataclass(frozen=True)
class LinksNotSetUp:
    """The `BankLinks` of a process that has none.

    Args:
        setting: Which it lacks.
    """

    setting: str

    async def create_link_token(self, party_id: str) -> LinkToken:
        raise BankLinksNotSetUp(self.setting)

    async def read_account(self, public_token: str, provider_account_id: str, legal_name: str) -> LinkedAccount:
        raise BankLinksNotSetUp(self.setting)


@dataclass(frozen=True)
class Providers:
    """The providers of this process, by name.

    Args:
        orders: Those that this process may order of.
        look_ups: Those of them that can be asked.
        links: By which bank accounts are linked.
        events, sweeps: Those of them whose events and sweeps are read.
        cancellations: Those by which a payer may have to confirm a payment first.
        verifications: The same, by which that is done beforehand.
        reversals: Those by which a payout may be taken back.
        choice: Which of them carries what.
        ach_files: How files for a bank are made and read; None where this process makes none.
    """

    orders: Mapping[str, PaymentOrders]
    look_ups: Mapping[str, PaymentLookUps]
    webhooks: Mapping[str, WebhookReader]
    links: BankLinks
    events: Mapping[str, PaymentEvents] = field(default_factory=dict)
    sweeps: Mapping[str, ProviderSweeps] = field(default_factory=dict)
    cancellations: Mapping[str, PaymentCancellations] = field(default_factory=dict)
    verifications: Mapping[str, AccountVerifications] = field(default_factory=dict)
    reversals: Mapping[str, PaymentReversals] = field(default_factory=dict)
    choice: ProviderChoice = NO_CHOICE
    ach_files: AchFileConfig | None = None

    def __post_init__(self) -> None:
        asked = {name for name in self.orders if PROVIDERS[name].is_asked_for_payments}
        sending = {name for name, provider in PROVIDERS.items() if provider.webhook_request}
        invariant(self.look_ups.keys() == asked, "each provider that can be asked is asked")
        confirming = {name for name in self.orders if PROVIDERS[name].is_confirmed_by_payers}
        invariant(self.cancellations.keys() == confirming, "what waits for its payer can be cancelled")
        invariant(self.verifications.keys() == confirming, "what would wait for its payer can be verified before")
        reversing = {name for name in self.orders if PROVIDERS[name].reverses_payouts}
        invariant(self.reversals.keys() == reversing, "each provider that takes payouts back can be asked to")
        telling = {name for name in self.orders if PROVIDERS[name].tells_events}
        invariant(self.events.keys() == telling, "the events of each provider that keeps a list of them are read")
        sweeping = {name for name in self.orders if PROVIDERS[name].makes_sweeps}
        invariant(self.sweeps.keys() == sweeping, "the sweeps of each provider that makes them are read")
        invariant(self.webhooks.keys() == sending, "each provider that sends webhooks is here")

    def require_orders(self, provider: str) -> PaymentOrders:
        """Raises OutcomeUnknown: this process orders nothing of it any more; an earlier one may have."""
        return _require(self.orders, provider)

    def require_look_ups(self, provider: str) -> PaymentLookUps:
        """Raises OutcomeUnknown: this process does not know where to ask."""
        return _require(self.look_ups, provider)

    def require_reversals(self, provider: str) -> PaymentReversals:
        """Raises OutcomeUnknown: this process does not know where to order one."""
        return _require(self.reversals, provider)


def _require(known: Mapping[str, T], provider: str) -> T:
    if provider not in known:
        raise OutcomeUnknown(f"{provider} is not set up")
    return known[provider]
