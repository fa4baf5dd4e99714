"""Batches whose items are decided one by one: every contract answers them in the same form.

A result has the item's key, a oneof of what was made and of the `failure`, and whether an earlier request with this
key was decided so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from services.chassis.calls.answer import note_replayed
from services.chassis.calls.wire import to_failure
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import Failure, make_failure

R = TypeVar("R")
M = TypeVar("M", bound=Message)


class Outcome(NamedTuple, Generic[R]):
    """What became of an item: done or refused, now or by an earlier request with its key."""

    answer: R | DomainError
    replayed: bool = False


def build_results(result: type[M], items: Iterable[Any], outcomes: Sequence[Outcome[Any]]) -> list[M]:
    """One result an item, in order; a kept `Failure` is a refusal, too. The whole is a replay where every item is."""
    key, made = (field.name for field in result.DESCRIPTOR.fields[:2])
    results = []
    for item, (answer, replayed) in zip(items, outcomes, strict=True):
        refusal = make_failure(answer) if isinstance(answer, DomainError) else answer
        is_refused = isinstance(refusal, Failure)
        outcome = {"failure": to_failure(refusal)} if is_refused else {made: answer}
        told: Any = result(**{key: getattr(item, key)}, **outcome, replayed=replayed)
        if isinstance(answer, DomainError):
            told.failure.fields.update(answer.fields)
        results.append(told)
    if all(outcome.replayed for outcome in outcomes):
        note_replayed()
    return results
