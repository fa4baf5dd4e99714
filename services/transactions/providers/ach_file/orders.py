"""Takes orders as entries that wait for the next file, and says how they stand: all of it stands in our own tables."""

from __future__ import annotations

from datetime import date

from services.chassis.calls.auth import current_principal
from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.values.clock import Clock
from services.chassis.values.ids import new_id
from services.transactions.domain.ach import (
    AchEntry,
    AchFile,
    PaymentEntry,
    build_reversal,
    find_effective_day,
    find_next_cut_off,
    to_payment,
    to_reversing_payment,
)
from services.transactions.domain.bank_accounts import HolderType
from services.transactions.domain.payments import FormerLife, Payment
from services.transactions.domain.prenotes import Standing, build_failure
from services.transactions.providers.ach_file.config import AchFileConfig
from services.transactions.providers.ach_file.nacha import ENTRY_MINOR_MAX
from services.transactions.providers.ach_file.prenotes import judge_or_ask
from services.transactions.providers.protocols import Declined, OutcomeUnknown, PaymentOrder
from services.transactions.store import ach
from services.transactions.vault import SealedFor, Vault


class AchFileOrders:
    def __init__(self, config: AchFileConfig, database: Database, clock: Clock, vault: Vault) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._vault = vault

    async def close(self) -> None:
        """Nothing is open."""

    async def submit(self, order: PaymentOrder) -> Payment:
        org_id = current_principal().org_id
        if self._config.find_company(org_id) is None:
            raise Declined("PAYMENT_METHOD_NOT_SUPPORTED", "No company sends entries for you.", retryable=False)
        if order.amount.amount_minor > ENTRY_MINOR_MAX:
            raise Declined("INVALID_PAYMENT_DATA", "An entry has ten digits for its amount.", retryable=False)
        entry = self._build_entry(org_id, order)
        async with self._database.begin() as tx:
            if self._config.prenotes and await ach.find_attempt(tx, order.key) is None:
                judgement = await judge_or_ask(tx, entry, self._clock.now(), self._clock.now())
                if judgement.standing is Standing.REFUSED:
                    failure = build_failure(judgement.return_code)
                    raise Declined(failure.code, failure.message, retryable=False, metadata=failure.metadata)
            if await ach.ENTRIES.insert_if_new(tx, entry):
                return to_payment(entry, None, self._clock.now())
            known = await ach.find_attempt(tx, order.key)
        if known is None or (known.transaction_id, known.amount) != (order.reference, order.amount):
            raise OutcomeUnknown("another order has its key")
        return await self._to_payment(known)

    async def list_payments(
        self, reference: str, refunded_payment_id: str = "", former_life: FormerLife | None = None
    ) -> list[Payment]:
        async with self._database.begin() as tx:
            found = await ach.list_attempts(tx, reference)
        return [await self._to_payment(entry) for entry in found]

    async def get_payment(self, payment_id: str) -> Payment | None:
        entry = await ach.find_anybodys_entry(self._database, payment_id)
        return await self._to_payment(entry) if isinstance(entry, PaymentEntry) else None

    async def get_reversal_day(self) -> date:
        cut_off = find_next_cut_off(self._config.cut_offs, self._clock.now())
        return find_effective_day(cut_off.date())

    async def reverse_payment(self, payment_id: str, key: str) -> None:
        async with self._database.begin() as tx:
            entry = await ach.ENTRIES.find(tx, payment_id)
            if not isinstance(entry, PaymentEntry) or entry.is_inbound:
                raise OutcomeUnknown("it has no such payout")
            reversal = build_reversal(entry, new_id("ach"), key, self._clock.now())
            try:  # the same once more is there already
                await ach.ENTRIES.insert_if_new(tx, reversal)
            except NotSealed:  # in the log by now
                raise OutcomeUnknown("a row that this service did not write has the place of its debit") from None

    async def _to_payment(self, entry: PaymentEntry) -> Payment:
        now, reversal = self._clock.now(), None
        reversing = await ach.find_anybodys_reversal(self._database, entry.ach_entry_id)
        if reversing is not None:
            reversal = to_reversing_payment(reversing, await self._find_file(reversing), now)
        return to_payment(entry, await self._find_file(entry), now, reversal)

    async def _find_file(self, entry: AchEntry) -> AchFile | None:
        if entry.ach_file_id is None:
            return None
        return await ach.find_anybodys_file(self._database, entry.ach_file_id)

    def _build_entry(self, org_id: str, order: PaymentOrder) -> PaymentEntry:
        now = self._clock.now()
        sealed_for = SealedFor.of(org_id, order)
        return PaymentEntry(
            ach_entry_id=new_id("ach"),
            provider_key=order.key,
            transaction_id=order.reference,
            party_id=order.party_id,
            bank_account_id=order.bank_account_id,
            is_inbound=order.is_inbound,
            amount_minor=order.amount.amount_minor,
            currency=order.amount.currency,
            presentment=order.presentment,
            routing_number=order.routing_number,
            account_number_encrypted=self._vault.seal(order.account_number, sealed_for),
            account_type=order.account_type,
            holder_type=HolderType(order.holder_type),
            account_holder_name=order.account_holder_name,
            description=order.description,
            created_at=now,
            updated_at=now,
        )
