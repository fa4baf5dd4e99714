"""Bank accounts that are verified at Stripe before the first payment: one SetupIntent a verification.

As with payments, an answer counts only if it is about what we asked for: each SetupIntent bears a proof over our id,
the customer and the account, which only the service makes. Whether its mandate still stands is asked of Stripe
whenever something is drawn by it. Source: docs.stripe.com/api/setup_intents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from services.transactions.domain.verifications import ProviderVerification, VerificationStatus
from services.transactions.providers.protocols import OutcomeUnknown, PaymentOrder, VerificationOrder, ask_provider
from services.transactions.providers.stripe.accounts import MANDATE, introduce
from services.transactions.providers.stripe.client import (
    LIST_LIMIT,
    NotThere,
    Refused,
    StripeApi,
    build_declined,
    read_whole_list,
)
from services.transactions.providers.stripe.keys import name_key
from services.transactions.providers.stripe.setup_states import find_setup_method, read_setup, spell_setup_proved
from services.transactions.providers.stripe.states import METHOD, pays_others
from services.transactions.vault import Vault

_SETUP_ID, _MANDATE_ID = re.compile(r"seti_[A-Za-z0-9]{1,200}"), re.compile(r"mandate_[A-Za-z0-9]{1,200}")
_EXPANDED: Final = ["payment_method", "mandate"]


class AccountSetups:
    """
    Args:
        vault: Whose codes over what was asked for nobody else makes.
        timeout_seconds: Of all that is asked for one answer.
    """

    def __init__(self, api: StripeApi, vault: Vault, timeout_seconds: float) -> None:
        self._api = api
        self._vault = vault
        self._timeout_seconds = timeout_seconds

    def is_about(self, provider_id: str) -> bool:
        return provider_id.startswith(("seti_", "mandate_"))

    async def begin(self, order: VerificationOrder) -> ProviderVerification:
        return await ask_provider(self._begin(order), self._timeout_seconds)

    async def get_verification(self, provider_id: str) -> ProviderVerification | None:
        return await ask_provider(self._get(provider_id), self._timeout_seconds)

    async def find_usable(self, order: PaymentOrder) -> dict[str, Any] | None:
        """What a debit names to be drawn from the account that was verified; None where that is not so any more.

        Raises: OutcomeUnknown: Stripe does not say.
        """
        setup = await self._find(order.verification_id)
        if setup is None:
            return None
        verification = read_setup(setup, self._is_ours)
        method = find_setup_method(setup)
        if not verification.reference or verification.status is not VerificationStatus.VERIFIED or method is None:
            return None
        if verification.account != (order.routing_number, order.account_number[-4:]):
            return None
        mandate = setup["mandate"]
        if not _MANDATE_ID.fullmatch(mandate["id"]) or mandate["payment_method"] != method["id"]:
            return None
        if method["customer"] != setup["customer"]:  # it was taken off there
            return None
        used = {"customer": setup["customer"], "payment_method": method["id"], "mandate": mandate["id"]}
        return {**used, "off_session": True}

    async def _begin(self, order: VerificationOrder) -> ProviderVerification:
        account = await introduce(self._api, self._vault, order)
        proof = self._vault.prove(spell_setup_proved(order.reference, *account))
        params: Any = {
            "customer": account.customer_id,
            "payment_method": account.method_id,
            "payment_method_types": [METHOD],
            "payment_method_options": {METHOD: {"verification_method": "microdeposits"}},
            "confirm": True,
            "usage": "off_session",
            "mandate_data": dict(MANDATE),
            "metadata": {"reference": order.reference, "method": account.method_id, "proof": proof},
            "expand": _EXPANDED,
        }
        key: Any = name_key(self._vault, f"{order.key}:setup")
        try:
            setup = await self._api.call(self._api.v1.setup_intents.create_async(params, key))
        except Refused as refusal:
            raise build_declined(refusal.error) from None
        except OutcomeUnknown:  # Stripe keeps an answer, also a 500, for as long as it knows the key
            found = await self._find_of(account.customer_id, order.reference)
            if found is None:
                raise
            return found
        verification = read_setup(setup, self._is_ours)
        self._check_mode(setup)
        if verification.reference != order.reference:
            raise OutcomeUnknown("the provider's answer is about another setup")
        return verification

    async def _find_of(self, customer_id: str, reference: str) -> ProviderVerification | None:
        """What was made for a customer, who is of one verification alone."""
        listed = await self._list({"customer": customer_id})
        verifications = (read_setup(each, self._is_ours) for each in listed)
        return next((each for each in verifications if each.reference == reference), None)

    async def _get(self, provider_id: str) -> ProviderVerification | None:
        setup = await (self._find_by_mandate if _MANDATE_ID.fullmatch(provider_id) else self._find)(provider_id)
        return None if setup is None else read_setup(setup, self._is_ours)

    async def _find_by_mandate(self, mandate_id: str) -> dict[str, Any] | None:
        """The setup by which a mandate was given, if it was by one."""
        try:
            mandate = await self._api.call(self._api.v1.mandates.retrieve_async(mandate_id))
        except NotThere:
            return None
        listed = await self._list({"payment_method": str(mandate["payment_method"])})
        return next((each for each in listed if (each["mandate"] or {}).get("id") == mandate_id), None)

    async def _list(self, wanted: dict[str, str]) -> list[dict[str, Any]]:
        params: Any = {**wanted, "limit": LIST_LIMIT, "expand": [f"data.{each}" for each in _EXPANDED]}
        found = read_whole_list(await self._api.call(self._api.v1.setup_intents.list_async(params)))
        for each in found:
            self._check_mode(each)
        return found

    async def _find(self, setup_id: str) -> dict[str, Any] | None:
        if not _SETUP_ID.fullmatch(setup_id):
            return None  # the id came from outside: it must not be able to name another path
        try:
            asked = self._api.v1.setup_intents.retrieve_async(setup_id, {"expand": _EXPANDED})
            setup = await self._api.call(asked)
        except NotThere:
            return None
        if setup["id"] != setup_id:
            raise OutcomeUnknown("the provider's answer is about another setup")
        self._check_mode(setup)
        return setup

    def _check_mode(self, setup: Mapping[str, Any]) -> None:
        """Raises: OutcomeUnknown: it is a test where money is real, or the other way round."""
        if setup["livemode"] is not self._api.is_live:
            raise OutcomeUnknown("the provider's answer is of another mode")

    def _is_ours(self, setup: Mapping[str, Any]) -> bool:
        """Whether it is as we asked for it, for us alone; what it verifies is the account that we named."""
        try:
            if pays_others(setup) or setup["payment_method_types"] != [METHOD]:
                return False
            words, customer_id = setup["metadata"], setup["customer"]
            method = find_setup_method(setup)
            if method is not None and method["id"] != words["method"]:
                return False
            proved = spell_setup_proved(words["reference"], customer_id, words["method"])
            return self._vault.is_proof(str(words["proof"]), proved)
        except (KeyError, TypeError, AttributeError):
            return False
