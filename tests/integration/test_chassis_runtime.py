"""A whole service: it starts only when it is safe, goes on through kill -9 of its servers, and leaves politely."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager, redirect_stderr
from pathlib import Path
from types import SimpleNamespace

import httpx
import nats
import pytest
import sqlalchemy as sa
import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from realco.escrow.v1 import holds_pb2 as pb
from realco.escrow.v1 import holds_pb2_grpc

from deploy import provision
from deploy.local.nats import EVERYTHING, Nats
from deploy.local.ports import choose_free_port
from deploy.local.postgres import Postgres
from services.chassis.data import schema
from services.chassis.events.forgotten import list_and_record
from services.chassis.events.restore_watch import LOOK_SECONDS
from services.chassis.events.step_over import step_over
from services.chassis.process import telemetry
from services.chassis.process.health import ALARM_KEY
from services.chassis.process.main import run
from services.chassis.process.settings import Settings
from services.chassis.values.clock import SystemClock
from tests.support import chassis, chassis_service, servers
from tests.support.event_keys import event_key_settings, event_keys
from tests.support.identity import Issuer
from tests.support.restores import restored_to_here
from tests.support.seals import data_key_settings

pytestmark = pytest.mark.usefixtures("durable")


@pytest.fixture
def nats_url(tmp_path: Path) -> Iterator[str]:
    """A server of this test's own: what others tell is no event of this service."""
    with servers.nats(tmp_path / "broker") as url:
        yield url


ROOT = Path(__file__).resolve().parents[2]


