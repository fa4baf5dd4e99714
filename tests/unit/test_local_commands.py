"""What people type: mistakes are answered with what to do, and `make clean` removes nothing that is not ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.places import resolve_folder

ROOT = Path(__file__).parents[2]


def local(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project of which only the Makefile matters."""
    project = tmp_path / "my project"
    (project / "protos").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", project)
    return project


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A make above this one (`make test`) would speak in its own words between the lines.
    outer = ("DATA_DIR", "PORT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("port", ["65536", "-1", "abc", ""])
def test_a_port_that_is_none_is_refused_by_name(tmp_path: Path, port: str) -> None:
    refused = local("deploy.local", "run", "--data-dir", str(tmp_path), f"--port={port}")
    assert refused.returncode == 2
    assert f"a port is a number from 0 to 65535, not {port!r}" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_answered_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    refused = local("deploy.local", "run", "--port", "0", "--data-dir", str(file / "data"))
    assert refused.returncode == 1
    assert "Name another folder with DATA_DIR=." in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", [["token"], ["certificate", "reporting"]], ids=" ".join)
def test_what_an_instance_issues_is_not_to_be_had_without_one(tmp_path: Path, command: list[str]) -> None:
    refused = local(f"deploy.local.{command[0]}", *command[1:], "--data-dir", str(tmp_path))
    assert refused.returncode == 1
    assert "start one with `make run`" in refused.stderr


def test_a_home_folder_may_be_named_by_its_tilde() -> None:
    assert resolve_folder("~/realco") == Path.home() / "realco"


def test_who_a_token_is_for_may_be_spelled_as_an_issuer_spells_it(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')  # says what it was called with
    python.chmod(0o755)
    said = make(checkout, "token", "-o", "setup", "SUB=auth0|o'x y", "PERSON=o'x", "ORG=a;b").stdout.splitlines()
    assert said[-8:] == ["--role", "admin", "--sub", "auth0|o'x y", "--person", "o'x", "--org", "a;b"]


def test_clean_removes_the_instance_and_leaves_what_else_lies_in_its_folder(checkout: Path) -> None:
    data, other = checkout / "my data", checkout / "data"
    for place in (data, other):
        (place / "postgres").mkdir(parents=True)
        (place / "mine.txt").touch()
    (data / "instance.lock").touch()  # only this one is an instance
    (checkout / "my").mkdir()
    make(checkout, "clean", "DATA_DIR=my data")
    assert sorted(file.name for file in data.iterdir()) == ["mine.txt"]
    assert sorted(file.name for file in other.iterdir()) == ["mine.txt", "postgres"]
    assert (checkout / "my").is_dir()


def test_an_environment_that_was_moved_or_never_finished_is_made_anew(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    installed = checkout / ".venv" / "installed"
    installed.write_text(f"{checkout}\n")
    make(checkout, "help")
    assert installed.exists()
    installed.write_text("/another/place\n")
    make(checkout, "help")
    assert not installed.exists()
