"""Which provider carries a rail, each way, for whom: PAYMENT_PROVIDERS_FILE, read when the service starts.

It is JSON: `{"all_organizations": {"ACH": {"inbound": "…", "outbound": "…"}}, "organizations": {"org-…": {…}}}`. What
it does not say stays with the provider of the table in domain/rails.py. A transaction keeps the provider that it was
made with: another choice is for those that come later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ConfigDict, TypeAdapter

from services.chassis.calls.auth import is_organization
from services.chassis.process.settings import ConfigurationError, read_json_file
from services.transactions.domain.rails import PROVIDERS, RAILS, Rail
from services.transactions.domain.refusals import PaymentMethodNotSupported

_SETTING = "PAYMENT_PROVIDERS_FILE"


@dataclass(frozen=True, slots=True)
class Carriers:
    """Who brings money in by a rail, and who pays it out; None where that is not chosen."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    inbound: str | None = None
    outbound: str | None = None

    def get(self, *, is_inbound: bool) -> str | None:
        return self.inbound if is_inbound else self.outbound


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """By payment method: for all organizations, and before that for one."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    all_organizations: Mapping[str, Carriers] = field(default_factory=dict)
    organizations: Mapping[str, Mapping[str, Carriers]] = field(default_factory=dict)

    def choose(self, org_id: str, rail: Rail, *, is_inbound: bool) -> str:
        """The provider that carries money by this rail for this organization.

        Raises: PaymentMethodNotSupported: nobody does.
        """
        if (found := self.find(org_id, rail, is_inbound=is_inbound)) is None:
            message = f"{rail.payment_method} is not offered here."
            raise PaymentMethodNotSupported(message, payment_method=rail.payment_method)
        return found

    def find(self, org_id: str, rail: Rail, *, is_inbound: bool) -> str | None:
        """As `choose`; None where nobody does."""
        for chosen in (self.organizations.get(org_id, {}), self.all_organizations):
            found = chosen.get(rail.payment_method, _NOBODY).get(is_inbound=is_inbound)
            if found is not None:
                return found
        return rail.provider

    def find_verifying(self, org_id: str) -> str | None:
        """Who draws from bank accounts for this organization, if that has their holders verify them."""
        provider = self.find(org_id, RAILS["ACH"], is_inbound=True)
        return provider if provider is not None and PROVIDERS[provider].is_confirmed_by_payers else None

    def list_named(self) -> Iterator[tuple[str, bool, str]]:
        """(payment method, whether inbound, provider): all that it says."""
        for chosen in (self.all_organizations, *self.organizations.values()):
            for payment_method, carriers in chosen.items():
                for is_inbound in (True, False):
                    if (provider := carriers.get(is_inbound=is_inbound)) is not None:
                        yield payment_method, is_inbound, provider

    def names(self, payment_method: str, provider: str) -> bool:
        """Whether somebody is to have this rail carried by this provider, one way or the other."""
        return any((named, carrier) == (payment_method, provider) for named, _, carrier in self.list_named())

    def list_carriers(self) -> set[str]:
        """Whoever carries something, for any organization."""
        ways = [(rail, is_inbound) for rail in RAILS.values() for is_inbound in (True, False)]
        organizations = ("", *self.organizations)
        found = {self.find(each, rail, is_inbound=inbound) for each in organizations for rail, inbound in ways}
        return {each for each in found if each is not None}


_NOBODY: Final = Carriers()
NO_CHOICE: Final = ProviderChoice()


def read_choice(path: Path | None, ready: Collection[str]) -> ProviderChoice:
    """The choice of a file; without one, that of the table.

    Args:
        ready: The providers that this process is set up for.

    Raises:
        ConfigurationError: it cannot be read, or names what there is not, or who cannot carry it.
    """
    choice = NO_CHOICE if path is None else read_json_file(path, _SETTING, TypeAdapter(ProviderChoice))
    if wrong := [name for name in choice.organizations if not is_organization(name)]:
        raise ConfigurationError(f"{_SETTING}: {wrong[0]!r} is no name of an organization")
    for payment_method, is_inbound, provider in choice.list_named():
        way = f"{payment_method} {'inbound' if is_inbound else 'outbound'}"
        if payment_method not in RAILS:
            raise ConfigurationError(f"{_SETTING}: {payment_method} is no payment method")
        if provider not in PROVIDERS or not PROVIDERS[provider].carries(payment_method, is_inbound=is_inbound):
            carriers = (name for name, each in PROVIDERS.items() if each.carries(payment_method, is_inbound=is_inbound))
            raise ConfigurationError(f"{_SETTING}: {way} is carried by {', '.join(carriers)}, and not by {provider}")
        if provider not in ready:
            raise ConfigurationError(f"{_SETTING}: {way}: {provider} is not set up: its address or key is missing")
    for rail in RAILS.values():
        for is_inbound in (True, False):
            if (carrier := choice.find("", rail, is_inbound=is_inbound)) not in {None, *ready}:
                way = f"{rail.payment_method} {'inbound' if is_inbound else 'outbound'}"
                raise ConfigurationError(f"{way}: {carrier} is not set up; or choose another in {_SETTING}")
    return choice
