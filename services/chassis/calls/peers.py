"""Asking another service: its refusal is raised as it came, and a lost answer says that the same may be asked again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from grpc import aio

from services.chassis.calls.client import as_domain_error
from services.chassis.values.errors import DomainError, Kind, Unavailable
from services.chassis.values.invariant import invariant

R = TypeVar("R")


async def ask(method: Callable[[Any], Awaitable[R]], request: Any) -> R:
    """The peer's answer.

    Raises:
        DomainError: the peer's definite refusal.
        Unavailable: it cannot be reached, or its answer is lost; the same request may be sent again.
    """
    try:
        return await method(request)
    except aio.AioRpcError as error:
        refusal = as_domain_error(error)
        if refusal is not None:
            raise refusal from None
        raise Unavailable("A service this one needs cannot be reached.") from error


async def find(method: Callable[[Any], Awaitable[R]], request: Any) -> R | None:
    """The peer's answer; None where it has no such resource. Raises as `ask` does."""
    try:
        return await ask(method, request)
    except DomainError as refusal:
        if refusal.kind is Kind.NOT_FOUND:
            return None
        raise


def check_answers(asked: Iterable[object], answered: Iterable[object], what: str) -> None:
    """A batch is answered item by item, in its order; anything else is a bug of the peer."""
    invariant(list(asked) == list(answered), f"{what} answers each item, in order")
