"""Whatever becomes of the wrapping keys and of who wraps, each value opens, and a missing key is told."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.data.database import Database
from services.chassis.process.health import Alarms
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import DomainError
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.vault_keys import SEALS_FOR
from services.transactions.jobs.keep_vault_keys import HELD_SECONDS, VaultKeeper
from services.transactions.rotation import describe_keys
from services.transactions.store.vault_keys import list_vault_keys
from services.transactions.vault import KeyMissing, SealedFor, Vault
from services.transactions.wrapping import Keyring, KeyWrapper
from tests.support import servers
from tests.support.bank_accounts import build_bank_account
from tests.support.transactions import ADMIN, MONDAY, TransactionsHarness
from tests.support.vault import write_keyring

HERE = SealedFor.of("org-1", build_bank_account())
OPEN_TRANSACTIONS = """
SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""


class Remote:
    """A wrapper as far away as a KMS: it is asked in no transaction, and dies after so many calls."""

    def __init__(self, keyring: Keyring, database: Database, calls_max: int = 1_000_000) -> None:
        self._keyring, self._database, self.left = keyring, database, calls_max

    async def _travel(self) -> None:
        [found] = await self._database.send_for_all(OPEN_TRANSACTIONS)
        assert found["n"] == 0
        self.left -= 1
        if self.left < 0:
            raise ConnectionError

    async def read_newest(self) -> str:
        await self._travel()
        return await self._keyring.read_newest()

    async def wrap(self, key: bytes, by: str, context: str) -> bytes:
        await self._travel()
        return await self._keyring.wrap(key, by, context)

    async def unwrap(self, wrapped: bytes, by: str, context: str) -> bytes:
        await self._travel()
        return await self._keyring.unwrap(wrapped, by, context)


class WrapsOnly(Remote):
    """It may use its newest key to wrap, and not to unwrap."""

    async def unwrap(self, wrapped: bytes, by: str, context: str) -> bytes:
        if by == await self.read_newest():
            raise KeyMissing("no right to decrypt")
        return await super().unwrap(wrapped, by, context)


class Process:
    """One of those that serve: its vault, and who keeps that."""

    def __init__(
        self, database: Database, wrapper: KeyWrapper, clock: FakeClock | None = None, vault: Vault | None = None
    ) -> None:
        self.vault, self.alarms, self.seconds = vault or Vault(), Alarms(), 0.0
        clock = clock or FakeClock(MONDAY)
        self.keeper = VaultKeeper(database, clock, wrapper, self.vault, self.alarms, elapsed=lambda: self.seconds)


@pytest.fixture
async def database(service_database) -> Database:
    return await service_database("transactions")


@pytest.mark.parametrize("seed", range(4))
async def test_each_value_opens_after_any_interleaving_of_rotations_and_crashes(
    database: Database, tmp_path: Path, seed: int
) -> None:
    chosen, clock, ring = random.Random(seed), FakeClock(MONDAY), [os.urandom(32)]
    remote = Remote(write_keyring(tmp_path, *ring), database)
    processes = [Process(database, remote, clock) for _ in range(2)]
    for each in processes:
        await each.keeper.start()
    sealed = [processes[0].vault.seal("0", HERE)]
    for step in range(60):
        process = chosen.choice(processes)
        match chosen.choice(["rotate", "take out", "age", "run", "crash", "crash", "seal", "restart"]):
            case "rotate":
                ring.insert(0, os.urandom(32))
            case "take out":
                used = {each.wrapped_by for each in await list_vault_keys(database)}
                ids = write_keyring(tmp_path, *ring).list_ids()
                ring = [key for key, key_id in zip(ring, ids, strict=True) if key_id in used or key is ring[0]]
            case "age":
                clock.advance(chosen.choice([timedelta(minutes=4), timedelta(hours=2), SEALS_FOR]))
            case "crash":
                remote.left = chosen.randrange(8)
                with suppress(ConnectionError):
                    await process.keeper.run()
                remote.left = 1_000_000
            case "seal":
                sealed.append(process.vault.seal(str(step), HERE))
            case "restart":
                processes[processes.index(process)] = process = Process(database, remote, clock)
        write_keyring(tmp_path, *ring)
        for each in processes:  # as each does every minute
            await each.keeper.run()
            assert each.alarms == {}
            assert all(each.vault.open(value, HERE) for value in sealed)
    await processes[0].keeper.start()
    last = Process(database, Remote(write_keyring(tmp_path, ring[0]), database), clock)
    await last.keeper.start()
    assert all(last.vault.open(value, HERE) for value in sealed)
    assert len({each.vault.digest("021000021", "42") for each in (last, *processes)}) == 1


async def test_two_that_start_at_once_have_one_index(database: Database, tmp_path: Path) -> None:
    ring = write_keyring(tmp_path, b"a" * 32)
    processes = [Process(database, ring) for _ in range(4)]
    await asyncio.gather(*(each.keeper.start() for each in processes))
    await asyncio.gather(*(each.keeper.run() for each in processes))
    assert len({each.vault.digest("021000021", "42") for each in processes}) == 1
    assert len({each.vault.open(processes[0].vault.seal("42", HERE), HERE) for each in processes}) == 1


