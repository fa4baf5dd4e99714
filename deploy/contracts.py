"""The contracts as a product, for teams that have nothing else of the project: `make contracts`.

Writes into `dist/contracts/`: the wheel of `realco-contracts` with typed stubs; `descriptors.binpb`, every proto with
its imports and comments, which `buf` and `protoc` take instead of sources; `openapi.json`; and what each release
changed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gateway import openapi

ROOT = Path(__file__).parents[1]
PROTOS = ROOT / "protos"


def build(target: Path) -> list[Path]:
    """Makes all of them anew; what lay in `target` before is removed. The files, in order of their names."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        # A copy: the build makes stubs beside the protos, where a running program may just read them.
        copy = shutil.copytree(PROTOS, Path(scratch) / "protos", ignore=shutil.ignore_patterns("*_pb2*", "buf"))
        command = [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "--target",
            "wheel",
            "--directory",
            str(target.resolve()),
        ]
        subprocess.run(command, cwd=copy, check=True, capture_output=True)
        shutil.copy(copy / "realco" / "descriptors.binpb", target)
    document = json.dumps(openapi.document(), indent=1, ensure_ascii=False)
    (target / "openapi.json").write_text(document + "\n", encoding="utf-8")
    shutil.copy(PROTOS / "CHANGELOG.md", target)
    return sorted(target.iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.contracts", description="Builds the contracts' artifacts.")
    parser.add_argument("--target", type=Path, default=ROOT / "dist" / "contracts", help="default: %(default)s")
    for file in build(parser.parse_args().target):
        print(f"{file.stat().st_size:>9,} {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
