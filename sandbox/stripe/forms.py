"""Stripe's form encoding: `a[b][c]=1&d[0]=2`, as the nested values that it means."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl


def parse_form(text: str) -> dict[str, Any]:
    """Lists are dicts by number until the end, when they become lists."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *more = name.replace("]", "").split("[")
        place, last = found, first
        for key in more:
            place = place.setdefault(last, {})
            last = key
        place[last or str(len(place))] = value
    return {name: _list_where_numbered(value) for name, value in found.items()}


def _list_where_numbered(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _list_where_numbered(each) for name, each in value.items()}
    return list(inner.values()) if inner and all(name.isdigit() for name in inner) else inner
