"""Teams outside this repository that hear events: their NATS users, and what they may hear.

A team is a few lines in a TOML file that TEAMS_FILE names; docs/subscribing.md shows one. From them follow the team's
account on NATS (nats_accounts.py) and the copies of our streams in it, which the provisioner makes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from deploy.topology import NATS_USER_NAMES, SERVICE_NAMES, SERVICES, SUBSCRIBER

EVERY_ORGANIZATION = "*"
_STREAMS = {service.name: service.stream.name for service in SERVICES}
# How the names of consumers begin that fill copies.
COPYING = "copy-"
# A subject says the event in four tokens, then the organization.
_GRANTED_TOKENS = 5
EVERY_EVENT = tuple(f"{service}.*" for service in SERVICE_NAMES)

# Each becomes one token of a NATS subject. An event is `escrow.HoldPlaced`, or `escrow.*` for all of an area.
Event = Annotated[str, StringConstraints(pattern=rf"^({'|'.join(SERVICE_NAMES)})\.([A-Z][A-Za-z]+|\*)$")]
Organization = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]{0,63}|\*)$")]


class InvalidTeams(Exception):
    """The teams' file cannot be followed as it is written."""


def _refuse_overlap(events: Sequence[str]) -> None:
    """JetStream refuses a consumer whose filters overlap."""
    for event in events:
        area, _, kind = event.partition(".")
        if events.count(event) > 1 or (kind != "*" and f"{area}.*" in events):
            raise ValueError(f"events: {event} is named twice")


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Copy:
    """A stream in a team's account: what the team may hear of ours of the same name."""

    team: str
    stream: str
    subjects: tuple[str, ...]

    @property
    def consumer(self) -> str:
        """The consumer in EVENTS that fills it."""
        return f"{COPYING}{self.team}"

    @property
    def deliver_subject(self) -> str:
        """How its messages get from there to here."""
        return f"_copies.{self.team}.{self.stream}"

    def is_granted(self, subject: str) -> bool:
        """Whether the team may hear what is said under this subject."""
        said = subject.split(".")[:_GRANTED_TOKENS]
        granted = (each.split(".")[:_GRANTED_TOKENS] for each in self.subjects)
        return any(all(token in ("*", word) for token, word in zip(tokens, said, strict=False)) for tokens in granted)


class Team(_Written):
    """A team; its NATS user has its name. It hears these events of these organizations and nothing else."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
    organizations: Annotated[tuple[Organization, ...], Field(min_length=1)]
    events: Annotated[tuple[Event, ...], Field(min_length=1)] = EVERY_EVENT

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if EVERY_ORGANIZATION in self.organizations and len(self.organizations) > 1:
            raise ValueError(f"organizations: {EVERY_ORGANIZATION} stands alone")
        if len(set(self.organizations)) < len(self.organizations):
            raise ValueError("organizations: one is named twice")
        _refuse_overlap(self.events)
        return self

    def copies(self) -> list[Copy]:
        """One for each of our streams that has something for it."""
        subjects: dict[str, list[str]] = {}
        for event in self.events:
            area, _, kind = event.partition(".")
            subjects.setdefault(_STREAMS[area], []).extend(
                f"realco.{area}.v1.{kind}.{organization}.>" for organization in self.organizations
            )
        return [Copy(self.name, stream, tuple(heard)) for stream, heard in subjects.items()]


def list_copies(teams: Sequence[Team]) -> list[Copy]:
    return [copy for team in teams for copy in team.copies()]


# The user of the documentation and the demo on a local instance.
DOCUMENTED = Team(name=SUBSCRIBER, organizations=(EVERY_ORGANIZATION,))


def read_teams(file: Path | str | None) -> tuple[Team, ...]:
    """The documented one, and those of the file, if there is one.

    Raises:
        InvalidTeams: the file is not there, or what it says cannot be.
    """
    if not file:
        return (DOCUMENTED,)
    try:
        return (DOCUMENTED, *parse_teams(Path(file).read_text()))
    except (OSError, InvalidTeams) as error:
        raise InvalidTeams(f"the teams' file {file}: {error}") from None


def parse_teams(text: str) -> tuple[Team, ...]:
    """The teams of a file's text. Raises: InvalidTeams."""
    try:
        written = tomllib.loads(text)
        teams = tuple(Team.model_validate({"name": name} | _table(name, fields)) for name, fields in written.items())
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidTeams(f"{error.title} {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidTeams(str(error)) from None
    for team in teams:
        if team.name in NATS_USER_NAMES:
            raise InvalidTeams(f"{team.name} is the name of another user of NATS")
    return teams


def _table(name: str, fields: Any) -> dict[str, Any]:
    if not isinstance(fields, dict):
        raise InvalidTeams(f"{name} is a table")
    return fields
