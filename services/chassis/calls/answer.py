"""What the answer of the current call says beside its message."""

from __future__ import annotations

from contextvars import ContextVar

from grpc import aio

REPLAYED = "realco-idempotency-replayed"

_replayed: ContextVar[bool] = ContextVar("replayed", default=False)


def note_replayed() -> None:
    """The answer was decided by an earlier request with the same key."""
    _replayed.set(True)


def is_replayed() -> bool:
    return _replayed.get()


def says_replayed(metadata: aio.Metadata | None) -> bool:
    """Whether a service said so of the answer that came with this."""
    return metadata is not None and metadata.get(REPLAYED) == "true"


def answer_metadata() -> tuple[tuple[str, str], ...]:
    """The trailing metadata of the current call's answer, or of its refusal."""
    return ((REPLAYED, "true"),) if _replayed.get() else ()


def begin_answer() -> None:
    """Forgets what an earlier call of this task may have noted."""
    _replayed.set(False)
