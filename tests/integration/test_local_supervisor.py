"""The supervisor: it starts everything, restarts what dies, and leaves nothing behind.

PostgreSQL, NATS and the supervisor are real; the other processes are stand-ins (tests/support/stand_in.py).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.instance import Instance
from deploy.local.postgres import Postgres
from deploy.local.programs import ROOT, ProgramFailed
from deploy.local.state import State
from deploy.topology import PROCESS_NAMES


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first start leaves of PostgreSQL: to make a cluster costs as much as the rest of a start."""
    folder = tmp_path_factory.mktemp("first")
    Postgres(folder).prepare()
    return folder


@pytest.fixture
def started_before(tmp_path: Path, first: Path) -> Path:
    """A DATA_DIR that has its cluster, and nothing else."""
    for kept in ("secrets", "postgres/cluster"):
        shutil.copytree(first / kept, tmp_path / kept)
    return tmp_path


def stand_ins(data_dir: Path, port: int = 0, **kinds: str) -> Instance:
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "stand_ins.json").write_text(json.dumps(kinds))
    return Instance(data_dir, port, module="tests.support.stand_in_instance")


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def descendants() -> list[int]:
    """What this test's process has started and what those have started, but for the dead that nobody has collected, and
    for the backends of a PostgreSQL that other tests use: they come and go."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE and not " ".join(process.cmdline()).startswith("postgres: "):
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def readable(process: psutil.Process) -> list[str]:
    """What we can read of its command line and environment; another user's environment the system keeps from us."""
    try:
        return [*process.cmdline(), *process.environ().values()]
    except psutil.AccessDenied:
        return process.cmdline()


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with stand_ins(tmp_path_factory.mktemp("instance")) as running:
        yield running


@pytest.mark.parametrize("name", PROCESS_NAMES)
def test_what_is_killed_comes_back_and_the_others_stay(instance: Instance, name: str) -> None:
    before = {other: instance.read_pid(other) for other in PROCESS_NAMES}
    killed = instance.kill(name)
    instance.wait_until_back(name, killed)
    after = {other: instance.read_pid(other) for other in PROCESS_NAMES}
    assert {other for other in PROCESS_NAMES if before[other] != after[other]} == {name}


def test_postgresql_comes_back_when_all_its_processes_are_killed_at_once(instance: Instance) -> None:
    killed = instance.kill("postgres", with_children=True)
    instance.wait_until_back("postgres", killed)


def test_no_secret_can_be_read_off_the_list_of_processes(instance: Instance) -> None:
    secrets = [file.read_text().strip() for file in (instance.data_dir / "secrets").iterdir()]
    assert len(secrets) > 10
    for name in PROCESS_NAMES:
        visible = " ".join(readable(psutil.Process(instance.read_pid(name))))
        assert not [secret for secret in secrets if secret in visible]


def test_what_others_may_know_is_open_and_nothing_secret_is_in_it(instance: Instance) -> None:
    known = (instance.data_dir / "instance.json").read_text()
    assert instance.base_url in known
    assert not [file.name for file in (instance.data_dir / "secrets").iterdir() if file.read_text() in known]


def test_a_second_one_on_the_same_data_says_who_runs_there(instance: Instance) -> None:
    with pytest.raises(ProgramFailed, match="already runs") as refusal:
        Instance(instance.data_dir, module="tests.support.stand_in_instance").start()
    assert instance.base_url in str(refusal.value)
    assert instance.read_pid("gateway")


def test_two_run_side_by_side_and_the_later_starts_on_its_former_ports(
    instance: Instance, started_before: Path
) -> None:
    with stand_ins(started_before) as other:
        ours, theirs = instance.read_ports(), other.read_ports()
        assert ours.keys() == theirs.keys()
        assert not set(ours.values()) & set(theirs.values())
    with stand_ins(started_before) as again:
        assert again.read_ports() == theirs
    assert again.list_leftovers() == []


