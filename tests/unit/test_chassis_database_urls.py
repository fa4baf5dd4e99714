"""A database URL is taken as people have it, with or without a driver's name."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from services.chassis.data import migrate
from services.chassis.data.urls import dsn_of
from services.chassis.process.settings import Settings


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_a_driver_in_a_url_changes_nothing(scheme: str) -> None:
    rest = "//u:p%40ss@h1:5432,h2:5433/realco_escrow?sslmode=verify-full&sslrootcert=/ca.pem"
    assert dsn_of(f"{scheme}:{rest}") == f"postgresql:{rest}"


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        ("postgres://u:p@h/name", True),
        ("postgresql://u:p@h1:5432,h2:5433/name?target_session_attrs=read-write", True),
        ("postgresql+asyncpg://u@[::1]:5432/name?sslmode=require", True),
        ("mysql://u@h/name", False),
        ("postgresql://u@h:0/name", False),
        ("postgresql://u@h1:5432,h2:port/name", False),
    ],
)
def test_a_setting_is_a_url_of_postgresql_or_is_refused_without_repeating_it(url: str, is_taken: bool) -> None:
    if is_taken:
        assert Settings(database_url=url).database_url.get_secret_value() == url
    else:
        with pytest.raises(ValidationError, match="must be a URL such as") as refusal:
            Settings(database_url=url)
        assert url not in str(refusal.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg"])
async def test_a_migration_looks_for_the_server_that_the_url_names(scheme: str) -> None:
    looked_for = asyncio.Event()

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        looked_for.set()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError):  # as far as one that hangs up
            await migrate.upgrade(f"{scheme}://owner:password@127.0.0.1:{port}/realco_escrow", "escrow")
    assert looked_for.is_set()
