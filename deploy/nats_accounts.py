"""Who may do what on NATS: an account a service and a team, and the few subjects that cross between accounts.

- The account EVENTS holds the streams of events and has no user: whatever reaches it crosses by a subject written here.
- A service's account crosses to publish its own area's events and read them, to read the streams that it hears, and
  to ask how the streams are that it reads and writes. It has no consumer there: nobody can tell the server how far it
  is. It hears its inbox, in its own account what its processes tell each other, and that a stream has something new.
- A team's account holds copies of the streams, made by the server from a consumer in EVENTS that passes what the team
  was granted and nothing else. In its own account a team makes what consumers it likes.
- The gateways' account is the place where they tell each other what they counted, and nothing crosses into it.
- The provisioner's account reaches the part of JetStream's API that makes streams and consumers, in EVENTS and in each
  team's account. A reply subject never crosses: answers arrive in the account that asked.

A user may say just what crosses from its account; a team, a part of JetStream's API in its own; a gateway, its counts;
a service, that it committed events, and that it told some.
`python -m deploy.nats_accounts` writes the accounts for a server's configuration (docs/operations.md).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt

from deploy.secrets import Secrets
from deploy.teams import InvalidTeams, Team, read_teams
from deploy.topology import GATEWAY, PROVISIONER, SERVICES, STREAMS, Service
from services.chassis.events.stored import stream_of_area
from services.chassis.events.subjects import COMMITTED_SUBJECT, COUNTED_SUBJECT, EVENTS_ACCOUNT, told_subject

_API = "$JS.API."
# What the provisioner says to JetStream: it makes and asks, and empties or removes no stream of events.
_MAKES = (
    "STREAM.CREATE.*",
    "STREAM.UPDATE.*",
    "STREAM.INFO.*",
    "STREAM.NAMES",
    "CONSUMER.CREATE.>",
    "CONSUMER.INFO.*.*",
    "CONSUMER.LIST.*",
    "CONSUMER.DELETE.*.*",
)
# What a team says in its own account. Each stream there is a copy; the consumers are the team's.
_READS = ("INFO", "STREAM.NAMES", "STREAM.LIST", "CONSUMER.CREATE.>", "CONSUMER.DURABLE.CREATE.>")
_READS_OF_A_STREAM = (
    "STREAM.INFO.{}",
    "CONSUMER.NAMES.{}",
    "CONSUMER.LIST.{}",
    "CONSUMER.INFO.{}.*",
    "CONSUMER.DELETE.{}.*",
    "CONSUMER.MSG.NEXT.{}.*",
)
_TEAM_CONSUMERS_MAX = 64
# The work factor protects guessable passwords; ours have 192 random bits, and every connection pays for it.
_BCRYPT_ROUNDS = 4


@dataclass(frozen=True)
class Crossing:
    """A subject of the account `owner` that another account may use.

    Args:
        local: What the other account calls it.
        messages: The owner's messages go out to the other; otherwise requests of the other come in.
        streamed: A request has several answers.
    """

    owner: str
    subject: str
    local: str
    messages: bool = False
    streamed: bool = False


@dataclass(frozen=True)
class Account:
    """An account with one user of its name, what crosses into it, and what else the user may say and hear in it."""

    name: str
    crossings: tuple[Crossing, ...]
    says: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    has_streams: bool = False

    @property
    def publish(self) -> list[str]:
        """What its user may say. What only the server says to another account is none of it."""
        spoken = () if self.has_streams else (one.local for one in self.crossings if not one.messages)
        return [*spoken, *self.says]

    @property
    def subscribe(self) -> list[str]:
        return [f"{inbox_prefix(self.name)}.>", *self.hears]


def inbox_prefix(user: str) -> str:
    """Where a user's answers arrive: nats-py's `inbox_prefix`, nats.js' `inboxPrefix`."""
    return f"_INBOX_{user}"


def hash_password(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS)).decode()


def list_accounts(teams: Sequence[Team]) -> list[Account]:
    services = [_service(service) for service in SERVICES]
    gateway = Account(GATEWAY, (), says=(COUNTED_SUBJECT,), hears=(COUNTED_SUBJECT,))
    return [*services, gateway, _provisioner(teams), *(_account_of(team) for team in teams)]


def write_accounts(accounts: Sequence[Account], passwords: Mapping[str, str]) -> dict[str, Any]:
    """The `accounts` of a server's configuration. `passwords`: bcrypt hashes by user."""
    written: dict[str, Any] = {EVENTS_ACCOUNT: {"jetstream": "enabled"}}
    for account in accounts:
        user = {
            "user": account.name,
            "password": passwords[account.name],
            "permissions": {"publish": {"allow": account.publish}, "subscribe": {"allow": account.subscribe}},
        }
        written[account.name] = {"users": [user], "imports": [_import(one) for one in account.crossings]}
        if account.has_streams:
            written[account.name]["jetstream"] = {
                "max_streams": len(STREAMS),
                "max_consumers": _TEAM_CONSUMERS_MAX,
            }
    for owner, exports in _exports(accounts).items():
        written[owner]["exports"] = exports
    return written


