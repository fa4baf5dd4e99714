"""Teams outside this repository that hear events: their NATS users, what they may hear, and their durable consumers.

A team is a few lines in a TOML file that TEAMS_FILE names; docs/subscribing.md shows one. From them follow the NATS
user's permissions (local/nats_permissions.py) and the consumers that the provisioner makes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from deploy.topology import NATS_USER_NAMES, SERVICE_NAMES, SERVICES, SUBSCRIBER

EVERY_ORGANIZATION = "*"
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


class Durable(_Written):
    """A durable consumer of a team: one on each stream that its events are in.

    Its name begins with the team's and `_`. `scope` limits it to an escrow account or offering.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+(_[a-z0-9]+)+$")]
    events: Annotated[tuple[Event, ...], Field(min_length=1)]
    scope: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")] | None = None


class Team(_Written):
    """A team; its NATS user has its name. It hears these events of these organizations and nothing else."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
    organizations: Annotated[tuple[Organization, ...], Field(min_length=1)]
    events: Annotated[tuple[Event, ...], Field(min_length=1)] = EVERY_EVENT
    durables: tuple[Durable, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if EVERY_ORGANIZATION in self.organizations and len(self.organizations) > 1:
            raise ValueError(f"organizations: {EVERY_ORGANIZATION} stands alone")
        _refuse_overlap(self.events)
        names = [durable.name for durable in self.durables]
        if len(set(names)) < len(names):
            raise ValueError("durables: two have one name")
        for durable in self.durables:
            if not durable.name.startswith(f"{self.name}_"):
                raise ValueError(f"durables: {durable.name} does not begin with {self.name}_")
            _refuse_overlap(durable.events)
            for event in durable.events:
                if event not in self.events and f"{event.split('.')[0]}.*" not in self.events:
                    raise ValueError(f"durables: {durable.name} wants {event}, which the team may not hear")
        return self

    @property
    def hears_everything(self) -> bool:
        return self.organizations == (EVERY_ORGANIZATION,) and self.events == EVERY_EVENT

    def subjects_by_stream(self) -> dict[str, list[str]]:
        """What it may hear."""
        return _subjects_by_stream(self.events, self.organizations)

    def consumers_of(self, durable: Durable) -> dict[str, list[str]]:
        """Stream -> subjects of the durable's consumer on it."""
        return _subjects_by_stream(durable.events, self.organizations, durable.scope or ">")


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


def _subjects_by_stream(events: Iterable[str], organizations: Sequence[str], scope: str = ">") -> dict[str, list[str]]:
    streams: dict[str, Any] = {service.name: service.stream for service in SERVICES}
    found: dict[str, list[str]] = {}
    for event in events:
        area, _, kind = event.partition(".")
        subjects = [f"realco.{area}.v1.{kind}.{organization}.{scope}" for organization in organizations]
        found.setdefault(streams[area].name, []).extend(subjects)
    return found
