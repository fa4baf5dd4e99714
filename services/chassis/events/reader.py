"""Reading a stream in its order, a question at a time.

Each question has an inbox of its own, of which nobody hears before it is asked, and which ends with it: what somebody
has sent there later does not reach this process. While it lasts, it takes as many messages and bytes as the answer can
have and a few more, and what is beyond them ends it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from services.chassis.events.dropped import Dropped
from services.chassis.events.streams import INBOX, client_of

_READ_SECONDS = 2.0
_CONNECTED_SECONDS = 0.05
_READ_BYTES_MAX = 4 * 1024 * 1024
# What comes to one inbox: of messages as many more than were asked for, since a mirror may answer as well, and others
# have answers sent there; of bytes, headers included, so many in all. One message always has room.
_MESSAGES_MORE_MAX = 100
_BYTES_MAX = 2 * _READ_BYTES_MAX
_STREAM, _SEQUENCE, _SUBJECT = "Nats-Stream", "Nats-Sequence", "Nats-Subject"
_STORED_AT, _FOLLOWING = "Nats-Time-Stamp", "Nats-Num-Pending"
# How an answer ends: there are no more, or there is none.
_ENDS = ("204", "404")


class Heard(NamedTuple):
    """A message as a stream has it.

    Args:
        following: How many it had after this one when it was read.
        stored_at: When it stored it, as the server says it.
    """

    sequence: int
    following: int
    stored_at: str
    subject: str
    headers: dict[str, str]
    data: bytes


class Gap(Exception):
    """The stream does not have the next message, and has later ones.

    Args:
        through: The last one that it does not have; None where nobody can say which these are.
    """

    def __init__(self, why: str, through: int | None = None) -> None:
        self.through = through
        super().__init__(why)


class Replaced(Gap):
    """The stream was put back: it has another message under the number that was read last."""


class _Inbox:
    """What came to one inbox and was not taken yet, until that is more than it may be."""

    def __init__(self, messages_max: int) -> None:
        self._messages_left, self._bytes_left = messages_max, _BYTES_MAX
        self._messages: asyncio.Queue[Msg | None] = asyncio.Queue(messages_max + 1)
        self._is_full = False

    async def hear(self, message: Msg) -> None:
        if self._is_full:
            return
        self._messages_left -= 1
        self._bytes_left -= len(message.data) + sum(
            len(name) + len(text) for name, text in (message.headers or {}).items()
        )
        self._is_full = self._messages_left < 0 or self._bytes_left < 0
        self._messages.put_nowait(None if self._is_full else message)

    async def take(self) -> Msg | None:
        """The next one; None: more came than it may be, and no more is taken."""
        return await self._messages.get()


class Reader:
    """Reads a stream in order, from wherever it is asked to. The server keeps nothing of that, so nobody can tell it
    that something was read, or that it begins elsewhere.

    Source: NATS ADR-31, batched direct get.
    """

    def __init__(self, js: JetStreamContext, stream: str) -> None:
        self._client, self._subject = client_of(js), f"{js._prefix}.DIRECT.GET.{stream}"
        self._stream = stream
        self._dropped = Dropped()

    async def read(self, after: int, most: int, stored_at: str = "") -> list[Heard]:
        """The messages that follow `after`, at most so many; none where the stream ends there.

        Args:
            stored_at: When the message `after` was stored, which is looked at once more; empty: nobody knows.

        Raises:
            Gap: there are later ones, and not the next; or another message is `after`; or another stream answers.
            nats.errors.Error, TimeoutError: unknown.
        """
        known = 1 if stored_at else 0
        wanted = {"seq": after + 1 - known, "batch": most + known, "max_bytes": _READ_BYTES_MAX}
        async with asyncio.timeout(_READ_SECONDS):
            # Asked while it is away, it would be answered when nobody waits for that any more.
            while not self._client.is_connected:  # noqa: ASYNC110  # nats-py has no event for it
                await asyncio.sleep(_CONNECTED_SECONDS)
            async with self._ask(wanted, most + known) as inbox:
                return await self._take(inbox, after, stored_at)

    @asynccontextmanager
    async def _ask(self, wanted: dict[str, int], most: int) -> AsyncIterator[_Inbox]:
        # Nobody can know it before this asks: who has the same password could answer first.
        reply = f"{self._client.new_inbox()}.{secrets.token_hex(16)}"
        inbox = _Inbox(most + 1 + _MESSAGES_MORE_MAX)  # the last one says that there are no more
        subscription = await self._client.subscribe(reply, cb=inbox.hear)
        try:
            await self._client.publish(self._subject, json.dumps(wanted).encode(), reply=reply)
            yield inbox
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def _take(self, inbox: _Inbox, after: int, stored_at: str) -> list[Heard]:
        found, foreign = list[Heard](), ""
        while True:
            answer = await inbox.take()
            if answer is None:
                self._dropped.note(INBOX)
                if found:  # they came before, in their order
                    return found
                raise nats.errors.Error("more came to the reader than it asked for")
            # The server's own headers come last and count, whatever the message says in their names.
            headers = answer.headers or {}
            if _SEQUENCE not in headers:
                if headers.get("Status") not in _ENDS:
                    raise nats.errors.Error(f"no stream answers: {headers}")
                if foreign and not found:
                    raise Gap(f"has {foreign!r} answer for it")
                return found
            sequence = int(headers[_SEQUENCE])
            # A mirror of it answers, too, if somebody made one; and who has the same password has others sent here.
            if headers.get(_STREAM) != self._stream:
                foreign = str(headers.get(_STREAM))
                continue
            if stored_at and sequence == after and headers[_STORED_AT] != stored_at:
                raise Replaced(f"has another message {after} than the one that was handled")
            if sequence <= after + len(found):
                continue
            if sequence > after + len(found) + 1:
                if found:  # it is told when it is the next
                    return found
                raise Gap(f"lacks what comes after {after}, up to {sequence - 1}", sequence - 1)
            following, stored = int(headers[_FOLLOWING]), headers[_STORED_AT]
            found.append(Heard(sequence, following, stored, headers[_SUBJECT], headers, answer.data))
