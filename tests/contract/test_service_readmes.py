"""Each service's README names the services it calls: these, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.topology import SERVICE_NAMES, SERVICES, Service

ROOT = Path(__file__).parents[2]
# A section of its own, or a row of a table.
CALLS = re.compile(r"^## (?:Asks|Calls)\n(?P<section>.*?)(?=^## |\Z)|^\| calls \| (?P<row>[^\n]*) \|$", re.M | re.S)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_readme_names_the_services_that_its_service_calls(service: Service) -> None:
    readme = (ROOT / "services" / service.name / "README.md").read_text(encoding="utf-8")
    [calls] = CALLS.finditer(readme)
    words = set(re.findall(r"[a-z]+", calls["section"] or calls["row"]))
    assert words & set(SERVICE_NAMES) == set(service.calls)
