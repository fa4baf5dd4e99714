"""In whose name files are made, when they leave, and where they lie: ACH_FILE_CONFIG, read when the service starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter

from services.chassis.calls.auth import is_organization
from services.chassis.process.settings import ConfigurationError, read_json_file
from services.transactions.domain.same_day import SameDay
from services.transactions.providers.ach_file.acknowledgements import AcknowledgementConfig
from services.transactions.providers.ach_file.nacha import Company

_SETTING = "ACH_FILE_CONFIG"


@dataclass(frozen=True, slots=True)
class AchFileConfig:
    """
    Args:
        outbound: The folder from which the bank, or who takes files to it, fetches.
        inbound: The folder into which its returns are put.
        cut_offs: Times of a banking day, in UTC: what was ordered before one of them leaves then.
        acknowledgements: How the bank says that it accepts files; none where it does not.
        prenotes: Whether a bank is asked about each account before the first entry to it, or from it.
        same_day: Through which windows entries settle on the day on which they leave; none where none does.
        all_organizations: Whose name is used where an organization has none of its own.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    outbound: Path
    inbound: Path
    cut_offs: Sequence[time]
    all_organizations: Company | None = None
    organizations: Mapping[str, Company] = field(default_factory=dict)
    acknowledgements: AcknowledgementConfig | None = None
    same_day: SameDay | None = None
    prenotes: bool = False

    def find_company(self, org_id: str) -> Company | None:
        return self.organizations.get(org_id, self.all_organizations)

    def list_companies(self) -> Iterator[Company]:
        yield from self.organizations.values()
        if self.all_organizations is not None:
            yield self.all_organizations


def read_config(path: Path) -> AchFileConfig:
    """Raises: ConfigurationError."""
    config = read_json_file(path, _SETTING, TypeAdapter(AchFileConfig))
    if wrong := [name for name in config.organizations if not is_organization(name)]:
        raise ConfigurationError(f"{_SETTING}: {wrong[0]!r} is no name of an organization")
    if not config.cut_offs or any(each.tzinfo is not None for each in config.cut_offs):
        raise ConfigurationError(f"{_SETTING}: cut_offs must be times of the day, in UTC, one at least")
    companies = list(config.list_companies())
    if not companies:
        raise ConfigurationError(f"{_SETTING}: all_organizations, or an organization, must say who sends")
    if faults := [fault for each in companies if (fault := find_fault(each))]:
        raise ConfigurationError(f"{_SETTING}: {faults[0]}")
    if config.acknowledgements is not None and (fault := config.acknowledgements.find_fault()):
        raise ConfigurationError(f"{_SETTING}: {fault}")
    if config.same_day is not None and (fault := config.same_day.find_fault()):
        raise ConfigurationError(f"{_SETTING}: {fault}")
    for folder in (config.outbound, config.inbound):
        if not folder.is_dir():
            raise ConfigurationError(f"{_SETTING}: {folder} is no folder")
    return config


def find_fault(company: Company) -> str | None:
    """What no bank would take, if anything is."""
    if not re.fullmatch("[0-9]{9}", company.destination):
        return "destination must be the nine digits of a routing number"
    if not re.fullmatch("[0-9]{8}", company.bank):
        return "bank must be the first eight digits of a routing number"
    if not re.fullmatch("[A-Za-z0-9 ]{10}", company.origin) or not re.fullmatch("[A-Za-z0-9]{10}", company.company_id):
        return "origin and company_id must have ten characters"
    if not company.company_name.strip():
        return "company_name must not be empty"
    return None
