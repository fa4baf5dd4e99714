"""The pages of what a provider lists are read to their end, and no list without an end for ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from services.transactions.providers.pages import Page, list_all
from services.transactions.providers.protocols import OutcomeUnknown


async def list_these(*pages: Page, pages_max: int = 10) -> tuple[dict[str, Any], list[int]]:
    """What is found, and how much of it was found when each page was asked for."""
    asked: list[int] = []

    async def ask(found: Mapping[str, Any]) -> Page:
        asked.append(len(found))
        return pages[len(asked) - 1]

    return await list_all(ask, pages_max=pages_max), asked


async def test_each_page_is_asked_for_behind_what_is_found_and_what_was_said_last_counts() -> None:
    found = await list_these(Page({"a": 1, "b": 2}, True), Page({"b": 3, "c": 4}, True), Page({}, False))
    assert found == ({"a": 1, "b": 3, "c": 4}, [0, 2, 3])


@pytest.mark.parametrize(
    ("pages", "pages_max"),
    [
        ([Page({}, True)], 10),
        ([Page({"a": 1}, True), Page({"a": 2}, True)], 10),  # nothing new
        ([Page({"a": 1}, True), Page({"b": 2}, True)], 2),
    ],
)
async def test_a_list_that_brings_nothing_new_or_has_too_many_pages_has_no_end(pages, pages_max) -> None:
    with pytest.raises(OutcomeUnknown, match="no end"):
        await list_these(*pages, pages_max=pages_max)
