"""A migration takes the URL that its own message suggests."""

from __future__ import annotations

import pytest

from services.chassis.data import migrate


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg"])
async def test_a_url_is_taken_with_and_without_its_driver(scheme: str) -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):  # as far as a server that is not there
        await migrate.upgrade(f"{scheme}://owner:password@127.0.0.1:1/realco_escrow", "escrow")
