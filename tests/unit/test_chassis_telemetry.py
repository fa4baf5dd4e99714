"""Logs say what happened and nothing that is secret; settings say what is missing and not what was given."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket

import httpx
import pytest
from pydantic import SecretStr
from realco.type.v1 import money_pb2

from deploy.local.ports import choose_free_port
from services.chassis.process import telemetry
from services.chassis.process.log_lines import LineHandler, LineLogger, Lines
from services.chassis.process.settings import ConfigurationError, Settings, addresses_of

SECRET = "4242424242424242"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("anything", SecretStr(SECRET)),
        ("anything", SECRET.encode()),
        ("request", money_pb2.Money(currency_code=SECRET)),
        ("account_number", SECRET),
        ("Authorization", f"Bearer {SECRET}"),
        ("database_url", f"postgresql://x:{SECRET}@y"),
        ("details", {"tax_id": SECRET}),
        ("details", [{"deep": {"api_key": SECRET}}]),
        ("items", [SecretStr(SECRET)]),
    ],
)
def test_no_secret_gets_into_a_log_line(key, value):
    assert SECRET not in repr(telemetry.redact({key: value, "event": "x"}))


def test_what_is_no_secret_stays():
    line = {"event": "rpc", "code": "OK", "duration_ms": 1.5, "tags": ["a"], "nothing": None}
    assert telemetry.redact(line) == line


def test_lines_are_written_together_in_their_order_and_what_is_wrong_at_once(capsysbinary):
    lines = Lines()
    ours, theirs = LineLogger(lines), LineHandler(lines)

    def list_written() -> list[bytes]:
        return capsysbinary.readouterr().out.split()

    async def work() -> None:
        ours.info(b"1")
        ours.info(b"2")
        assert list_written() == []
        ours.warning(b"3")
        assert list_written() == [b"1", b"2", b"3"]
        ours.info(b"4")
        theirs.handle(logging.makeLogRecord({"msg": "5", "levelno": logging.WARNING}))
        assert list_written() == [b"4", b"5"]
        ours.info(b"6")
        ours.info(b"7")
        await asyncio.sleep(0.2)
        assert list_written() == [b"6", b"7"]
        ours.info(b"8")

    asyncio.run(work())
    assert list_written() == []
    ours.info(b"9")  # no loop runs that would write it later
    assert list_written() == [b"8", b"9"]


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", False),
        ('"}\n{"forged": true', False),
        (None, False),
    ],
)
def test_a_trace_is_continued_or_begun(given, joined):
    def continued() -> str:
        telemetry.continue_trace(given, "req id with spaces\n")
        assert telemetry.current_request_id().startswith("req_")
        return telemetry.current_traceparent()

    trace = contextvars.copy_context().run(continued)
    assert given is not None and trace.split("-")[1] == given.split("-")[1] if joined else True
    assert trace != given
    assert len(trace) == 55


def test_settings_come_from_the_environment_and_from_secret_files(monkeypatch, tmp_path):
    (tmp_path / "database_url").write_text("postgresql+asyncpg://a:b@c/d")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("GRPC_PORT", "50052")
    settings = Settings.load()
    assert settings.database_url.get_secret_value() == "postgresql+asyncpg://a:b@c/d"
    assert settings.grpc_port == 50052
    assert settings.environment == "production"


def test_a_bad_setting_is_named_and_its_value_is_not(monkeypatch):
    monkeypatch.setenv("GRPC_PORT", SECRET)
    with pytest.raises(ConfigurationError, match="GRPC_PORT") as refusal:
        Settings.load()
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "starts"),
    [
        ({"ENVIRONMENT": "local"}, True),
        ({"ENVIRONMENT": "local", "BIND_HOST": "127.0.0.1"}, True),
        ({}, False),
        ({"ENVIRONMENT": "production"}, False),
        ({"ENVIRONMENT": "local", "BIND_HOST": "0.0.0.0"}, False),
    ],
)
def test_a_test_clock_is_for_a_local_instance_alone(monkeypatch, tmp_path, given, starts):
    for name, value in given.items() | {("CLOCK_FILE", str(tmp_path / "clock.json"))}:
        monkeypatch.setenv(name, value)
    if starts:
        assert Settings.load().clock_file == tmp_path / "clock.json"
    else:
        with pytest.raises(ConfigurationError, match=r"^CLOCK_FILE: .*for a local instance alone"):
            Settings.load()


@pytest.mark.parametrize("name", ["DATABASE_URL", "WORKER_DATABASE_URL", "MIGRATION_DATABASE_URL"])
@pytest.mark.parametrize("url", [SECRET, f"mysql://u:{SECRET}@h/d", f"postgresql://u:{SECRET}@h:70000/d"])
def test_a_url_that_is_none_of_a_database_is_named_before_anybody_connects(monkeypatch, name, url):
    monkeypatch.setenv(name, url)
    with pytest.raises(ConfigurationError, match=f"^{name}: ") as refusal:
        Settings.load()
    assert SECRET not in str(refusal.value)


def test_a_service_is_looked_for_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("ESCROW_ADDRESS", "escrow.internal:50052")
    monkeypatch.setenv("LENDING_ADDRESS", "127.0.0.1:1")
    assert addresses_of(["escrow", "lending"]) == {"escrow": "escrow.internal:50052", "lending": "127.0.0.1:1"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "^missing: ESCROW_ADDRESS, LENDING_ADDRESS$"),
        ({"ESCROW_ADDRESS": ""}, "^missing: ESCROW_ADDRESS, LENDING_ADDRESS$"),
        ({"ESCROW_ADDRESS": "escrow:1"}, "^missing: LENDING_ADDRESS$"),
        ({"ESCROW_ADDRESS": "escrow", "LENDING_ADDRESS": "lending:1"}, "^ESCROW_ADDRESS: must be host:port$"),
        ({"ESCROW_ADDRESS": "http://escrow:1/", "LENDING_ADDRESS": "lending:1"}, "^ESCROW_ADDRESS: must be host:port$"),
    ],
)
def test_an_address_that_is_missing_or_none_is_named(monkeypatch, given, said):
    for name, address in given.items():
        monkeypatch.setenv(name, address)
    with pytest.raises(ConfigurationError, match=said):
        addresses_of(["escrow", "lending"])


def test_missing_settings_are_named_together():
    with pytest.raises(ConfigurationError, match="missing: DATABASE_URL, SERVICE_KEY_FILE"):
        Settings().require("database_url", "service_key_file", "bind_host")


def test_whoever_asks_for_the_counters_and_never_ends_takes_a_few_connections_and_for_a_while(monkeypatch):
    monkeypatch.setattr(telemetry._SilentHandler, "timeout", 0.5)
    port = choose_free_port()
    telemetry.serve_metrics("127.0.0.1", port)
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(telemetry._METRICS_READERS_MAX)]
    for each in held:
        each.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    more = socket.create_connection(("127.0.0.1", port))
    assert more.recv(1) == b"", "closed at once"
    assert [each.recv(1) for each in held] == [b""] * len(held), "nobody waits longer than that"
    assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
