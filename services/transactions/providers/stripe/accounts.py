"""A bank account that Stripe has not seen, made known to it by its number: for a payment, or to be verified before."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from services.transactions.domain.bank_accounts import HolderType
from services.transactions.providers.stripe.client import Refused, StripeApi, build_declined
from services.transactions.providers.stripe.keys import name_key
from services.transactions.providers.stripe.states import METHOD
from services.transactions.vault import Vault

# What its holder agreed to was signed here, and not on a page of Stripe's.
MANDATE: Final = MappingProxyType({"customer_acceptance": {"type": "offline", "offline": {}}})


class Held(Protocol):
    """What of an order says which account it is, and whose."""

    @property
    def key(self) -> str: ...
    @property
    def party_id(self) -> str: ...
    @property
    def routing_number(self) -> str: ...
    @property
    def account_number(self) -> str: ...
    @property
    def account_type(self) -> str: ...
    @property
    def holder_type(self) -> str: ...
    @property
    def account_holder_name(self) -> str: ...


class Introduced(NamedTuple):
    """Stripe's ids."""

    customer_id: str
    method_id: str


async def introduce(api: StripeApi, vault: Vault, order: Held) -> Introduced:
    """Once for each key. Nothing is drawn from it before its holder has confirmed it.

    Raises: Declined: its data are wrong. OutcomeUnknown.
    """
    customer: Any = {"name": order.account_holder_name, "metadata": {"party_id": order.party_id}}
    key: Any = name_key(vault, f"{order.key}:customer")
    made = await api.call(api.v1.customers.create_async(customer, key))
    account = {
        "routing_number": order.routing_number,
        "account_number": order.account_number,
        "account_type": order.account_type.lower(),
        "account_holder_type": "company" if order.holder_type == HolderType.COMPANY else "individual",
    }
    holder: Any = {"type": METHOD, METHOD: account, "billing_details": {"name": order.account_holder_name}}
    try:
        key = name_key(vault, f"{order.key}:method")
        method = await api.call(api.v1.payment_methods.create_async(holder, key))
    except Refused as refusal:
        raise build_declined(refusal.error) from None
    return Introduced(made["id"], method["id"])
