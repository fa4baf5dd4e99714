"""Reads all pages of what a provider lists, and no list for ever: whoever is in its place may list without an end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from services.transactions.providers.protocols import OutcomeUnknown


class Page(NamedTuple):
    """
    Args:
        found: What is on it, each by its id.
    """

    found: Mapping[str, Any]
    has_more: bool


async def list_all(ask: Callable[[Mapping[str, Any]], Awaitable[Page]], *, pages_max: int) -> dict[str, Any]:
    """Each by its id, as it was said last.

    Args:
        ask: For the page behind what is found already, in its order.

    Raises: OutcomeUnknown: it has no end; or as `ask` does.
    """
    found: dict[str, Any] = {}
    for _ in range(pages_max):
        page = await ask(found)
        is_new = bool(page.found.keys() - found.keys())
        found |= page.found
        if not page.has_more:
            return found
        if not is_new:
            break
    raise OutcomeUnknown("the provider's list has no end")
