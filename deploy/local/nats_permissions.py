"""Who may publish and hear what on NATS: lists of subjects for each user of the topology and each team.

- A service publishes events of its own area only, so no other service can pass its events off as that area's.
- A service reads and acknowledges through its own durable consumers only, so none can swallow another's messages.
- Only the provisioner makes or changes streams and durable consumers.
- A team hears the organizations and events it was granted. It may make consumers of its own on these: the filter is a
  part of the subject that makes one, and the server holds the consumer to it. Their names are the client's choice, so
  the names of all durables are denied.
- Each has its inbox under its own name, where no team hears the answers to another user.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deploy.teams import DOCUMENTED, Team
from deploy.topology import DEAD_LETTERS, NATS_USERS, NatsUser

ANY_DURABLE = ("*",)
_DEAD_LETTER_PREFIX = DEAD_LETTERS.subjects[0].removesuffix(">")


@dataclass(frozen=True)
class Permissions:
    """Subjects a user may publish to and subscribe to; what is denied is denied even if it is allowed, too."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    publish_not: tuple[str, ...] = ()


def permissions(
    durables: Mapping[str, Sequence[str]] | None, teams: Sequence[Team] = (DOCUMENTED,)
) -> dict[str, Permissions]:
    """By user. `durables`: the names of each service's and team's durable consumers.

    None is for tests: each service may use any, and the provisioner may do everything.
    """
    users = {user.name: _permissions_of(user, durables) for user in NATS_USERS}
    return users | {team.name: _permissions_of_team(team, durables or {}) for team in teams}


def inbox_prefix(user: str) -> str:
    """Where a user's answers arrive: nats-py's `inbox_prefix`, nats.js' `inboxPrefix`."""
    return f"_INBOX_{user}"


def _permissions_of(user: NatsUser, durables: Mapping[str, Sequence[str]] | None) -> Permissions:
    inbox = f"{inbox_prefix(user.name)}.>"
    if user.administers:
        return Permissions((">",), (">",)) if durables is None else Permissions(("$JS.API.>",), (inbox,))
    publish = ["$JS.API.INFO", "$JS.API.STREAM.NAMES"]
    if user.publishes:
        publish += user.publishes.subjects
    if user.consumes:
        publish.append("$JS.API.STREAM.INFO.*")
        for durable in ANY_DURABLE if durables is None else durables.get(user.name, ()):
            publish += [f"{_DEAD_LETTER_PREFIX}{durable}", *_uses_of(durable)]
    return Permissions(tuple(publish), (inbox,))


def _permissions_of_team(team: Team, durables: Mapping[str, Sequence[str]]) -> Permissions:
    publish, subscribe = ["$JS.API.INFO"], [f"{inbox_prefix(team.name)}.>"]
    for stream, subjects in team.subjects_by_stream().items():
        publish += [f"$JS.API.CONSUMER.CREATE.{stream}.*.{subject}" for subject in subjects]
        publish += [f"$JS.API.CONSUMER.DELETE.{stream}.*", *_uses_of("*", stream)]
        subscribe += subjects
        if team.hears_everything:  # it tells of the subjects of every organization
            publish.append(f"$JS.API.STREAM.INFO.{stream}")
    return Permissions(tuple(publish), tuple(subscribe), tuple(_denials(team, durables)))


def _denials(team: Team, durables: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """Nobody but the provisioner makes or removes a durable consumer, and nobody uses another's."""
    for owner, names in durables.items():
        for name in names:
            yield f"$JS.API.CONSUMER.CREATE.*.{name}.>"
            yield f"$JS.API.CONSUMER.DELETE.*.{name}"
            if owner != team.name:
                yield from _uses_of(name)


def _uses_of(consumer: str, stream: str = "*") -> list[str]:
    """What a client says to take messages from a consumer."""
    return [
        f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
    ]