class Process:
    """The service as a process, its port, and a client that is allowed to call it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, metrics: int, issuer: Issuer) -> None:
        self.process, self.metrics = process, metrics
        self._issuer = issuer
        self._channel = aio.insecure_channel(f"127.0.0.1:{port}")
        self._stub = holds_pb2_grpc.HoldsServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def place(self, name: str, timeout: float = 5, *, as_service: bool = False) -> str:
        """The hold's id, or the name of the status code."""
        request = pb.PlaceHoldRequest(
            idempotency_key=name,
            escrow_account_id="esc_" + "0" * 26,
            ledger_account={"kind": "CASH"},
            reason=pb.Hold.MANUAL,
        )
        request.amount.currency_code, request.amount.amount_minor = "USD", 100
        token = self._issuer.transactions.token("escrow") if as_service else self._issuer.token()
        metadata = [("authorization", f"Bearer {token}"), ("x-realco-org", "org_1")]
        try:
            return (await self._stub.PlaceHold(request, metadata=metadata, timeout=timeout)).hold_id
        except aio.AioRpcError as error:
            return error.code().name

    async def healthy(self) -> bool:
        try:
            answer = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except aio.AioRpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    async def alarms(self) -> list[str]:
        call = self._health.Check(health_pb2.HealthCheckRequest(), timeout=1)
        return [value for key, value in await call.trailing_metadata() if key == ALARM_KEY]

    async def end(self, number: int = signal.SIGTERM) -> tuple[int, list[dict]]:
        """Its exit status, and the lines it logged."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        out, _ = await asyncio.wait_for(self.process.communicate(), 60)
        await self._channel.close()
        return self.process.returncode, [json.loads(line) for line in out.splitlines()]


def write_settings(tmp_path: Path, urls: SimpleNamespace, nats_url: str, issuer: Issuer) -> dict[str, str]:
    """The environment of a service that may start."""
    key = tmp_path / "service.pem"
    key.touch(mode=0o600)
    key.write_bytes(issuer.escrow._key.as_pem(private=True))
    secrets = tmp_path / "secrets"
    secrets.mkdir(exist_ok=True)
    (secrets / "database_url").write_text(urls.app_url)
    (secrets / "worker_database_url").write_text(urls.worker_url)
    (secrets / "nats_url").write_text(nats_url)
    return {
        "SECRETS_DIR": str(secrets),
        "ENVIRONMENT": "local",
        "GRPC_PORT": str(choose_free_port()),
        "METRICS_PORT": str(choose_free_port()),
        **issuer.environment(),
        "SERVICE_KEY_FILE": str(key),
        "DRAIN_WAIT_SECONDS": "0",
        **event_key_settings(tmp_path, "escrow"),
        **data_key_settings(tmp_path),
    }


@asynccontextmanager
async def service(tmp_path, urls: SimpleNamespace, nats_url: str):
    issuer = Issuer(tmp_path)
    variables = write_settings(tmp_path, urls, nats_url, issuer)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.chassis_service",
        cwd=ROOT,
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield Process(process, int(variables["GRPC_PORT"]), int(variables["METRICS_PORT"]), issuer)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def make_streams(nats_url: str) -> None:
    client = await nats.connect(nats_url)
    await provision.provision(client)
    await client.close()


async def tell_what_cannot_be_handled(nats_url: str) -> None:
    client = await nats.connect(nats_url)
    await client.jetstream().publish("realco.escrow.v1.HoldPlaced.org_1.esc_1", b"made up")
    await client.close()


async def test_a_service_serves_counts_and_leaves_politely(tmp_path, urls, nats_url):
    await make_streams(nats_url)
    async with service(tmp_path, urls, nats_url) as running, chassis.opened(urls) as database:
        await chassis.until(running.healthy)
        await tell_what_cannot_be_handled(nats_url)
        # It waits for a person, while the service serves on.
        await chassis.until(running.alarms, seconds=15)
        assert await running.alarms() == [f"dead letters of {chassis_service.SUBSCRIPTION.consumer}: 1 wait"]
        assert await running.place("a") == "a"
        assert await running.place("a") == "a"
        assert await running.place("refused") == "FAILED_PRECONDITION"
        await chassis.until(lambda: _noted(database, {"a", "heard a"}))
        async with httpx.AsyncClient() as http:
            page = (await http.get(f"http://127.0.0.1:{running.metrics}/metrics")).text
        rpc = "realco.escrow.v1.HoldsService/PlaceHold"
        assert f'realco_rpcs_total{{code="OK",rpc="{rpc}"}} 2.0' in page
        assert f'realco_rpcs_total{{code="FAILED_PRECONDITION",rpc="{rpc}"}} 1.0' in page

        slow = asyncio.create_task(running.place("slow"))  # in hand when the signal comes
        await chassis.until(lambda: _noted(database, {"slow"}))
        status, lines = await running.end()
        assert await slow == "slow"
        assert status == 0
    answers = [line for line in lines if line.get("event") == "rpc"]
    assert [line["reason"] for line in answers if line["code"] == "FAILED_PRECONDITION"] == ["REFUSED"]
    answered = answers[0]
    assert (answered["rpc"], answered["code"], answered["principal"], answered["org"]) == (
        rpc,
        "OK",
        "admin-1",
        "org_1",
    )
    assert answered["service"] == "escrow"
    assert answered["duration_ms"] > 0
    assert urls.app_url.split(":")[2].split("@")[0] not in json.dumps(lines)  # the password


async def _noted(database, names: set[str]) -> bool:
    return names <= set(await chassis.note_ids(database))


async def test_a_restored_service_answers_no_other_one_from_the_first_call_on_until_somebody_has_looked(
    tmp_path, urls, nats_url, monkeypatch
):
    await make_streams(nats_url)
    grants = tmp_path / "grants.json"
    grants.write_text(json.dumps({"transactions": ["realco.escrow.v1.HoldsService/PlaceHold"]}))
    monkeypatch.setenv("SERVICE_GRANTS_FILE", str(grants))
    async with restored_to_here(urls):
        pass
    async with service(tmp_path, urls, nats_url) as running, chassis.opened(urls) as database:
        await chassis.until(running.healthy)
        assert await running.place("for-a-service", as_service=True) == "UNAVAILABLE"
        assert await running.place("for-a-person") == "for-a-person"
        client, keys = await nats.connect(nats_url), event_keys(tmp_path / "secrets")
        await list_and_record(database, client.jetstream(), "escrow", keys, SystemClock(), seen_by="ops-1")
        await client.close()
        await chassis.until(lambda: _is_placed(running, "for-a-service"), seconds=LOOK_SECONDS + 15)


async def _is_placed(running: Process, name: str) -> bool:
    return await running.place(name, as_service=True) == name


async def test_a_service_goes_on_through_the_death_of_its_servers(tmp_path):
    with Postgres(tmp_path / "pg") as cluster, Nats(tmp_path / "nats", everything=True) as broker:
        nats_url = broker.url(EVERYTHING)
        await make_streams(nats_url)
        urls = await chassis.create(cluster)
        async with service(tmp_path, urls, nats_url) as running:
            await chassis.until(running.healthy)
            assert await running.place("before") == "before"

            broker.program.kill_group()
            assert await running.place("without-nats") == "without-nats"  # the outbox keeps what there is to say
            await asyncio.to_thread(broker.start)

            cluster.program.kill_group()
            assert await running.place("without-postgres", timeout=3) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
            await asyncio.to_thread(cluster.start)

            async def placed() -> bool:
                return await running.place("after") == "after"

            await chassis.until(placed)
            async with chassis.opened(urls) as database:
                heard = {"heard before", "heard without-nats", "heard after"}
                await chassis.until(lambda: _noted(database, heard), seconds=60)
                notes = await chassis.note_ids(database)
                assert len(notes) == len(set(notes))
            await chassis.until(running.healthy)
            status, _ = await running.end()
            assert status == 0


async def test_a_service_is_not_ready_while_events_may_pass_by_its_consumer(tmp_path, urls, nats_url):
    await make_streams(nats_url)
    async with service(tmp_path, urls, nats_url) as running, chassis.opened(urls) as database:
        await chassis.until(running.healthy)

        async def has_moved() -> bool:
            async with database.begin_for_all() as tx:
                further = "UPDATE handled_positions SET stream_sequence = stream_sequence + 1 RETURNING true"
                return await tx.scalar(sa.text(further)) is True

        await chassis.until(has_moved)  # a service is healthy before it has looked at its streams

        async def not_ready() -> bool:
            return not await running.healthy()

        await chassis.until(not_ready, seconds=8)
        assert await running.place("meanwhile") == "meanwhile"  # whoever calls is answered
        client = await nats.connect(nats_url)
        assert await step_over(database, client.jetstream(), chassis_service.SUBSCRIPTION, "ESCROW", 0)
        await client.close()
        await chassis.until(running.healthy)
        await chassis.until(lambda: _noted(database, {"heard meanwhile"}))
        _, lines = await running.end()
    [fault] = [line for line in lines if line.get("event") == "consumer_at_fault"]
    assert fault["faults"] == ["was moved in the database: the position is not what this service wrote"]


async def test_a_service_whose_background_work_dies_ends_so_that_it_is_started_anew(tmp_path, urls, nats_url):
    await make_streams(nats_url)
    async with service(tmp_path, urls, nats_url) as running:
        await chassis.until(running.healthy)
        await running.place("fatal")
        await asyncio.wait_for(running.process.communicate(), 60)
        assert running.process.returncode not in (0, None)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """A service that starts says how its process logs, and the logger keeps it: here others log after it."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.configure(**before)
    vars(telemetry.log).pop("bind", None)  # what the logger keeps
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ISSUERS_FILE": "/nonexistent/issuers.json"}, "ISSUERS_FILE: issuers.json: No such file"),
        ({"SERVICE_JWKS": ""}, "missing: SERVICE_JWKS"),
        ({"GRPC_PORT": "many"}, "GRPC_PORT"),
        ({"SERVICE_KEY_FILE": "/nonexistent/key.pem"}, "key.pem: No such file"),
        ({"EVENT_KEY_FILE": "/nonexistent/key.pem"}, "EVENT_KEY_FILE: key.pem: No such file"),
        ({"EVENT_JWKS": ""}, "missing: EVENT_JWKS"),
        ({"DATA_KEY_FILE": "/nonexistent/data.key"}, "DATA_KEY_FILE: data.key: No such file"),
        ({"APPROVAL_POLICY_FILE": "/nonexistent/rules.json"}, "APPROVAL_POLICY_FILE: rules.json: No such file"),
        ({"NATS_URL": "nats://127.0.0.1:1", "SECRETS_DIR": ""}, "missing: DATABASE_URL"),
    ],
)
@pytest.mark.usefixtures("restored_logging")
def test_a_service_that_cannot_be_safe_says_what_to_mend(tmp_path, urls, nats_url, monkeypatch, changes, said):
    """Nothing is started for it: how a process ends that cannot start, the test after this one shows."""
    settings = write_settings(tmp_path, urls, nats_url, Issuer(tmp_path)) | changes
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(schema, "ROOT", chassis_service.WITHOUT_MIGRATIONS)
    with redirect_stderr(io.StringIO()) as errors:
        assert run(chassis_service.main, Settings) == 2
    assert said in errors.getvalue()
    assert "Traceback" not in errors.getvalue()


async def test_a_service_refuses_to_run_as_the_owner_of_its_tables(tmp_path, urls, nats_url):
    async with service(
        tmp_path, SimpleNamespace(app_url=urls.owner_url, worker_url=urls.worker_url), nats_url
    ) as running:
        out, err = await asyncio.wait_for(running.process.communicate(), 60)
        assert (running.process.returncode, "owns tables" in err.decode()) == (2, True)
        assert "Traceback" not in err.decode() + out.decode()
