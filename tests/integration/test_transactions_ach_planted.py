"""What somebody lays in the place of a folder of ours leads nowhere: nothing is written, read or moved there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.jobs.watch_ach_files import watch_ach_files
from tests.integration.ach_desk import CUT_OFF, T, leave, order
from tests.support.ach import build_returns, list_sent
from tests.support.transactions import TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder that only this service may write to, and from which its programs or settings are read."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "master_key").write_bytes(b"whole")
    return folder


def plant(own: Path, theirs: Path) -> None:
    """A link in the place of a folder of ours."""
    if own.exists():
        own.rmdir()
    own.symlink_to(theirs)


@pytest.mark.parametrize("is_link", [True, False])
async def test_nobody_has_a_file_written_elsewhere(service, folders, theirs, *, is_link: bool) -> None:
    """What lies in the place of the folder in which a file is made is set aside, and told as all that is not ours."""
    await order(service)
    odd = folders.outbound / ".staging"
    odd.symlink_to(theirs) if is_link else odd.write_bytes(b"no folder")
    await leave(service)
    assert len(folders.sent) == 1
    assert [each.name for each in theirs.iterdir()] == ["master_key"]


@pytest.mark.parametrize("folder", ["rejected", "processed", "questions", ".reading"])
async def test_nobody_has_a_file_of_a_bank_put_elsewhere(service, folders, theirs, folder) -> None:
    """They are put away where they belong, and what lay in the place of that folder is set aside, and told."""
    deposit, _ = await order(service)
    await leave(service)
    sent = next(each for each in list_sent(folders.sent[0]) if each.amount_minor == 100_00)
    strange = sent._replace(line=f"{sent.line[:-7]}9999999")
    day = (CUT_OFF + timedelta(days=1)).date()
    folders.put("code.pth", b"import os")
    folders.put("returns.ach", build_returns([(sent, "R02")], day))
    folders.put("strange.ach", build_returns([(strange, "R02")], day))
    plant(folders.inbound / folder, theirs)
    await service.run(read_ach_files)
    assert [each.name for each in theirs.iterdir()] == ["master_key"]
    assert "code.pth" in folders.list_of("rejected")
    assert (folders.list_of("processed"), folders.list_of("questions")) == (["returns.ach"], ["strange.ach"])
    assert (await service.get(deposit.transaction_id)).status == T.RETURNED


async def test_what_lies_in_the_place_of_what_is_held_or_made_leads_nowhere(service, folders, theirs) -> None:
    await order(service)
    await leave(service)
    for name in (".held", ".staging"):
        plant(folders.outbound / name, theirs)
    (folders.outbound / "code.pth").write_bytes(b"import os")
    with capture_logs() as logs:
        for _ in range(3):
            await service.run(watch_ach_files)
    assert [each.name for each in theirs.iterdir()] == ["master_key"]
    told = {each["file"] for each in logs if each["event"] == "ach_file_foreign"}
    assert {".staging", ".held", "code.pth"} <= told
    assert len(folders.sent) == 1
