"""The rails money moves on, and the providers that carry it: one table each, which everything else reads.

A rail is a payment method. Its row says who carries it, who knows that the money arrived, and how long a bank may
still send it back. Each period names its source, a rule of Nacha or of the house.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Period:
    """A number of days after an event, and the rule that says so.

    Args:
        rule: Its stable name, as `Explanation.rule`.
        source: Where it comes from.
        ends_by_file: What banks do within it is told in a file of the next banking day: on that day's end it is over.
    """

    rule: str
    days: int
    is_banking_days: bool
    source: str
    ends_by_file: bool = False


@dataclass(frozen=True, slots=True)
class Rail:
    """What holds for one payment method.

    Args:
        provider: Who carries it where nobody chose another: a name of PROVIDERS; none where it is offered once somebody
            is chosen.
        currencies: What it carries; none where it carries any.
        is_for_contributions: Whether it carries contributions alone, and gives each back to where it came from.
        is_between_accounts: Whether the custodian moves it from one escrow account to another, and nobody else has it.
        is_confirmed_by_a_person: Whether finance says that the money arrived, or was sent: no provider can be asked.
        draws_from_account: Whether money that comes in is drawn from a bank account of the party, which must be known.
        pays_to_account: The same of money that goes out.
        is_cancellable_when_submitted: Whether what comes in may be cancelled after the provider took it and before it
            arrived; where no person confirms it, the provider ends it first. What goes out may have been sent: two
            persons say that it was not.
        announced_for: How long money that is announced is waited for: then nobody expects it any more.
        return_risk: How long money that came in stays held; none where it cannot be taken back.
        inbound_return: How long after money came in its bank may still take it back; none where it never may.
        outbound_return: The same of a payout.
    """

    payment_method: str
    provider: str | None
    currencies: frozenset[str] | None = None
    is_for_contributions: bool = False
    is_between_accounts: bool = False
    is_confirmed_by_a_person: bool = False
    draws_from_account: bool = False
    pays_to_account: bool = False
    is_cancellable_when_submitted: bool = False
    announced_for: Period | None = None
    return_risk: Period | None = None
    inbound_return: Period | None = None
    outbound_return: Period | None = None

    def is_page_of_staff(self, *, of_investor: bool) -> bool:
        """Whether it is a card's page that staff ordered: its payer pays on it or does not, or pays in another way."""
        return self.is_for_contributions and not of_investor

    def carries(self, currency: str) -> bool:
        return self.currencies is None or currency in self.currencies

    def period_of_return(self, *, is_inbound: bool) -> Period | None:
        """How long after it arrived the bank may send the money back."""
        return self.inbound_return if is_inbound else self.outbound_return


@dataclass(frozen=True, slots=True)
class Provider:
    """Who carries money, or only reports about it.

    Args:
        brings_in: The payment methods by which it brings money in.
        pays_out: Those by which it pays money out.
        is_asked_for_payments: Whether it can be asked how a payment stands.
        tells_events: Whether it keeps a list of what became of payments, which is read beside its webhooks.
        makes_sweeps: Whether it moves what it collected to the custodian as one sum, and keeps a list of these.
        forgets_orders_after: For how long the same key is the same payment there; none where it is for ever,
            or where none is relied on: at Plaid each authorization is kept here before it is paid, once (ADR 32).
        reverses_payouts: Whether it takes back by a debit what it paid out in error.
        is_confirmed_by_payers: Whether a payer confirms the first payment from an account, and later ones use that.
        webhook_request: The request of the RPC that takes its webhooks, by name; empty where it sends none.
        webhook_proof: That request's field with the proof of origin.
    """

    name: str
    brings_in: frozenset[str] = frozenset()
    pays_out: frozenset[str] = frozenset()
    is_asked_for_payments: bool = False
    is_confirmed_by_payers: bool = False
    reverses_payouts: bool = False
    tells_events: bool = False
    makes_sweeps: bool = False
    forgets_orders_after: timedelta | None = None
    webhook_request: str = ""
    webhook_proof: str = ""

    def carries(self, payment_method: str, *, is_inbound: bool) -> bool:
        return payment_method in (self.brings_in if is_inbound else self.pays_out)


# "So that it is made available to the ODFI by opening of business on" the second banking day after the settlement date,
# or the banking day after the sixtieth calendar day.
_NACHA_CONSUMER = "Nacha Operating Rules, Section 3.8 and 3.13.1: a debit that a consumer disowns comes back in 60 days"
_NACHA_COMPANY = "Nacha Operating Rules, Section 3.8: a company's debit comes back within two banking days"
_NACHA_CREDIT = "Nacha Operating Rules, Section 3.8: a credit comes back within two banking days"
_CARD_NETWORKS = "Visa Core Rules, Chapter 11; Mastercard Chargeback Guide: a payment may be disputed for 120 days"
_CARD_REFUNDS = "docs.stripe.com/refunds: a refund may fail for up to thirty days"
_HOUSE_CARD = "house rule: most disputes of a card payment come within thirty days"
_HOUSE_RISK = "house rule: most returns of a debit arrive within five banking days"
_HOUSE_CHECK = "house rule: a check is treated like a consumer's debit"
_HOUSE_ANNOUNCED = "house rule: what has not come within a month is announced anew, so it keeps no limit in use"
_ANNOUNCED = Period("ANNOUNCEMENT_WAIT", 30, False, _HOUSE_ANNOUNCED)

