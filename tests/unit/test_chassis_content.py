"""By what two contents are compared without being read: what they do, and what they say apart from given ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chassis.values.content import Content, build_request_content, build_resource_content

LARGE = 2**63


def ask(effect: Any, text: str = "{}") -> Content:
    return build_request_content(text, effect, None)


@pytest.mark.parametrize(("one", "other", "is_same"), [
    ({"a": 1, "b": [2, 3]}, {"b": [2, 3], "a": 1}, True),
    (("esc_1", [1]), ["esc_1", [1]], True),
    ([LARGE], [LARGE], True),  # the sum of what many legs move
    ([LARGE], [LARGE + 1], False),
    ({"a": 1}, {"a": 2}, False),
])  # fmt: skip
def test_what_does_the_same_is_told_by_one_hash(one: Any, other: Any, *, is_same: bool) -> None:
    assert (ask(one).effect_hash == ask(other).effect_hash) is is_same


def test_a_request_is_the_same_anew_where_it_says_the_same() -> None:
    assert ask([1]).anew_hash == ask([2]).anew_hash == ask([1]).content_hash
    assert ask([1]).anew_hash != ask([1], '{"a": 1}').anew_hash


def wait(resource_id: str, changes: tuple[str, ...] = (), **said: Any) -> Content:
    resource = {"payment": {"id": resource_id, "description": "rent", **said}, "approvalReason": resource_id}
    text = json.dumps({"resource": resource, "changes": changes, "preconditions": []})
    return build_resource_content("APPROVE_PAYMENT", resource_id, text)


@pytest.mark.parametrize(("other", "does_same", "is_same_anew"), [
    (wait("txn_2"), True, True),
    (wait("txn_2", description="invoice 18"), True, False),
    (wait("txn_2", amountMinor="501"), False, False),
    (wait("txn_2", changes=("status",)), False, False),
])  # fmt: skip
def test_a_resource_is_compared_without_what_it_was_given(
    other: Content, *, does_same: bool, is_same_anew: bool
) -> None:
    one = wait("txn_1")
    assert one.content_hash != other.content_hash
    assert (one.effect_hash == other.effect_hash, one.anew_hash == other.anew_hash) == (does_same, is_same_anew)