async def test_a_key_that_is_taken_out_too_early_is_told_and_brought_back(database: Database, tmp_path: Path) -> None:
    process = Process(database, write_keyring(tmp_path, b"a" * 32))
    await process.keeper.start()
    sealed, digest = process.vault.seal("42", HERE), process.vault.digest("021000021", "42")
    [first] = {each.wrapped_by for each in await list_vault_keys(database)}
    ring = write_keyring(tmp_path, b"b" * 32)
    await process.keeper.run()
    assert process.alarms == {"vault keys": f"2 do not open: bring {first} back"}
    assert await describe_keys(database, ring.list_ids()) == [
        f"{ring.list_ids()[0]} wraps new keys, and 0 of those that there are",
        f"{first} wraps 2 keys, and is not in the file: bring it back",
    ]
    labels = {"wrapped_by": first, "is_newest": "false"}
    assert REGISTRY.get_sample_value("realco_vault_keys", labels) == 2
    assert process.vault.open(sealed, HERE) == "42", "what is held serves for an hour"
    other = Process(database, ring)
    for each in (process, other):
        each.seconds = HELD_SECONDS + 1
        await each.keeper.start()
        with pytest.raises(KeyMissing):
            each.vault.open(sealed, HERE)
        with pytest.raises(KeyMissing):
            each.vault.digest("021000021", "42")
    assert len(await list_vault_keys(database)) == 2, "nobody makes another index"
    write_keyring(tmp_path, b"b" * 32, b"a" * 32)
    for each in (process, other):
        await each.keeper.start()
        assert (each.vault.open(sealed, HERE), each.vault.digest("021000021", "42"), each.alarms) == ("42", digest, {})
    assert REGISTRY.get_sample_value("realco_vault_keys", labels) is None
    assert await describe_keys(database, write_keyring(tmp_path, b"b" * 32, b"a" * 32).list_ids()) == [
        f"{ring.list_ids()[0]} wraps new keys, and 2 of those that there are",
        f"{first} wraps 0 keys: it may be taken out of the file",
    ]


async def test_what_nobody_can_ask_about_opens_for_an_hour_and_no_longer(database: Database, tmp_path: Path) -> None:
    remote = Remote(write_keyring(tmp_path, b"a" * 32), database)
    process = Process(database, remote)
    await process.keeper.start()
    sealed, remote.left = process.vault.seal("42", HERE), 0
    for seconds in (HELD_SECONDS - 1, HELD_SECONDS + 1):
        process.seconds = seconds
        with pytest.raises(ConnectionError):
            await process.keeper.run()
        if seconds < HELD_SECONDS:
            assert process.vault.open(sealed, HERE) == "42"
    with pytest.raises(KeyMissing):
        process.vault.open(sealed, HERE)
    remote.left = 100
    await process.keeper.run()
    assert process.vault.open(sealed, HERE) == "42"


async def test_no_key_is_kept_as_it_does_not_unwrap(database: Database, tmp_path: Path) -> None:
    await Process(database, write_keyring(tmp_path, b"a" * 32)).keeper.start()
    process = Process(database, WrapsOnly(write_keyring(tmp_path, b"b" * 32, b"a" * 32), database))
    before = await list_vault_keys(database)
    with pytest.raises(KeyMissing):
        await process.keeper.run()
    assert await list_vault_keys(database) == before
    assert process.vault.open(process.vault.seal("42", HERE), HERE) == "42"


async def test_the_index_is_never_made_a_second_time(
    database: Database, tmp_path: Path, postgres: servers.TestPostgres
) -> None:
    service = TransactionsHarness(database)
    process = Process(database, write_keyring(tmp_path, b"a" * 32), service.clock, service.dependencies.vault)
    await process.keeper.start()
    payout = await service.payout("inv-001")
    await servers.tamper(
        postgres.admin_dsn,
        database,
        "CREATE TABLE backup AS SELECT * FROM vault_keys; DELETE FROM vault_keys WHERE purpose = 'INDEX'",
    )
    await process.keeper.start()
    assert process.alarms == {"vault index": "lost: restore its row"}
    await service.work()
    assert (await service.get(payout.transaction_id)).status == pb.Transaction.PROCESSING
    with pytest.raises(DomainError):
        await service.bank_account("inv-002")
    back = "INSERT INTO vault_keys SELECT * FROM backup WHERE purpose = 'INDEX'; DROP TABLE backup"
    await servers.tamper(postgres.admin_dsn, database, back)
    await process.keeper.start()
    await service.work(hurried=True)
    seen = await service.get(payout.transaction_id)
    assert (seen.status, process.alarms) == (pb.Transaction.PENDING_SETTLEMENT, {})


