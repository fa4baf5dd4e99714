"""In whose name files are made, when they leave, and where they lie: ACH_FILE_CONFIG, read when the service starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter

from services.chassis.calls.auth import is_organization
from services.chassis.process.settings import ConfigurationError, read_json_file
from services.transactions.providers.ach_file.nacha import Originator

_SETTING = "ACH_FILE_CONFIG"


@dataclass(frozen=True, slots=True)
class Company:
    """Who sends entries, as its agreement with the originating bank says.

    Args:
        destination: The routing number of the bank that takes the files.
        origin: Ten characters that the bank knows the sender by.
        bank: The first eight digits of the originating bank's routing number.
        debit_class: How payers authorize debits: WEB on the internet, PPD on paper, CCD companies.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    destination: str
    destination_name: str
    origin: str
    origin_name: str
    bank: str
    company_name: str
    company_id: str
    debit_class: Literal["WEB", "PPD", "CCD"] = "WEB"
    credit_class: Literal["PPD", "CCD"] = "PPD"

    def choose_class(self, *, is_inbound: bool) -> str:
        return self.debit_class if is_inbound else self.credit_class

    @property
    def originator(self) -> Originator:
        return Originator(self.destination, self.destination_name, self.origin, self.origin_name, self.bank)

    def find_fault(self) -> str:
        """What no bank would take; empty if nothing is."""
        if not re.fullmatch("[0-9]{9}", self.destination):
            return "destination must be the nine digits of a routing number"
        if not re.fullmatch("[0-9]{8}", self.bank):
            return "bank must be the first eight digits of a routing number"
        if not re.fullmatch("[A-Za-z0-9 ]{10}", self.origin) or not re.fullmatch("[A-Za-z0-9]{10}", self.company_id):
            return "origin and company_id must have ten characters"
        if not self.company_name.strip():
            return "company_name must not be empty"
        return ""


@dataclass(frozen=True, slots=True)
class AchFileConfig:
    """
    Args:
        outbound: The folder from which the bank, or who takes files to it, fetches.
        inbound: The folder into which its returns are put.
        cut_offs: Times of a banking day, in UTC: what was ordered before one of them leaves then.
        all_organizations: Whose name is used where an organization has none of its own.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    outbound: Path
    inbound: Path
    cut_offs: Sequence[time]
    all_organizations: Company | None = None
    organizations: Mapping[str, Company] = field(default_factory=dict)

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
    if faults := [fault for each in companies if (fault := each.find_fault())]:
        raise ConfigurationError(f"{_SETTING}: {faults[0]}")
    for folder in (config.outbound, config.inbound):
        if not folder.is_dir():
            raise ConfigurationError(f"{_SETTING}: {folder} is no folder")
    return config
