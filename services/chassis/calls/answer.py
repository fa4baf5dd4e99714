"""What the answer of the current call says beside its message."""

from __future__ import annotations

from contextvars import ContextVar

from google.protobuf.message import Message
from grpc import aio

from services.chassis.values.etags import digest_of

REPLAYED = "realco-idempotency-replayed"


class _Answer:
    """One for each call: what the tasks that a call starts note is said of it."""

    is_replayed = False


_answer: ContextVar[_Answer | None] = ContextVar("answer", default=None)


def note_replayed() -> None:
    """The answer was decided by an earlier request with the same key."""
    if (answer := _answer.get()) is not None:
        answer.is_replayed = True


def is_replayed() -> bool:
    answer = _answer.get()
    return answer is not None and answer.is_replayed


def says_replayed(metadata: aio.Metadata | None) -> bool:
    """Whether a service said so of the answer that came with this."""
    return metadata is not None and metadata.get(REPLAYED) == "true"


def answer_metadata() -> tuple[tuple[str, str], ...]:
    """The trailing metadata of the current call's answer, or of its refusal."""
    return ((REPLAYED, "true"),) if is_replayed() else ()


def begin_answer() -> None:
    """From here on it is the answer of another call."""
    _answer.set(_Answer())


def void_etags(message: Message) -> None:
    """Of what was only rehearsed there is no version, so its etag is none of any: with the one that it would have got,
    which the next change gets, whoever sent it back would pass over what they never read."""
    for field, value in message.ListFields():
        if field.name == "etag":
            setattr(message, field.name, digest_of("rehearsed", value))
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for part in [value] if isinstance(value, Message) else value:
                void_etags(part)
