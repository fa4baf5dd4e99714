"""A database URL is taken as people have it, with or without a driver's name."""

from __future__ import annotations

import pytest

from services.chassis.data import migrate
from services.chassis.data.urls import dsn_of


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_a_driver_in_a_url_changes_nothing(scheme: str) -> None:
    rest = "//u:p%40ss@h1:5432,h2:5433/realco_escrow?sslmode=verify-full&sslrootcert=/ca.pem"
    assert dsn_of(f"{scheme}:{rest}") == f"postgresql:{rest}"


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg"])
async def test_a_migration_looks_for_the_server_that_the_url_names(scheme: str) -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):  # as far as a server that is not there
        await migrate.upgrade(f"{scheme}://owner:password@127.0.0.1:1/realco_escrow", "escrow")