async def test_accounts_are_added_and_payouts_made_while_keys_are_rotated(database: Database, tmp_path: Path) -> None:
    service, ring = TransactionsHarness(database), [os.urandom(32)]
    process = Process(database, write_keyring(tmp_path, *ring), service.clock, service.dependencies.vault)
    await process.keeper.start()
    forbidden = await service.deposit("inv-001")
    await service.work()
    service.bank.report(forbidden.transaction_id, PaymentStatus.RETURNED, "R07", at=service.clock.now())
    await service.work(hurried=True)
    later = await service.deposit("inv-003", "03")
    await service.work()
    done = asyncio.Event()

    async def rotate() -> int:
        rounds = 0
        while not done.is_set() or rounds == 0:
            ring[:] = [os.urandom(32), *ring]
            write_keyring(tmp_path, *ring)
            await process.keeper.start()
            ring[:] = ring[:1]
            write_keyring(tmp_path, *ring)
            rounds += 1
        return rounds

    rotating = asyncio.ensure_future(rotate())
    payouts = []
    for number in range(8):
        payouts.append(await service.payout(f"inv-10{number}", f"{number}1"))
        await service.work()
    done.set()
    assert await rotating > 1
    seen = [(await service.get(each.transaction_id)).status for each in payouts]
    assert seen == [pb.Transaction.PENDING_SETTLEMENT] * 8
    assert [order.account_number[-2:] for order in service.bank.orders][2:] == [f"{number}1" for number in range(8)]
    added = await service.bank_account("inv-004", "03")
    service.bank.report(later.transaction_id, PaymentStatus.RETURNED, "R07", at=service.clock.now())
    await service.work(hurried=True)
    accounts = (await service.ask(ADMIN, "ListBankAccounts", bank_pb.ListBankAccountsRequest())).bank_accounts
    status = {each.bank_account_id: each.status for each in accounts}
    assert status[later.bank_account_id] == bank_pb.BankAccount.BLOCKED
    assert status[added.bank_account_id] == bank_pb.BankAccount.SUSPENDED, "the same account, added after the rotations"
    for party_id in ("inv-001", "inv-002"):  # what a bank forbade before
        with pytest.raises(DomainError, match="forbidden"):
            await service.bank_account(party_id)
    assert process.alarms == {}


async def test_without_its_keys_no_account_is_added_and_no_payout_fails(database: Database, tmp_path: Path) -> None:
    service = TransactionsHarness(database)
    process = Process(database, write_keyring(tmp_path, b"a" * 32), service.clock, service.dependencies.vault)
    await process.keeper.start()
    payout = await service.payout("inv-001")
    service.dependencies.vault.hold((), None)
    with pytest.raises(DomainError) as refusal:
        await service.bank_account("inv-002")
    assert refusal.value.reason == "UNAVAILABLE"
    await service.work()
    assert (await service.get(payout.transaction_id)).status == pb.Transaction.PROCESSING
    await process.keeper.run()
    await service.work(hurried=True)
    assert (await service.get(payout.transaction_id)).status == pb.Transaction.PENDING_SETTLEMENT
    assert (await service.ask(ADMIN, "ListBankAccounts", bank_pb.ListBankAccountsRequest())).bank_accounts


async def test_a_login_of_the_database_spoils_no_key_and_has_none_used(
    database: Database, tmp_path: Path, postgres: servers.TestPostgres
) -> None:
    ring = write_keyring(tmp_path, b"a" * 32)
    process = Process(database, ring)
    await process.keeper.start()
    sealed = process.vault.seal("42", HERE)
    spoil = sa.text("UPDATE vault_keys SET wrapped_key = 'x', version = version + 1, proof = 'x'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.begin_for_all() as tx:
            await tx.execute(spoil)
    copied = sa.text(
        "INSERT INTO vault_keys SELECT 'vk_x', 'SEAL', wrapped_key, wrapped_by, '2100-01-01', now(),"
        " version, proof_digest, NULL, seal FROM vault_keys WHERE purpose = 'SEAL'"
    )
    async with database.begin_for_all() as tx:
        await tx.execute(copied)
    old = (await database.send_for_all("SELECT * FROM public.vault_keys WHERE purpose = 'INDEX'"))[0]
    write_keyring(tmp_path, b"b" * 32, b"a" * 32)
    await process.keeper.start()
    assert process.vault.open(sealed, HERE) == "42"
    # As the owner, the key as it was wrapped before: it is the same key, for whoever has that wrapping key still.
    digest, was = process.vault.digest("021000021", "42"), {name: f"'{value}'" for name, value in old.items()}
    was |= {name: f"'\\x{old[name].hex()}'" for name in ("wrapped_key", "proof_digest", "seal")} | {"proof": "NULL"}
    set_back = ", ".join(f"{name} = {value}" for name, value in was.items())
    await servers.tamper(
        postgres.admin_dsn,
        database,
        "ALTER TABLE vault_keys DISABLE TRIGGER USER;"
        f"UPDATE vault_keys SET {set_back} WHERE purpose = 'INDEX'; ALTER TABLE vault_keys ENABLE TRIGGER USER",
    )
    await process.keeper.start()
    assert (process.vault.digest("021000021", "42"), process.alarms) == (digest, {})
