"""The contracts are well-formed, commented, formatted, and break nobody who was built on the last release of them.

`python -m deploy.check.contracts [RELEASE]`: RELEASE is a git revision; by default the last tag `contracts-v*` that
this revision has in its past. While there is none, nobody was built on them, and there is nothing to compare with.
Compared are messages (`buf breaking`), routes, access, rules and presence (`narrowing`), options of ours (`options`),
and the OpenAPI description (`openapi_narrowing`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from deploy.check import access_taken, narrowing, openapi_narrowing

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "protos" / "buf.yaml"
TAGS = "contracts-v*"


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        image = _image(ROOT / "protos", Path(scratch) / "image.binpb")
        failed = _buf("lint", image, "--config", CONFIG, "--path", "realco")
        failed |= _buf("format", "--diff", "--exit-code", ROOT / "protos")
        release = arguments[0] if arguments else last_release(ROOT)
        if release is None:
            print("contracts: linted and formatted; there is no release yet to compare with")
            return 1 if failed else 0
        released = _unpack(release, Path(scratch) / "released")
        baseline = _image(released / "protos", Path(scratch) / "baseline.binpb")
        failed |= compare(image, baseline)
        narrowed = [
            *narrowing.find_narrowing(_read(baseline), _read(image)),
            *access_taken.find_unexplained(
                narrowing.find_taken_access(_read(baseline), _read(image)),
                access_taken.read_reasons(ROOT / "protos"),
                (ROOT / "protos" / "CHANGELOG.md").read_text(),
            ),
            *openapi_narrowing.find_narrowing(_openapi_of(released), _openapi_of(ROOT)),
        ]
    for sentence in narrowed:
        print(f"breaks callers of {release}: {sentence}")
    print(f"contracts: linted, formatted, compared with {release}")
    return 1 if failed or narrowed else 0


def last_release(repository: Path) -> str | None:
    """The newest tag of a release of the contracts in the past of what is checked out; None where there is none."""
    command = ["git", "describe", "--tags", "--abbrev=0", "--match", TAGS]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def compare(image: Path, baseline: Path) -> int:
    """Whether `buf breaking` finds that messages of the baseline are not in the image as they were: 0 if they are."""
    return _buf("breaking", image, "--against", baseline, "--config", CONFIG, "--path", "realco")


def _buf(command: str, *arguments: str | Path) -> int:
    # Installed beside the interpreter, which need not be on the PATH.
    buf = Path(sysconfig.get_path("scripts")) / "buf"
    return subprocess.run([buf, command, *map(str, arguments)], cwd=ROOT, check=False).returncode


def _image(protos: Path, target: Path) -> Path:
    """One descriptor set of all protos under `protos`, built by today's builder."""
    subprocess.run([sys.executable, ROOT / "protos" / "hatch_build.py", "image", target, protos], check=True)
    return target


def _read(image: Path) -> FileDescriptorSet:
    return FileDescriptorSet.FromString(image.read_bytes())


def _unpack(revision: str, target: Path) -> Path:
    """The whole repository as it was, with its stubs: its own gateway says what its OpenAPI description was."""
    archive = target.with_suffix(".tar")
    subprocess.run(["git", "archive", "-o", archive, revision], cwd=ROOT, check=True)
    with tarfile.open(archive) as files:
        files.extractall(target, filter="data")
    make_stubs = "import hatch_build; hatch_build.generate(hatch_build.HERE)"
    subprocess.run([sys.executable, "-c", make_stubs], cwd=target / "protos", check=True, stderr=subprocess.DEVNULL)
    return target


def _openapi_of(repository: Path) -> dict[str, Any]:
    """The description that a repository's gateway gives of that repository's contracts."""
    done = subprocess.run(
        [sys.executable, "-c", "import json; from gateway import openapi; print(json.dumps(openapi.document()))"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": f"{repository / 'protos'}{os.pathsep}{repository}"},
        capture_output=True,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
