"""A subscriber of all events, as another team would write one: it reads, with the user `subscriber`, and stores.

- Every event of the four streams from the first on, in the order of its stream, each once: repeated deliveries are
  recognized by their `ce-id`.
- It survives a restart of the NATS server: it asks again for what comes after the last event it has.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import nats
from google.protobuf import symbol_database
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from realco.compliance.v1 import events_pb2 as compliance_events  # noqa: F401  # registers its messages
from realco.distributions.v1 import events_pb2 as distributions_events  # noqa: F401
from realco.escrow.v1 import events_pb2 as escrow_events
from realco.transactions.v1 import events_pb2 as transactions_events  # noqa: F401

from demo.harness.events import read_messages
from deploy.topology import SERVICES, SUBSCRIBER, Service

_CONNECT_SECONDS = 20.0


class Subscriber:
    """Listens in a thread of its own from `start()` to `stop()`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._events: dict[str, tuple[str, Message]] = {}
        self._repeats = 0
        self._failure: BaseException | None = None
        self._listening = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="subscriber", daemon=True)

    def start(self) -> None:
        """Returns when it listens. Raises: ConnectionError if it cannot."""
        self._thread.start()
        if not self._listening.wait(_CONNECT_SECONDS) or self._failure:
            raise ConnectionError(f"The subscriber cannot listen on NATS: {self._failure}")

    def stop(self) -> None:
        if self._listening.is_set() and self._failure is None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10.0)

    # --- what it has seen -------------------------------------------------------------------------------------------

    def count_events(self) -> Counter[str]:
        """How many events of each type, each counted once."""
        with self._lock:
            return Counter(name for name, _ in self._events.values())

    @property
    def repeats(self) -> int:
        """Deliveries of events that it had already."""
        return self._repeats

    def list_journal_entries(self, escrow_account_id: str) -> list[Any]:
        """The journal entries of one escrow account, in the order they were published."""
        with self._lock:
            posted = [
                event for _, event in self._events.values() if isinstance(event, escrow_events.JournalEntriesPosted)
            ]
        return [
            entry for event in posted if event.escrow_account_id == escrow_account_id for entry in event.journal_entries
        ]

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._listen())
        except BaseException as failure:
            self._failure = failure
            self._listening.set()

    async def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()

        async def on_error(_: Exception) -> None:
            """A connection may be lost at any time: the client connects again by itself."""

        client = await nats.connect(
            self._url,
            inbox_prefix=f"_INBOX_{SUBSCRIBER}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # annotated int, used as seconds to sleep
            error_cb=on_error,
        )
        readers = [asyncio.create_task(self._read(client, service)) for service in SERVICES]
        self._listening.set()
        await self._stop.wait()
        for reader in readers:
            reader.cancel()
        await client.close()

    async def _read(self, client: Client, service: Service) -> None:
        subject = f"realco.{service.name}.v1.*.*.>"
        async for message in read_messages(client.jetstream(), service.stream.name, subject):
            self._keep(message)

    def _keep(self, message: Msg) -> None:
        headers = message.headers or {}
        name = headers["ce-type"]
        event = symbol_database.Default().GetSymbol(name).FromString(message.data)
        with self._lock:
            if headers["ce-id"] in self._events:
                self._repeats += 1
            else:
                self._events[headers["ce-id"]] = (name, event)
