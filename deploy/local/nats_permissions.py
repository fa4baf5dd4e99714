"""Who may publish and hear what on NATS: one allow-list of subjects per user of the topology, nothing by default.

- A service publishes events of its own area only, so no other service can pass its events off as that area's.
- A service reads and acknowledges through its own durable consumers only, so none can swallow another's messages.
- Only the provisioner makes or changes streams and durable consumers.
- `subscriber` is the user of the documentation and the demo. It may listen, and replay through ordered consumers of
  its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.topology import DEAD_LETTERS, NATS_USERS, NatsUser, Stream

ANY_DURABLE = ("*",)
_INBOXES = "_INBOX.>"
_DEAD_LETTER_PREFIX = DEAD_LETTERS.subjects[0].removesuffix(">")


@dataclass(frozen=True)
class Permissions:
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def permissions(durables: Mapping[str, Sequence[str]] | None) -> dict[str, Permissions]:
    """By user. `durables`: the names of each service's durable consumers.

    None is for tests: each service may use any, and the provisioner may do everything.
    """
    return {user.name: _permissions_of(user, durables) for user in NATS_USERS}


def _permissions_of(user: NatsUser, durables: Mapping[str, Sequence[str]] | None) -> Permissions:
    if user.administers:
        return Permissions((">",), (">",)) if durables is None else Permissions(("$JS.API.>",), (_INBOXES,))
    publish = ["$JS.API.INFO", "$JS.API.STREAM.NAMES"]
    if user.publishes:
        publish += user.publishes.subjects
    if user.consumes:
        publish.append("$JS.API.STREAM.INFO.*")
        for durable in ANY_DURABLE if durables is None else durables.get(user.name, ()):
            publish += _uses_of(durable)
    for stream in user.reads:
        publish += _replays_of(stream)
    return Permissions(tuple(publish), (_INBOXES, *(subject for stream in user.reads for subject in stream.subjects)))


def _uses_of(durable: str) -> list[str]:
    """What a service says to take messages from its durable consumer, and to put aside what it cannot handle."""
    return [
        f"{_DEAD_LETTER_PREFIX}{durable}",
        f"$JS.API.CONSUMER.INFO.*.{durable}",
        f"$JS.API.CONSUMER.MSG.NEXT.*.{durable}",
        f"$JS.ACK.*.{durable}.>",
    ]


def _replays_of(stream: Stream) -> list[str]:
    """The subject without a consumer's name makes consumers that nobody named and that end with their reader: with a
    name in it one could rewrite a service's durable.
    """
    return ["$JS.FC.>", f"$JS.API.STREAM.INFO.{stream.name}", f"$JS.API.CONSUMER.CREATE.{stream.name}"]
