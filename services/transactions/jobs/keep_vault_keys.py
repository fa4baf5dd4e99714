"""Brings the keys of the vault: reads them as they are kept, has them unwrapped, and says which the vault holds.

So whoever opens a value asks nobody, and may do so inside a transaction. It also makes the keys that are due, and has
the newest wrapping key wrap those that an older one wrapped, a few at a time: what a crash left is found by the next
run, of whichever process. The key inside stays the same, so every value opens all the while.

A key that could not be unwrapped for an hour is held no longer: who takes the right to unwrap away from this service
ends what it can open. Until then, and for good where a key is missing, it is an alarm.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

from prometheus_client import Gauge

from services.chassis.data.database import Database
from services.chassis.process.health import Alarms, note_alarm
from services.chassis.process.jobs import Job
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock
from services.chassis.values.ids import new_id
from services.transactions.domain.vault_keys import Purpose, VaultKey, list_due, sort_by_use
from services.transactions.store import vault_keys as store
from services.transactions.vault import Vault, VaultError
from services.transactions.wrapping import KeyWrapper

VAULT_KEYS = Gauge(
    "realco_vault_keys", "Keys of the vault, by the wrapping key that they need.", ["wrapped_by", "is_newest"]
)
HELD_SECONDS: Final = 3600.0
_INTERVAL_SECONDS: Final = 60.0
_CALL_SECONDS: Final = 10.0
_WRAPPED_MAX: Final = 10
_KEY_BYTES: Final = 32
_ALARM, _INDEX_ALARM = "vault keys", "vault index"


class VaultKeeper:
    """
    Args:
        elapsed: Seconds, which nobody sets.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wrapper: KeyWrapper,
        vault: Vault,
        alarms: Alarms,
        *,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._wrapper = wrapper
        self._vault = vault
        self._alarms = alarms
        self._elapsed = elapsed
        # By id, the keys that are held, and when each was last unwrapped.
        self._held: dict[str, tuple[bytes, float]] = {}

    def job(self) -> Job:
        return Job("keep_vault_keys", self.run, _INTERVAL_SECONDS)

    async def run(self) -> int:
        """How many keys were made, or wrapped anew."""
        keys = await store.list_vault_keys(self._database)
        self._forget_old()
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                newest = await self._wrapper.read_newest()
            missing = [each for each in keys if not await self._unwrap(each)]
        finally:
            self._hold(keys)
        self._tell(keys, newest, missing)
        made = await self._make_due(keys, newest, missing)
        return made or await self._wrap_anew(keys, newest, missing)

    async def start(self) -> None:
        """Has the vault hold what there is. Whoever serves without a key says so, and serves what needs none."""
        while await self.run():
            pass

    def _forget_old(self) -> None:
        since = self._elapsed() - HELD_SECONDS
        self._held = {key_id: held for key_id, held in self._held.items() if held[1] > since}

    async def _unwrap(self, kept: VaultKey) -> bool:
        """False: it is told why not, and what is held of it stays for a while."""
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                key = await self._wrapper.unwrap(kept.wrapped_key, kept.wrapped_by, kept.context)
        except VaultError as error:
            log.error("vault_key_missing", vault_key_id=kept.vault_key_id, cause=str(error))
            return False
        self._held[kept.vault_key_id] = key, self._elapsed()
        return True

    def _hold(self, keys: Sequence[VaultKey]) -> None:
        held = [each for each in keys if each.vault_key_id in self._held]
        sealing = sort_by_use([each for each in held if each.purpose is Purpose.SEAL], self._clock.now())
        index = next((each for each in held if each.purpose is Purpose.INDEX), None)
        self._vault.hold(
            [self._held[each.vault_key_id][0] for each in sealing],
            None if index is None else self._held[index.vault_key_id][0],
        )

    def _tell(self, keys: Sequence[VaultKey], newest: str, missing: Collection[VaultKey]) -> None:
        VAULT_KEYS.clear()
        for wrapped_by, count in Counter(each.wrapped_by for each in keys).items():
            VAULT_KEYS.labels(wrapped_by, str(wrapped_by == newest).lower()).set(count)
        names = ", ".join(sorted({each.wrapped_by for each in missing}))
        note_alarm(self._alarms, _ALARM, f"{len(missing)} do not open: bring {names} back" if missing else "")

    async def _make_due(self, keys: Sequence[VaultKey], newest: str, missing: Collection[VaultKey]) -> int:
        """Not while the last one does not open: the wrapping keys of this process may be those of yesterday.

        Nor another one of the index: no account would be known again, whoever forbade it, or approved a payment to it.
        """
        now, made = self._clock.now(), 0
        due = [] if keys and keys[-1] in missing else list_due(keys, newest, now)
        if Purpose.INDEX in due and await store.is_index_in_use(self._database):
            log.error("vault_index_lost")
            note_alarm(self._alarms, _INDEX_ALARM, "lost: restore its row")
            return 0
        note_alarm(self._alarms, _INDEX_ALARM, "")
        for purpose in due:
            key_id, secret = new_id("vk"), os.urandom(_KEY_BYTES)
            key = VaultKey(
                vault_key_id=key_id, purpose=purpose, wrapped_key=b"", wrapped_by="", created_at=now, updated_at=now
            )
            wrapped = await self._wrap(key, secret, newest)
            async with self._database.begin_for_all() as tx:
                made += await store.insert_vault_key(tx, wrapped)
        return made

    async def _wrap_anew(self, keys: Sequence[VaultKey], newest: str, missing: Collection[VaultKey]) -> int:
        due = [each for each in keys if each.wrapped_by != newest and each not in missing]
        done = 0
        for each in due[:_WRAPPED_MAX]:
            wrapped = await self._wrap(each, self._held[each.vault_key_id][0], newest)
            async with self._database.begin_for_all() as tx:
                done += await store.save_wrapped(tx, each, wrapped, self._clock.now())
        if done:
            log.info("vault_keys_wrapped_anew", count=done, left=len(due) - done, wrapped_by=newest)
        return done

    async def _wrap(self, key: VaultKey, secret: bytes, by: str) -> VaultKey:
        """The key, wrapped so that it comes back: who may wrap with a key and not unwrap would lose all of them.

        Raises: VaultError: it does not.
        """
        async with asyncio.timeout(_CALL_SECONDS):
            wrapped = await self._wrapper.wrap(secret, by, key.context)
            if await self._wrapper.unwrap(wrapped, by, key.context) != secret:
                raise VaultError("what was wrapped is not what comes back")
        return replace(key, wrapped_key=wrapped, wrapped_by=by)
