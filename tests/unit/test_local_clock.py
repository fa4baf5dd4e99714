"""The test clock: written by deploy/local, read by every process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.local import clock
from deploy.local.identity import Identity
from deploy.secrets import write_private
from services.chassis.values.clock import FileClock

SECOND = timedelta(seconds=1)


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """The folder of one that was started."""
    write_private(Identity(tmp_path).jwks_file, "{}")
    return tmp_path


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2024, 12, 2, 15, tzinfo=UTC),
        datetime(2025, 1, 1, tzinfo=UTC),
        datetime(2031, 6, 30, 23, 59, 59, tzinfo=UTC),
    ],
)
def test_business_time_runs_from_the_moment_it_is_set_to(tmp_path: Path, moment: datetime) -> None:
    clock.set_clock(tmp_path, moment)
    read = FileClock(clock.clock_file(tmp_path)).now()
    assert moment <= read < moment + 5 * SECOND  # never before: what is due then is due


def test_a_reader_follows_every_move_and_the_reset(tmp_path: Path) -> None:
    reader = FileClock(clock.clock_file(tmp_path))
    for year in (2024, 2025, 2030):
        clock.set_clock(tmp_path, datetime(year, 3, 1, tzinfo=UTC))
        assert reader.now().year == year
    clock.reset_clock(tmp_path)
    assert abs(reader.now() - datetime.now(UTC)) < SECOND


def test_a_moment_without_a_time_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        clock.set_clock(tmp_path, datetime(2025, 1, 1))  # noqa: DTZ001
    assert not clock.clock_file(tmp_path).exists()


@pytest.mark.parametrize("moment", ["tomorrow", "2025-01-01T15:00:00", "2025-13-01T00:00:00Z"])
def test_the_command_refuses_what_is_no_moment(instance: Path, moment: str) -> None:
    with pytest.raises(SystemExit):
        clock.main(["--data-dir", str(instance), "set", moment])
    assert not clock.clock_file(instance).exists()


def test_the_command_sets_and_shows_it(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock.main(["--data-dir", str(instance), "set", "2025-01-01T15:00:00Z"])
    clock.main(["--data-dir", str(instance), "show"])
    assert all(line.startswith("2025-01-01T15:00:0") for line in capsys.readouterr().out.split())


@pytest.mark.parametrize("action", [["show"], ["set", "2025-01-01T15:00:00Z"], ["reset"]])
def test_a_folder_that_is_no_instance_has_no_clock_and_none_is_made(tmp_path, capsys, action) -> None:
    folder = tmp_path / "nothing"
    assert clock.main(["--data-dir", str(folder), *action]) == 1
    assert "There is no instance of yours" in capsys.readouterr().err
    assert not folder.exists()


def test_the_clock_of_the_instance_that_the_environment_names_is_moved(instance, capsys, monkeypatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(instance))
    assert clock.main(["set", "2025-01-01T15:00:00Z"]) == 0
    assert capsys.readouterr().out.startswith("2025-01-01T15:00")
    assert clock.clock_file(instance).exists()
