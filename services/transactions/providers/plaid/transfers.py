"""ACH debits and credits by Plaid Transfer: a bank account is made known once, each attempt is authorized, and of an
authorization one transfer is made.

The authorization is committed before anything is made of it, and Plaid makes one transfer of it at most: so a try
that died, or whose answer was lost, is found or repeated by the next one, and never paid twice. Another authorization
follows only once it is certain that the one before makes none. No transaction of ours is open while Plaid is asked.

Whoever has our keys at Plaid can make transfers there: so each bears a proof over what was ordered, and what does not
bear it is none of ours. Source: plaid.com/docs/transfer/creating-transfers.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

from plaid.model.ach_class import ACHClass
from plaid.model.transfer_authorization_cancel_request import TransferAuthorizationCancelRequest
from plaid.model.transfer_authorization_create_request import TransferAuthorizationCreateRequest
from plaid.model.transfer_authorization_idempotency_key import TransferAuthorizationIdempotencyKey
from plaid.model.transfer_authorization_user_in_request import TransferAuthorizationUserInRequest
from plaid.model.transfer_create_request import TransferCreateRequest
from plaid.model.transfer_get_request import TransferGetRequest
from plaid.model.transfer_metadata import TransferMetadata
from plaid.model.transfer_migrate_account_request import TransferMigrateAccountRequest
from plaid.model.transfer_network import TransferNetwork
from plaid.model.transfer_type import TransferType

from services.chassis.calls.auth import current_principal
from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.values.clock import Clock
from services.chassis.values.text import read_text
from services.transactions.domain.bank_accounts import HolderType
from services.transactions.domain.payments import FormerLife, Payment, find_difference
from services.transactions.domain.plaid import PlaidItem, PlaidTransfer
from services.transactions.domain.same_day import NOT_SAME_DAY, SameDayWays
from services.transactions.providers.plaid.client import PlaidClient, Refused
from services.transactions.providers.plaid.events import PlaidEvents
from services.transactions.providers.plaid.former_transfers import FormerTransfers
from services.transactions.providers.plaid.states import (
    CURRENCY,
    build_refused,
    check_decision,
    read_payment,
    spell_amount,
    spell_proved,
)
from services.transactions.providers.plaid.sweeps import PlaidSweeps
from services.transactions.providers.protocols import (
    TEXT_CHARACTERS_MAX,
    Declined,
    NotAsOrdered,
    OutcomeUnknown,
    PaymentOrder,
    ask_provider,
)
from services.transactions.store import plaid as store
from services.transactions.vault import KeyMissing, TokenFor, Vault, VaultError

R = TypeVar("R")

# Of an idempotency key, and of what stands on the holder's statement.
_KEY_CHARACTERS_MAX: Final = 50
_DESCRIPTION_CHARACTERS_MAX: Final = 15


class PlaidTransfers:
    """
    Args:
        base_url: Of Plaid, or of a stand-in.
        database: With the clock, keeps what Plaid authorized.
        vault: Seals the tokens of bank accounts; its codes over what was ordered nobody else makes.
        same_day: What is to settle on the day on which it is ordered, where Plaid has it in time.
        timeout_seconds: Of all that is asked for one answer, so that it comes within the lease of who waits for it.
    """

    def __init__(
        self,
        base_url: str,
        client_id: str,
        secret: str,
        database: Database,
        clock: Clock,
        vault: Vault,
        *,
        same_day: SameDayWays = NOT_SAME_DAY,
        timeout_seconds: float = 6,
    ) -> None:
        self._client = PlaidClient(base_url.rstrip("/"), client_id, secret, timeout_seconds)
        self._former = FormerTransfers(self._client, answer_seconds=timeout_seconds, wait_seconds=timeout_seconds)
        feed = f"{base_url.rstrip('/')} {client_id}"
        self.events = PlaidEvents(self._client, feed, timeout_seconds=timeout_seconds)
        self.sweeps = PlaidSweeps(self._client, feed, timeout_seconds=timeout_seconds)
        self._database = database
        self._clock = clock
        self._vault = vault
        self._same_day = same_day
        self._timeout_seconds = timeout_seconds

    async def close(self) -> None:
        self._former.close()
        await self._client.close()

    async def submit(self, order: PaymentOrder) -> Payment:
        return await self._within(self._submit(order))

    async def list_payments(
        self, reference: str, refunded_payment_id: str = "", former_life: FormerLife | None = None
    ) -> list[Payment]:
        """The transfers that were made of our authorizations: what others made there is none of them."""
        made = await self._within(self._list_payments(reference))
        if former_life is None:
            return made
        found = await self._former.list_transfers(reference, former_life)
        former = (read_payment(each, self._vault.is_proof) for each in found)
        known = {payment.payment_id for payment in made}
        return made + [each for each in former if each.reference == reference and each.payment_id not in known]

    async def get_payment(self, payment_id: str) -> Payment | None:
        return await self._within(self._get_payment(payment_id))

    async def _within(self, asked: Coroutine[Any, Any, R]) -> R:
        try:
            return await ask_provider(asked, self._timeout_seconds)
        except NotSealed as error:  # in the log by now; nothing is paid by what somebody else wrote
            raise OutcomeUnknown(str(error)) from None

    async def _submit(self, order: PaymentOrder) -> Payment:
        if order.amount.currency != CURRENCY:
            raise Declined("PAYMENT_METHOD_NOT_SUPPORTED", "Plaid moves US dollars.", retryable=False)
        async with self._database.begin() as tx:
            known = await store.list_by_key(tx, order.key)
        ordered = order.reference, order.amount, order.is_inbound, order.presentment
        for each in known:
            if (each.reference, each.amount, each.is_inbound, each.presentment) != ordered:
                raise OutcomeUnknown("another order has its key")
        account, token = await self._require_account(order)
        # Of those before the last it was certain that they make nothing, whatever is set back in the database since.
        if known and known[-1].ended_at is None:
            made = await self._make_or_end(order, known[-1], account, token)
            if made is not None:
                return made
        authorized = await self._authorize(order, account, token, number=len(known) + 1)
        made = await self._make_or_end(order, authorized, account, token, is_last=True)
        assert made is not None  # the last one is made, or refused
        return made

    async def _require_account(self, order: PaymentOrder) -> tuple[str, str]:
        """(Plaid's id of the bank account, the token for it); one that is new to Plaid is made known.

        Raises: Declined: its data are wrong.
        """
        digest = self._vault.digest(order.routing_number, order.account_number)
        async with self._database.begin() as tx:
            item = await store.find_item(tx, order.bank_account_id, digest)
        if item is None:
            item = await self._introduce(order, digest)
        sealed_for = TokenFor(current_principal().org_id, order.bank_account_id, item.account_number_digest)
        try:
            return item.account_id, self._vault.open(item.access_token_encrypted, sealed_for)
        except KeyMissing:  # for an operator to mend
            raise
        except VaultError:
            raise OutcomeUnknown("its token is not what was kept") from None

    async def _introduce(self, order: PaymentOrder, digest: str) -> PlaidItem:
        """Should two do so at once, both use what was kept first."""
        asked = TransferMigrateAccountRequest(
            account_number=order.account_number,
            routing_number=order.routing_number,
            account_type=order.account_type.lower(),
        )
        answer = await self._order(self._client.api.transfer_migrate_account, asked)
        try:
            account_id, token = (
                read_text(answer[name], TEXT_CHARACTERS_MAX) for name in ("account_id", "access_token")
            )
        except (KeyError, ValueError, TypeError):
            raise OutcomeUnknown("the provider's answer is no account") from None
        item = PlaidItem(
            account_id=account_id,
            bank_account_id=order.bank_account_id,
            account_number_digest=digest,
            access_token_encrypted=self._vault.seal(
                token, TokenFor(current_principal().org_id, order.bank_account_id, digest)
            ),
            created_at=self._clock.now(),
        )
        async with self._database.begin() as tx:
            if await store.ITEMS.insert_if_new(tx, item):
                return item
            kept = await store.find_item(tx, order.bank_account_id, digest)
        if kept is None:
            raise OutcomeUnknown("another bank account has its id at the provider")
        return kept

    async def _authorize(self, order: PaymentOrder, account_id: str, token: str, number: int) -> PlaidTransfer:
        """Raises: Declined."""
        is_same_day = self._same_day.takes(is_inbound=order.is_inbound, amount_minor=order.amount.amount_minor)
        asked = TransferAuthorizationCreateRequest(
            access_token=token,
            account_id=account_id,
            type=TransferType("debit" if order.is_inbound else "credit"),
            network=TransferNetwork("same-day-ach" if is_same_day else "ach"),
            ach_class=ACHClass(_choose_class(order)),
            amount=spell_amount(order.amount),
            user=TransferAuthorizationUserInRequest(legal_name=order.account_holder_name),
            idempotency_key=TransferAuthorizationIdempotencyKey(self._under(f"{order.key}:{number}")),
        )
        answer = await self._order(self._client.api.transfer_authorization_create, asked)
        try:
            decided = answer["authorization"]
            authorization_id = read_text(decided["id"], TEXT_CHARACTERS_MAX)
        except (KeyError, ValueError, TypeError):
            raise OutcomeUnknown("the provider's answer is no authorization") from None
        check_decision(decided)
        return await self._keep(order, account_id, authorization_id, number)

    async def _keep(self, order: PaymentOrder, account_id: str, authorization_id: str, number: int) -> PlaidTransfer:
        """What is kept of an authorization, before anything is made of it: the first one that was told counts."""
        now = self._clock.now()
        authorized = PlaidTransfer(
            authorization_id=authorization_id,
            provider_key=order.key,
            number=number,
            reference=order.reference,
            presentment=order.presentment,
            is_inbound=order.is_inbound,
            amount_minor=order.amount.amount_minor,
            currency=order.amount.currency,
            account_id=account_id,
            created_at=now,
            updated_at=now,
        )
        async with self._database.begin() as tx:
            if await store.TRANSFERS.insert_if_new(tx, authorized):
                return authorized
            kept = await store.list_by_key(tx, order.key)
        if not kept or kept[-1].number != number or kept[-1].ended_at is not None:
            raise OutcomeUnknown("another worker has it")
        return kept[-1]

    async def _make_or_end(
        self, order: PaymentOrder, authorized: PlaidTransfer, account_id: str, token: str, *, is_last: bool = False
    ) -> Payment | None:
        """The one transfer of an authorization; None where Plaid refuses it, and so never makes it.

        Args:
            is_last: What Plaid refuses of one that is new it refuses for good.

        Raises:
            Declined: it is refused for good.
        """
        if authorized.account_id != account_id:
            raise OutcomeUnknown("it was authorized for another account")
        told = order.reference, order.presentment
        proved = spell_proved(
            authorized.authorization_id, *told, is_inbound=order.is_inbound, amount=order.amount, account_id=account_id
        )
        metadata = {"reference": order.reference, "presentment": str(order.presentment)}
        asked = TransferCreateRequest(
            access_token=token,
            account_id=account_id,
            authorization_id=authorized.authorization_id,
            amount=spell_amount(order.amount),
            description=_describe(order),
            metadata=TransferMetadata(**metadata, proof=self._vault.prove(proved)),
        )
        try:
            answer = await self._client.call(self._client.api.transfer_create, asked)
        except Refused as refusal:
            found = await self._end(authorized)
            if found is None and is_last:
                raise build_refused(refusal.code) from None
            return found
        return await self._record(authorized, self._read(answer))

    async def _end(self, authorized: PlaidTransfer) -> Payment | None:
        """Sees to it that nothing is made of an authorization any more; the transfer, where one was made.

        Raises: OutcomeUnknown: one may be made.
        """
        cancelling, is_cancelled = TransferAuthorizationCancelRequest(authorized.authorization_id), True
        try:
            await self._client.call(self._client.api.transfer_authorization_cancel, cancelling)
        except Refused:
            is_cancelled = False
        found = await self._find_made(authorized)
        if found is not None:
            return await self._record(authorized, found)
        if not is_cancelled and not authorized.has_expired(self._clock.now()):
            raise OutcomeUnknown("a transfer may be made of its authorization still")
        async with self._database.begin() as tx:
            await store.save_end(tx, authorized.authorization_id, self._clock.now())
        return None

    async def _record(self, authorized: PlaidTransfer, payment: Payment) -> Payment:
        """Notes which transfer it is. Raises: NotAsOrdered."""
        wrong = find_difference(
            payment,
            reference=authorized.reference,
            amount=authorized.amount,
            is_inbound=authorized.is_inbound,
            presentment=authorized.presentment,
        )
        if wrong:
            raise NotAsOrdered(f"the provider's answer differs in {wrong}", payment.payment_id)
        if authorized.transfer_id is None:
            async with self._database.begin() as tx:
                await store.save_transfer_id(tx, authorized.authorization_id, payment.payment_id, self._clock.now())
        return payment

    async def _list_payments(self, reference: str) -> list[Payment]:
        async with self._database.begin() as tx:
            known = await store.list_by_reference(tx, reference)
        payments = []
        for authorized in known:
            found = await self._find_made(authorized)
            if found is not None:
                payments.append(await self._record(authorized, found))
        return payments

    async def _find_made(self, authorized: PlaidTransfer) -> Payment | None:
        if authorized.transfer_id is not None:
            asked = TransferGetRequest(transfer_id=authorized.transfer_id)
        else:
            asked = TransferGetRequest(authorization_id=authorized.authorization_id)
        return await self._find(asked)

    async def _get_payment(self, payment_id: str) -> Payment | None:
        return await self._find(TransferGetRequest(transfer_id=payment_id)) if payment_id else None

    async def _find(self, asked: TransferGetRequest) -> Payment | None:
        """None where Plaid refuses the question: it has nothing but an id, so there is no transfer of it."""
        try:
            answer = await self._client.call(self._client.api.transfer_get, asked)
        except Refused:
            return None
        return self._read(answer)

    def _read(self, answer: Mapping[str, Any]) -> Payment:
        return read_payment(answer.get("transfer") or {}, self._vault.is_proof)

    async def _order(self, ask: Any, asked: Any) -> dict[str, Any]:
        """Raises: Declined: Plaid refuses what was ordered."""
        try:
            return await self._client.call(ask, asked)
        except Refused as refusal:
            raise build_refused(refusal.code) from None

    def _under(self, key: str) -> str:
        """Nobody else knows which key comes next, so nobody uses it up; and it stays where our own keys are rotated."""
        return self._vault.prove(key)[:_KEY_CHARACTERS_MAX]


def _describe(order: PaymentOrder) -> str:
    """What the holder reads; what is presented again says so. Source: plaid.com/docs/transfer/troubleshooting."""
    again = order.presentment - 1
    return f"Retry {again}" if again else order.description[:_DESCRIPTION_CHARACTERS_MAX]


def _choose_class(order: PaymentOrder) -> str:
    """Source: Nacha Operating Rules, Section 2.5: a company's entry; an internet-initiated debit, and a credit, of a
    consumer."""
    if order.holder_type == HolderType.COMPANY:
        return "ccd"
    return "web" if order.is_inbound else "ppd"
