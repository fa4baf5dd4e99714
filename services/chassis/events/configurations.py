"""How JetStream has to be set for each stream, and in what the server's settings differ.

Compared is everything that the server says of a stream or consumer, whether we ask for it or not: a setting that a
later server has, and that nobody here knows, is a difference as soon as somebody uses it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nats.js.api import Base, DiscardPolicy, RetentionPolicy, StorageType, StoreCompression, StreamConfig

from services.chassis.events.stored import Stream

MESSAGE_BYTES_MAX = 256 * 1024
_DAY_SECONDS = 24 * 3600
_DUPLICATE_SECONDS = 2 * 3600
# What the server adds to the settings by itself: its versions.
_SERVERS_OWN = "_nats."


def stream_configuration(stream: Stream, replicas: int = 1) -> StreamConfig:
    """How a stream of ours is made. `replicas`: 1 for a server alone."""
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        # A full stream refuses new facts (the outbox keeps them) and forgets no old one before its time.
        discard=DiscardPolicy.NEW,
        num_replicas=replicas,
        max_age=stream.kept_days * _DAY_SECONDS,
        max_consumers=-1,
        max_msgs=-1,
        max_msgs_per_subject=-1,
        max_bytes=-1,
        max_msg_size=MESSAGE_BYTES_MAX,
        duplicate_window=_DUPLICATE_SECONDS,
        compression=StoreCompression.NONE,
        allow_atomic=True,
        allow_direct=True,  # how services read it
        deny_delete=True,
        deny_purge=True,
    )


def find_differences(wanted: Base, actual: Mapping[str, Any], *, ignored: Sequence[str] = ()) -> list[str]:
    """Each setting that is not as wanted: its name, what the server says and what was wanted.

    Args:
        actual: The `config` of the server's answer as it came.
        ignored: Settings that are not compared.
    """
    expected, there = _settings(json.loads(json.dumps(wanted.as_dict()))), _settings(actual)
    return [
        f"{name} is {_say(there.get(name))}, wanted {_say(expected.get(name))}"
        for name in sorted({*expected, *there} - {*ignored})
        if there.get(name) != expected.get(name)
    ]


def _settings(value: Any) -> Any:
    """Without what is false, zero or empty: JetStream writes that of some settings and leaves it out of others."""
    if isinstance(value, Mapping):
        inner = {name: _settings(item) for name, item in value.items() if not name.startswith(_SERVERS_OWN)}
        return {name: item for name, item in inner.items() if item}
    return [_settings(item) for item in value] if isinstance(value, list) else value


def _say(value: Any) -> str:
    return "not set" if value is None else json.dumps(value)
