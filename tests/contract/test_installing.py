"""The contracts install where nothing else of the project is: docs/subscribing.md promises it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from deploy import contracts

PROTOS = Path(__file__).parents[2] / "protos"


def test_the_stubs_are_made_by_tools_that_lie_apart_from_the_interpreter(tmp_path: Path) -> None:
    """As in pip's isolated build: they are found by PYTHONPATH and PATH, and the interpreter has none of its own.

    What an earlier build made of a proto that has moved since is removed.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    shutil.copytree(PROTOS / "realco", tmp_path / "protos" / "realco", ignore=shutil.ignore_patterns("*_pb2*"))
    shutil.copy(PROTOS / "hatch_build.py", tmp_path / "protos")
    stubs = tmp_path / "protos" / "realco" / "escrow" / "v1"
    for end in (".py", ".pyi", "_grpc.py", "_grpc.pyi"):
        (stubs / f"moved_pb2{end}").touch()
    subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", "import hatch_build; hatch_build.generate(hatch_build.HERE)"],
        cwd=tmp_path / "protos",
        env={
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.defpath]),
        },
        check=True,
    )
    made = {file.name for file in stubs.glob("*_pb2*")}
    assert {"events_pb2.py", "events_pb2.pyi", "journal_pb2_grpc.py", "journal_pb2_grpc.pyi"} <= made
    assert not {name for name in made if name.startswith("moved")}


PROGRAM = """
from __future__ import annotations

import grpc
from buf.validate import validate_pb2
from realco.escrow.v1 import escrow_accounts_pb2, escrow_accounts_pb2_grpc, events_pb2, holds_pb2
from realco.type.v1 import money_pb2


def ask_for_cash(channel: grpc.Channel, escrow_account_id: str) -> int:
    stub = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel)
    asked = escrow_accounts_pb2.GetEscrowAccountBalanceRequest(escrow_account_id=escrow_account_id)
    return stub.GetEscrowAccountBalance(asked).available.amount_minor


def read_event(payload: bytes) -> events_pb2.JournalEntriesPosted:
    return events_pb2.JournalEntriesPosted.FromString(payload)


def name_rule(violation: validate_pb2.Violation) -> str:
    return violation.rule_id


LIMIT = money_pb2.Money(currency_code="USD", amount_minor=5)
"""


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make contracts` writes."""
    target = tmp_path_factory.mktemp("contracts")
    contracts.build(target)
    return target


@pytest.fixture(scope="module")
def elsewhere(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel, beside the libraries it asks for, and nothing of ours."""
    environment = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(next(artifacts.glob("*.whl"))) as wheel:
        wheel.extractall(packages)
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "python"


def check_types(interpreter: Path, program: str, folder: Path) -> str:
    (folder / "program.py").write_text(program)
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        interpreter,
        "--cache-dir",
        # What the libraries say is the same for every program.
        interpreter.parents[1] / "mypy_cache",
    ]
    done = subprocess.run([*mypy, "program.py"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_program_outside_of_the_repository_is_type_checked_strictly(elsewhere: Path, tmp_path: Path) -> None:
    assert check_types(elsewhere, PROGRAM, tmp_path) == "Success: no issues found in 1 source file\n"


def test_its_mistakes_are_found(elsewhere: Path, tmp_path: Path) -> None:
    mistakes = {
        "money_pb2.Money(currency_code=7)": "[arg-type]",
        "holds_pb2.Hold().amout": "[attr-defined]",
        "escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(1)": "[call-overload]",
    }
    found = check_types(elsewhere, "\n".join([PROGRAM, *mistakes]), tmp_path)
    assert [fault for fault in mistakes.values() if fault not in found] == []
    assert f"Found {len(mistakes)} errors" in found


def test_it_runs_there(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(f"{PROGRAM}\nprint(LIMIT.amount_minor, escrow_accounts_pb2.__file__)\n")
    done = subprocess.run([elsewhere, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    amount, file = done.stdout.split()
    assert amount == "5"
    assert Path(file).is_relative_to(elsewhere.parents[1])


def test_buf_takes_the_image_where_no_registry_can_be_reached(artifacts: Path, tmp_path: Path) -> None:
    buf = Path(sysconfig.get_path("scripts")) / "buf"
    for arguments in (["build"], ["lint", "--config", PROTOS / "buf.yaml", "--path", "realco"], ["ls-files"]):
        verb, *rest = arguments
        command = [buf, verb, artifacts / "descriptors.binpb", *rest]
        # An empty cache, and a proxy that is not there: what is asked of a registry fails.
        offline = {"BUF_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9"}
        subprocess.run(command, cwd=tmp_path, env=offline, check=True, capture_output=True)


def test_one_version_is_named_everywhere(artifacts: Path) -> None:
    project = tomllib.loads((PROTOS / "pyproject.toml").read_text())["project"]["version"]
    described = json.loads((artifacts / "openapi.json").read_text())["info"]["version"]
    newest = re.search(r"^## (\S+)", (artifacts / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert project == described == newest[1]
