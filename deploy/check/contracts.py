"""The contracts are well-formed, commented and formatted, and break no program built on the last ones on main.

`python -m deploy.check.contracts [BASELINE]`: BASELINE is a git revision; by default the commit where this branch left
origin/main, or the one before HEAD where the branch has not left it.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "protos" / "buf.yaml"


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        image = _image(ROOT / "protos", Path(scratch) / "image.binpb")
        failed = _buf("lint", image, "--config", CONFIG, "--path", "realco")
        failed |= _buf("format", "--diff", "--exit-code", ROOT / "protos")
        revision = arguments[0] if arguments else _baseline()
        if revision and (baseline := _image_of(revision, Path(scratch))):
            failed |= _buf("breaking", image, "--against", baseline, "--config", CONFIG, "--path", "realco")
            print(f"contracts: linted, formatted, compared with {revision[:12]}")
        else:
            print("contracts: linted and formatted; no earlier contracts to compare with")
    return failed


def _buf(command: str, *arguments: str | Path) -> int:
    return subprocess.run(["buf", command, *map(str, arguments)], cwd=ROOT, check=False).returncode


def _image(protos: Path, target: Path) -> Path:
    """One descriptor set of all protos under `protos`, built by today's builder."""
    subprocess.run([sys.executable, ROOT / "protos" / "hatch_build.py", "image", target, protos], check=True)
    return target


def _image_of(revision: str, scratch: Path) -> Path | None:
    archive = scratch / "baseline.tar"
    made = subprocess.run(
        ["git", "archive", "-o", archive, revision, "protos"], cwd=ROOT, capture_output=True, check=False
    )
    if made.returncode != 0:
        return None  # the revision has no protos yet
    with tarfile.open(archive) as files:
        files.extractall(scratch / "baseline", filter="data")
    return _image(scratch / "baseline" / "protos", scratch / "baseline.binpb")


def _baseline() -> str | None:
    head = _git("rev-parse", "HEAD")
    landed = _git("merge-base", "HEAD", "origin/main")
    return landed if landed and landed != head else _git("rev-parse", "HEAD^")


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