def _service(service: Service) -> Account:
    told = [told_subject(area) for area in service.hears]
    says = (COMMITTED_SUBJECT, told_subject(service.name))
    return Account(service.name, tuple(_crossings_of(service)), says, hears=(COMMITTED_SUBJECT, *told))


def _crossings_of(service: Service) -> Iterable[Crossing]:
    for subject in service.stream.subjects:
        yield _to_events(subject)
    yield _to_api(f"STREAM.MSG.GET.{service.stream.name}")
    yield _to_api(f"STREAM.INFO.{service.stream.name}")
    # After a restore it looks for what it told before.
    yield _to_api(f"DIRECT.GET.{service.stream.name}", streamed=True)
    for area in service.hears:
        stream = stream_of_area(area).name
        yield _to_api(f"STREAM.INFO.{stream}")
        yield _to_api(f"DIRECT.GET.{stream}", streamed=True)
        yield Crossing(area, told_subject(area), told_subject(area), messages=True)


def _provisioner(teams: Sequence[Team]) -> Account:
    crossings = [_to_api(command) for command in _MAKES]
    for team in teams:
        crossings += [
            Crossing(team.name, f"{_API}{command}", f"$JS.{team.name}.API.{command}")
            for command in (*_MAKES, "STREAM.DELETE.*")
        ]
    return Account(PROVISIONER, tuple(crossings))


def _account_of(team: Team) -> Account:
    crossings: list[Crossing] = []
    for copy in team.copies():
        crossings += [
            Crossing(EVENTS_ACCOUNT, copy.deliver_subject, copy.deliver_subject, messages=True),
            _to_events(f"$JS.FC.{copy.stream}.{copy.consumer}.>"),
            _to_api(f"CONSUMER.RESET.{copy.stream}.{copy.consumer}"),
        ]
    reads = [*_READS, *(command.format(copy.stream) for copy in team.copies() for command in _READS_OF_A_STREAM)]
    says = (*(f"{_API}{command}" for command in reads), "$JS.ACK.>")
    return Account(team.name, tuple(crossings), says, has_streams=True)


def _to_events(subject: str) -> Crossing:
    return Crossing(EVENTS_ACCOUNT, subject, subject)


def _to_api(command: str, *, streamed: bool = False) -> Crossing:
    """Under a prefix of its own: below `$JS.API` every account has its own JetStream, or is told that it has none."""
    return Crossing(EVENTS_ACCOUNT, f"{_API}{command}", f"$JS.{EVENTS_ACCOUNT}.API.{command}", streamed=streamed)


def _import(crossing: Crossing) -> dict[str, Any]:
    kind = "stream" if crossing.messages else "service"
    written: dict[str, Any] = {kind: {"account": crossing.owner, "subject": crossing.subject}}
    return written if crossing.local == crossing.subject else written | {"to": crossing.local}


def _exports(accounts: Sequence[Account]) -> dict[str, list[dict[str, Any]]]:
    """By owner: each subject once, with the accounts that it is for."""
    found: dict[Crossing, list[str]] = {}
    for account in accounts:
        for crossing in account.crossings:
            found.setdefault(crossing, []).append(account.name)
    exports: dict[str, list[dict[str, Any]]] = {}
    for crossing, names in found.items():
        written: dict[str, Any] = {
            "stream" if crossing.messages else "service": crossing.subject,
            "accounts": names,
        }
        if crossing.streamed:
            written["response_type"] = "stream"
        exports.setdefault(crossing.owner, []).append(written)
    return exports


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.nats_accounts", description="Writes the accounts of a NATS server's configuration."
    )
    parser.add_argument("--secrets", type=Path, required=True, help="folder of the users' passwords; made if missing")
    teams = os.environ.get("TEAMS_FILE")
    parser.add_argument("--teams", type=Path, default=teams, help="teams outside (default: TEAMS_FILE, %(default)s)")
    given = parser.parse_args()
    try:
        accounts = list_accounts(read_teams(given.teams))
    except InvalidTeams as error:
        sys.exit(str(error))
    secrets = Secrets(given.secrets)
    hashes = {account.name: hash_password(secrets.get(f"nats_{account.name}")) for account in accounts}
    print(json.dumps({"accounts": write_accounts(accounts, hashes)}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
