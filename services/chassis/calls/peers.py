"""Asking another service, and what its failure means to whoever asked us.

Its refusal is raised as it came where it is about the business, or about our caller's own session. A peer that finds
our request malformed, or does not let us ask, tells of a bug of ours: our own caller did nothing wrong, and hears
nothing of it. Whatever else happened, the same request may be sent again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from typing import Any, TypeVar

from grpc import aio

from services.chassis.calls.answer import note_replayed, says_replayed
from services.chassis.calls.sign_in import SessionEnded
from services.chassis.calls.status import from_status, status_in
from services.chassis.process.telemetry import log
from services.chassis.values.errors import AnswerWithheld, Bug, DomainError, Kind, Unavailable
from services.chassis.values.ids import new_id
from services.chassis.values.invariant import invariant
from services.chassis.values.refusals import IdempotencyKeyReused
from services.chassis.values.restore import RestoreNotSeen
from services.chassis.values.times import read_time

R = TypeVar("R")

# Nothing was done, and the same request would be refused again.
_REFUSALS = frozenset({Kind.NOT_FOUND, Kind.FAILED_PRECONDITION, Kind.ALREADY_EXISTS})
# Our request was wrong, or we may not ask.
_OUR_FAULTS = frozenset({Kind.INVALID_ARGUMENT, Kind.PERMISSION_DENIED, Kind.UNAUTHENTICATED})
# As contracts limit what is asked at once.
_IDS_A_CALL = 1000
# What it says of our own caller, whose token went along.
_OF_OUR_CALLER = frozenset({SessionEnded.reason})


async def ask(method: Callable[[Any], Awaitable[R]], request: Any) -> R:
    """The peer's answer.

    Raises:
        DomainError: the peer's definite refusal.
        Bug: it does not take this request from us.
        Unavailable: it cannot be reached, or its answer is lost; the same request may be sent again.
    """
    try:
        return await method(request)
    except aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def find_refusal(asking: Awaitable[object], unclear: Container[str] = ()) -> DomainError | None:
    """The definite refusal of what is asked; None where it was done.

    Args:
        unclear: Reasons that say nothing of whether it was done.

    Raises:
        DomainError: nobody knows whether it was done; the same request may be sent again. So it is where our key is in
            use for something else: what was done under it may be what we ask for, in other words.
    """
    try:
        await asking
    except DomainError as refusal:
        if refusal.kind.transient or refusal.reason == IdempotencyKeyReused.reason or refusal.reason in unclear:
            raise
        return refusal
    return None


async def pass_on(method: Callable[[Any], Awaitable[R]], request: Any) -> R:
    """The peer's answer to a request that is our caller's own: what is wrong with it is for the caller to hear.

    Raises:
        DomainError: the peer's refusal, whatever it is.
        Unavailable: it cannot be reached, or its answer is lost; the same request may be sent again.
    """
    try:
        return await method(request)
    except aio.AioRpcError as error:
        raise _read_refusal(error) from error


async def hand_on(method: Callable[[Any], Any], request: Any) -> Any:
    """As `pass_on`, where the peer's answer is ours: if it gave it before, to a request with this key, we did."""
    call = method(request)
    try:
        answer = await call
    except aio.AioRpcError as error:
        _hand_on_replayed(error.trailing_metadata())
        raise _read_refusal(error) from error
    _hand_on_replayed(await call.trailing_metadata())
    return answer


def _read_refusal(error: aio.AioRpcError) -> DomainError:
    status = status_in(error)
    refusal = from_status(status) if status is not None else None
    return refusal or Unavailable("A service this one needs cannot be reached.")


def _hand_on_replayed(metadata: aio.Metadata | None) -> None:
    if says_replayed(metadata):
        note_replayed()


def from_rpc_error(error: aio.AioRpcError) -> DomainError:
    """What a call to a peer failed of, as our own caller may know it. Logs what it may not."""
    status = status_in(error)
    refusal = from_status(status) if status is not None else None
    if refusal is not None and (refusal.kind in _REFUSALS or refusal.reason in _OF_OUR_CALLER):
        return refusal
    if refusal is not None and refusal.kind in _OUR_FAULTS:
        error_id = new_id("err")
        said = {"reason": refusal.reason, "said": refusal.message, "fields": refusal.fields}
        log.error("peer_refused_us", error_id=error_id, peer=refusal.domain, **said)
        return Bug(error_id)
    if refusal is not None and refusal.reason == AnswerWithheld.reason:
        return AnswerWithheld(refusal.message, row=refusal.metadata.get("row"))
    if refusal is not None and refusal.reason == RestoreNotSeen.reason:
        restored = refusal.metadata.get("restore_time")
        return RestoreNotSeen(read_time(restored) if restored else None)
    return Unavailable("A service this one needs cannot be reached.")


async def find(method: Callable[[Any], Awaitable[R]], request: Any) -> R | None:
    """The peer's answer; None where it has no such resource. Raises as `ask` does."""
    try:
        return await ask(method, request)
    except DomainError as refusal:
        if refusal.kind is Kind.NOT_FOUND:
            return None
        raise


async def ask_in_parts(
    ids: Sequence[str], ask_some: Callable[[Sequence[str]], Awaitable[Iterable[R]]], *, at_once: int = _IDS_A_CALL
) -> list[R]:
    """The peer's answers about many ids, asked for as many at once as it takes."""
    found: list[R] = []
    for start in range(0, len(ids), at_once):
        found += await ask_some(ids[start : start + at_once])
    return found


def check_answers(asked: Iterable[object], answered: Iterable[object], what: str) -> None:
    """A batch is answered item by item, in its order; anything else is a bug of the peer."""
    invariant(list(asked) == list(answered), f"{what} answers each item, in order")