@pytest.fixture
def hangups_heard() -> Iterator[None]:
    """Under nohup, as a whole test run may be, hangups are ignored, and what we start would inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_heard")
@pytest.mark.parametrize(
    ("number", "bank"), [(signal.SIGINT, "http"), (signal.SIGTERM, "stubborn"), (signal.SIGHUP, "http")]
)
def test_told_to_stop_it_leaves_nothing_running_not_even_who_does_not_end_when_asked(
    started_before: Path, number: int, bank: str
) -> None:
    others = descendants()
    running = stand_ins(started_before, bank=bank)
    running.start()
    running.signal(number)
    assert running.wait(10) == 0
    assert running.list_leftovers() == []
    assert sorted(descendants()) == sorted(others)


def test_a_stop_during_the_start_leaves_nothing_running(started_before: Path) -> None:
    others = descendants()
    running = stand_ins(started_before, gateway="mute")
    running.launch()
    assert eventually(lambda: running.read_status("gateway") == "starting")
    running.signal(signal.SIGINT)
    assert running.wait(10) == 0
    assert sorted(descendants()) == sorted(others)


def test_stop_finds_one_that_has_not_told_of_itself_yet(tmp_path: Path) -> None:
    running = stand_ins(tmp_path, gateway="mute")
    (tmp_path / "instance.json").write_text(json.dumps({"supervisor": {"pid": 1, "created": 0.0}}))  # the one before
    running.launch()
    assert eventually(State(tmp_path).is_locked_by_another)
    command = [sys.executable, "-m", "deploy.local", "stop", "--data-dir", str(tmp_path)]
    stopped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"The instance in {tmp_path} has stopped." in stopped.stdout
    assert running.wait(10) == 0
    assert running.list_leftovers() == []


def test_when_the_supervisor_is_killed_the_rest_dies_and_the_next_start_succeeds(started_before: Path) -> None:
    running = stand_ins(started_before)
    running.start()
    running.kill_supervisor()
    assert eventually(lambda: running.list_leftovers() == [])
    with stand_ins(started_before) as again:
        assert again.read_status("postgres") == "ready"


def test_one_that_cannot_start_ends_the_start_with_its_own_words(started_before: Path) -> None:
    others = descendants()
    with pytest.raises(ProgramFailed) as failure:
        stand_ins(started_before, transactions="broken").start()
    assert "transactions ended with status 3 before it was ready" in str(failure.value)
    assert "the reason it cannot start" in str(failure.value)
    assert sorted(descendants()) == sorted(others)


def test_one_that_keeps_dying_is_tried_again_with_growing_pauses(instance: Instance) -> None:
    blocker = socket.socket()  # the gateway's port is taken the moment it dies
    host, port = instance.base_url.removeprefix("http://").split(":")
    before = instance.read_process("gateway")["restarts"]
    psutil.Process(instance.read_pid("gateway")).suspend()
    blocker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    instance.kill("gateway")
    assert eventually(lambda: _taken(blocker, host, int(port)))
    assert eventually(lambda: instance.read_process("gateway")["restarts"] >= before + 2)
    blocker.close()
    assert eventually(lambda: instance.read_status("gateway") == "ready")
    assert instance.read_status("escrow") == "ready"


def _taken(blocker: socket.socket, host: str, port: int) -> bool:
    try:
        blocker.bind((host, port))
        blocker.listen()
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_is_refused_by_name(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ProgramFailed, match=rf"Port {port} is taken.*PORT="):
            stand_ins(tmp_path, port).start()
    assert not (tmp_path / "postgres").exists()


def test_files_of_an_instance_are_its_owners_alone(instance: Instance) -> None:
    for folder in ("secrets", "processes", "logs", "nats", "postgres"):
        status = (instance.data_dir / folder).stat()
        assert oct(status.st_mode & 0o777) == "0o700"
        assert folder == "postgres" or status.st_uid == os.geteuid()
