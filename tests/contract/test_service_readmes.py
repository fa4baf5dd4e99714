"""Each service's README names the durable consumers it has and the services it calls: these, and no others."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from deploy.topology import SERVICE_NAMES, SERVICES, Service

ROOT = Path(__file__).parents[2]
DURABLE = re.compile(r"\b[a-z]+-on-[a-z]+\b")
# A section of its own, or a row of a table.
CALLS = re.compile(r"^## (?:Asks|Calls)\n(?P<section>.*?)(?=^## |\Z)|^\| calls \| (?P<row>[^\n]*) \|$", re.M | re.S)

every_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def readme_of(service: Service) -> str:
    return (ROOT / "services" / service.name / "README.md").read_text(encoding="utf-8")


@every_service
def test_a_readme_names_the_durable_consumers_of_its_service(service: Service) -> None:
    subscriptions = import_module(f"services.{service.name}.subscribers").SUBSCRIPTIONS
    assert set(DURABLE.findall(readme_of(service))) == {subscription.durable for subscription in subscriptions}


@every_service
def test_a_readme_names_the_services_that_its_service_calls(service: Service) -> None:
    [calls] = CALLS.finditer(readme_of(service))
    words = set(re.findall(r"[a-z]+", calls["section"] or calls["row"]))
    assert words & set(SERVICE_NAMES) == set(service.calls)
