"""The instance that the stories are told on: it lets in whom it should, and shows nobody what is secret."""

from __future__ import annotations

import base64
import contextlib
import re
import stat

import asyncpg
import grpc
import httpx
import nats
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.instance import Instance
from deploy.local.programs import ROOT
from deploy.provision import provision
from deploy.teams import list_copies, read_teams
from deploy.topology import SERVICE_NAMES
from tests.e2e.conftest import TEAMS_FILE
from tests.support.chassis import until


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_each_service_answers_on_its_own_port_whoever_shows_the_certificate_for_people(
    instance: Instance, service: str
) -> None:
    folder = instance.data_dir / "certificates" / "client"
    files = (instance.data_dir / "ca.pem", folder / "key.pem", folder / "certificate.pem")
    credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    options = [("grpc.default_authority", f"{service}.realco.internal")]
    with grpc.secure_channel(instance.grpc_address(service), credentials, options) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("token", "status"),
    [("admin", 200), ("auditor", 200), (None, 401), ("expired", 401), ("stranger", 401)],
)
def test_the_gateway_lets_in_whom_the_local_issuer_vouches_for(
    instance: Instance, tmp_path_factory: pytest.TempPathFactory, token: str | None, status: int
) -> None:
    tokens = {
        "expired": lambda: instance.issue_token("admin", lifetime=-1),
        "stranger": lambda: Instance(tmp_path_factory.mktemp("stranger")).issue_token("admin"),
    }
    headers = {}
    if token is not None:
        headers["authorization"] = f"Bearer {tokens.get(token, lambda: instance.issue_token(token))()}"
    assert httpx.get(f"{instance.base_url}/api/v1/transactions", headers=headers).status_code == status


@pytest.mark.parametrize("service", SERVICE_NAMES)
async def test_a_service_connects_as_its_two_roles_and_its_tables_are_another_roles(
    instance: Instance, service: str
) -> None:
    connection = await asyncpg.connect(instance.database_url(service))
    try:
        users = await connection.fetch(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database() AND usename <> 'postgres'"
            " ORDER BY usename"
        )
        owners = await connection.fetch("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    assert [row[0] for row in users] == [f"{service}_app", f"{service}_worker"]
    assert [row[0] for row in owners] == [f"{service}_owner"]


def test_a_password_of_the_databases_stands_where_it_is_needed_and_nowhere_else(instance: Instance) -> None:
    """Not in arguments, environments, statistics, the log of changes or any other file; an owner's nowhere at all."""
    folder = instance.data_dir
    passwords = {file.name: file.read_bytes() for file in (folder / "secrets").glob("postgres_*")}
    assert passwords.keys() == {"postgres_superuser"} | {
        f"postgres_{service}_{role}" for service in SERVICE_NAMES for role in ("app", "worker")
    }
    allowed = {
        folder / "processes" / service / file: f"postgres_{service}_{role}"
        for service in SERVICE_NAMES
        for file, role in (("database_url", "app"), ("worker_database_url", "worker"))
    }
    places: dict[object, bytes] = {
        file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.parent != folder / "secrets"
    }
    supervisor = psutil.Process(instance.read_supervisor_pid())
    for process in (supervisor, *supervisor.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # a backend of PostgreSQL may end meanwhile
            told = [*process.cmdline(), *process.environ().values()]
            places[process] = "\0".join(told).encode()
    found = {
        (place, name)
        for place, text in places.items()
        for name, password in passwords.items()
        if password in text or base64.b64encode(password) in text
    }
    assert found == set(allowed.items())
    assert len(places) > 100
    for file in allowed:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(folder.rglob("migration_database_url")) == []


async def test_nobody_signs_in_as_an_owner_once_the_migrations_are_done(instance: Instance) -> None:
    connection = await asyncpg.connect(instance.database_url("escrow"))
    try:
        roles = await connection.fetch(
            "SELECT rolname, rolcanlogin, rolpassword FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1"
        )
    finally:
        await connection.close()
    owners = {f"{service}_owner" for service in SERVICE_NAMES}
    assert {row["rolname"] for row in roles if not row["rolcanlogin"]} == owners
    assert {row["rolname"] for row in roles if row["rolpassword"] is None} == owners
    assert all(row["rolpassword"].startswith("SCRAM-SHA-256$") for row in roles if row["rolname"] not in owners)


async def test_streams_are_those_of_all_four_services_and_nobody_consumes_them_but_copies(instance: Instance) -> None:
    client = await nats.connect(instance.nats_url("provisioner"), inbox_prefix="_INBOX_provisioner")
    try:
        assert (await provision(client, list_copies(read_teams(TEAMS_FILE)), change=False)).drift == []
    finally:
        await client.close()


async def test_the_gateway_would_count_together_with_others(instance: Instance) -> None:
    metrics = f"http://127.0.0.1:{instance.read_ports()['gateway_metrics']}/metrics"
    await until(lambda: "realco_rates_shared 1.0" in httpx.get(metrics).text, seconds=20)


def test_make_clean_knows_everything_an_instance_keeps(instance: Instance) -> None:
    kept = re.search(r"^KEPT +:= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert kept
    assert {file.name for file in instance.data_dir.iterdir()} - set(kept[1].split()) == set()
