"""What kept generators make of /openapi.json: clients that compile strictly, pay a contribution, and read tomorrow."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from demo.harness.rest import Json
from deploy.local.instance import Instance
from tests.e2e.organization import Organization
from tests.support.node import PROGRAM, install_packages

CLIENTS = Path(__file__).parents[1] / "clients"
TYPESCRIPT, PYTHON = CLIENTS / "typescript", CLIENTS / "python"
# Both programs print what they read.
READ = {
    "status": "SETTLED",
    "settled": True,
    "minor": "50000",
    "failed": False,
    "unknown": "HELD_BY_TOMORROWS_RULE",
}


@pytest.fixture(scope="module")
def described(instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The description, as a file for a generator."""
    path = tmp_path_factory.mktemp("described") / "openapi.json"
    path.write_bytes(httpx.get(f"{instance.base_url}/openapi.json").raise_for_status().content)
    return path


@pytest.fixture
def settings(org: Organization) -> Iterator[Mapping[str, str]]:
    """What a program is told by its environment, with an investor who may pay."""
    offering, investor = org.open_offering(10_000_00), org.add_cleared_party()
    org.contribute(offering, org.add_cleared_party(), 1_00)
    paid = org.admin.get("/transactions", escrowAccountId=offering["escrowAccountId"])["transactions"][0]
    with answering_of_tomorrow(paid) as tomorrow:
        yield {
            "BASE_URL": org.instance.base_url,
            "TOKEN": org.sign_in_investor(investor).token,
            "OFFERING_ID": str(offering["offeringId"]),
            "BANK_ACCOUNT_ID": org.add_bank_account(investor),
            "TOMORROW_URL": tomorrow,
        }


@contextmanager
def answering_of_tomorrow(transaction: Json) -> Iterator[str]:
    """A server whose transaction has a status and a field that nobody knows today."""
    body = json.dumps({**transaction, "status": READ["unknown"], "heldUntil": "2030-01-01"}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_typescript_client_compiles_strictly_pays_and_reads_what_it_does_not_know(described, settings):
    install_packages(TYPESCRIPT)
    shutil.rmtree(TYPESCRIPT / "build", ignore_errors=True)
    node("node_modules/@hey-api/openapi-ts/bin/run.js", OPENAPI=str(described))
    node("node_modules/typescript/bin/tsc")
    assert json.loads(node("build/js/contribute.js", **settings)) == READ


def test_a_python_client_type_checks_strictly_pays_and_reads_what_it_does_not_know(described, settings, tmp_path):
    package = tmp_path / "realco_client"
    generate = ["openapi_python_client", "generate", "--path", str(described), "--meta", "none"]
    config = str(PYTHON / "generator.yaml")
    said = python(*generate, "--output-path", str(package), "--config", config, "--fail-on-warning")
    assert "Warning" not in said
    (package / "py.typed").touch()
    program = shutil.copy(PYTHON / "contribute.py", tmp_path)
    python("mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), program, cwd=tmp_path)
    assert json.loads(run([sys.executable, program], tmp_path, settings)) == READ


def node(script: str, **environment: str) -> str:
    return run([str(PROGRAM), script], TYPESCRIPT, environment)


def python(module: str, *arguments: str, cwd: Path = CLIENTS) -> str:
    return run([sys.executable, "-m", module, *arguments], cwd, {})


def run(command: list[str], cwd: Path, environment: Mapping[str, str]) -> str:
    """What it says; fails with all of it where it ends badly."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=cwd, env={"PATH": path, "HOME": str(Path.home()), **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
