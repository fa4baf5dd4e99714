"""A bank that takes and gives files of the ACH network, by two folders, and a service that writes and reads them."""

from __future__ import annotations

import os
import re
import time
from datetime import datetime
from datetime import time as time_of_day
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from realco.transactions.v1 import transactions_pb2

from services.chassis.data.database import Database
from services.transactions.domain.same_day import SameDay
from services.transactions.jobs.write_ach_files import write_ach_files
from services.transactions.providers.ach_file import NAME
from services.transactions.providers.ach_file.acknowledgements import AcknowledgementConfig
from services.transactions.providers.ach_file.config import AchFileConfig
from services.transactions.providers.ach_file.nacha import Company
from services.transactions.providers.choice import Carriers, ProviderChoice
from tests.support.databases import open_database
from tests.support.transactions import MONDAY, TransactionsHarness

T = transactions_pb2.Transaction
COMPANY = Company("091000019", "First Custodian", "1234567890", "RealCo", "09100001", "RealCo Escrow", "1234567890")
SUMS = r"(?P<entries>\S+) (?P<debits>\S+) (?P<credits>\S+)"
ACKNOWLEDGED = AcknowledgementConfig(
    "*.ack",
    re.compile(rf"FILE (?P<file>\S+) ACCEPTED {SUMS}"),
    re.compile(rf"FILE (?P<file>\S+) REJECTED {SUMS}(?P<reason>.*)"),
)
CUT_OFF = datetime(2024, 12, 2, 20, 30, tzinfo=MONDAY.tzinfo)


class Folders:
    """Where files go out and come in."""

    def __init__(self, root: Path) -> None:
        self.outbound, self.inbound = root / "out", root / "in"
        self.outbound.mkdir()
        self.inbound.mkdir()

    @property
    def sent(self) -> list[bytes]:
        return [each.read_bytes() for each in sorted(self.outbound.glob("*.ach"))]

    def put(self, name: str, content: bytes) -> None:
        """The bank puts a file there, a while ago."""
        path = self.inbound / name
        path.write_bytes(content)
        long_ago = time.time() - 60
        os.utime(path, (long_ago, long_ago))

    def list_of(self, folder: str) -> list[str]:
        return sorted(each.name for each in (self.inbound / folder).glob("*"))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
def acknowledges() -> bool:
    """Whether the bank says what it accepts."""
    return False


@pytest.fixture
def same_day() -> SameDay | None:
    """Through which windows what it takes settles today."""
    return None


@pytest.fixture
def prenotes() -> bool:
    """Whether banks are asked about accounts first."""
    return False


@pytest.fixture
async def ach_urls(service_urls) -> SimpleNamespace:
    urls: SimpleNamespace = await service_urls("transactions")
    return urls


@pytest.fixture
async def ach_service(
    ach_urls: SimpleNamespace, folders: Folders, same_day: SameDay | None, *, acknowledges: bool, prenotes: bool
) -> TransactionsHarness:
    config = AchFileConfig(
        folders.outbound,
        folders.inbound,
        [time_of_day(20, 30)],
        COMPANY,
        acknowledgements=ACKNOWLEDGED if acknowledges else None,
        same_day=same_day,
        prenotes=prenotes,
    )
    choice = ProviderChoice(all_organizations={"ACH": Carriers(NAME, NAME)})
    return TransactionsHarness(open_database(ach_urls, "transactions"), choice=choice, ach=config)


async def order(service: TransactionsHarness) -> tuple[Any, Any]:
    """A contribution and a payout that wait for the file."""
    deposit, payout = await service.deposit(), await service.payout("inv-002", "08")
    await service.work()
    for each in (deposit, payout):
        seen = await service.get(each.transaction_id)
        assert (seen.status, seen.provider) == (T.PENDING_SETTLEMENT, NAME)
    return deposit, payout


async def leave(service: TransactionsHarness, at: datetime = CUT_OFF) -> None:
    service.clock.set(at)
    await service.run(write_ach_files)


async def be_kept_from_leaving(service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is made at the cut-off, and not released."""
    with monkeypatch.context() as patch:
        patch.setattr(import_module("services.transactions.jobs.write_ach_files"), "write_file", lambda *_: 1 / 0)
        await leave(service)


async def pay_by_file(database: Database, root: Path) -> tuple[TransactionsHarness, Any]:
    """A service that pays by files, and a payout of it that has settled."""
    folders = Folders(root)
    ach = AchFileConfig(folders.outbound, folders.inbound, [CUT_OFF.time()], COMPANY)
    choice = ProviderChoice(all_organizations={"ACH": Carriers(NAME, NAME)})
    service = TransactionsHarness(database, choice=choice, ach=ach)
    payout = await service.payout("inv-011", "11")
    await service.work()
    await leave(service)
    service.clock.set(CUT_OFF.replace(day=3))
    await service.work(hurried=True)
    return service, payout