# How long a bank may take back what was drawn from an account of a consumer, and from one of a company.
CONSUMER_RETURN = Period("ACH_DEBIT_RETURN", 60, False, _NACHA_CONSUMER, ends_by_file=True)
COMPANY_RETURN = Period("ACH_COMPANY_RETURN", 2, True, _NACHA_COMPANY, ends_by_file=True)

RAILS: Mapping[str, Rail] = MappingProxyType(
    {
        rail.payment_method: rail
        for rail in (
            Rail(
                payment_method="ACH",
                provider="sandbox",
                currencies=frozenset({"USD"}),
                draws_from_account=True,
                pays_to_account=True,
                return_risk=Period("ACH_RETURN_RISK", 5, True, _HOUSE_RISK),
                inbound_return=CONSUMER_RETURN,
                outbound_return=Period("ACH_CREDIT_RETURN", 2, True, _NACHA_CREDIT, ends_by_file=True),
            ),
            Rail(
                payment_method="CARD",
                provider=None,
                currencies=frozenset({"USD"}),
                is_for_contributions=True,
                is_cancellable_when_submitted=True,
                return_risk=Period("CARD_DISPUTE_RISK", 30, False, _HOUSE_CARD),
                inbound_return=Period("CARD_DISPUTE", 120, False, _CARD_NETWORKS),
                outbound_return=Period("CARD_REFUND_FAILURE", 30, False, _CARD_REFUNDS),
            ),
            Rail(
                payment_method="WIRE",
                provider="manual",
                is_confirmed_by_a_person=True,
                pays_to_account=True,
                is_cancellable_when_submitted=True,
                announced_for=_ANNOUNCED,
            ),
            Rail(
                payment_method="CHECK",
                provider="manual",
                is_confirmed_by_a_person=True,
                is_cancellable_when_submitted=True,
                announced_for=_ANNOUNCED,
                return_risk=Period("CHECK_RETURN_RISK", 5, True, _HOUSE_RISK),
                inbound_return=Period("CHECK_RETURN", 60, False, _HOUSE_CHECK, ends_by_file=True),
                outbound_return=Period("CHECK_CREDIT_RETURN", 2, True, _HOUSE_CHECK, ends_by_file=True),
            ),
            Rail(
                payment_method="INTERNAL_TRANSFER",
                provider="manual",
                is_between_accounts=True,
                is_confirmed_by_a_person=True,
            ),
        )
    }
)

# The same, of what is drawn from a company's account.
COMPANY_RAILS: Mapping[str, Rail] = MappingProxyType(
    {
        name: replace(rail, return_risk=COMPANY_RETURN, inbound_return=COMPANY_RETURN)
        if rail.draws_from_account
        else rail
        for name, rail in RAILS.items()
    }
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        provider.name: provider
        for provider in (
            Provider(
                "sandbox",
                brings_in=frozenset({"ACH"}),
                pays_out=frozenset({"ACH"}),
                is_asked_for_payments=True,
                webhook_request="ReceiveSandboxWebhookRequest",
                webhook_proof="signature",
            ),
            Provider(
                "stripe",
                brings_in=frozenset({"ACH", "CARD"}),
                pays_out=frozenset({"CARD"}),
                is_asked_for_payments=True,
                is_confirmed_by_payers=True,
                # Source: docs.stripe.com/api/idempotent_requests: keys are kept for at least 24 hours.
                forgets_orders_after=timedelta(hours=23),
                tells_events=True,
                makes_sweeps=True,
                webhook_request="ReceiveStripeWebhookRequest",
                webhook_proof="signature",
            ),
            Provider(
                "plaid",
                brings_in=frozenset({"ACH"}),
                pays_out=frozenset({"ACH"}),
                is_asked_for_payments=True,
                tells_events=True,
                makes_sweeps=True,
                webhook_request="ReceivePlaidWebhookRequest",
                webhook_proof="verification",
            ),
            Provider(
                "ach_file",
                brings_in=frozenset({"ACH"}),
                pays_out=frozenset({"ACH"}),
                is_asked_for_payments=True,
                reverses_payouts=True,
            ),
            Provider(
                "manual",
                brings_in=frozenset({"WIRE", "CHECK"}),
                pays_out=frozenset({"WIRE", "CHECK", "INTERNAL_TRANSFER"}),
            ),
        )
    }
)

# Of which a person says what the bank did. For statements of SQL.
BY_HAND = sorted(rail.payment_method for rail in RAILS.values() if rail.is_confirmed_by_a_person)


def choose_payout_rail(currency: str) -> Rail:
    """What a payout goes by where nobody names it: the first rail that carries it to a bank account."""
    return next(rail for rail in RAILS.values() if rail.pays_to_account and rail.carries(currency))


PROVIDER_OF_WEBHOOK: Mapping[str, Provider] = MappingProxyType(
    {provider.webhook_request: provider for provider in PROVIDERS.values() if provider.webhook_request}
)
