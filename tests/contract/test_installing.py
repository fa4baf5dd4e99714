"""The contracts install where nothing else of the project is: docs/subscribing.md promises it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PROTOS = Path(__file__).parents[2] / "protos"


def test_the_stubs_are_made_by_tools_that_lie_apart_from_the_interpreter(tmp_path: Path) -> None:
    """As in pip's isolated build: they are found by PYTHONPATH and PATH, and the interpreter has none of its own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    shutil.copytree(PROTOS / "realco", tmp_path / "protos" / "realco", ignore=shutil.ignore_patterns("*_pb2*"))
    shutil.copy(PROTOS / "hatch_build.py", tmp_path / "protos")
    subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", "import hatch_build; hatch_build.generate(hatch_build.HERE)"],
        cwd=tmp_path / "protos",
        env={
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.defpath]),
        },
        check=True,
    )
    made = {file.name for file in (tmp_path / "protos" / "realco" / "escrow" / "v1").glob("*_pb2*")}
    assert {"events_pb2.py", "events_pb2.pyi", "escrow_pb2_grpc.py", "escrow_pb2_grpc.pyi"} <= made
