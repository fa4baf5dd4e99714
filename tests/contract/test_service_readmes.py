"""Each service's README names the consumers, calls, jobs and warnings that it has: all of them, and no others."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.topology import SERVICE_NAMES, SERVICES, Service

ROOT = Path(__file__).parents[2]
CONSUMER = re.compile(r"\b[a-z]+-on-[a-z]+\b")
# A section of its own, or a row of a table.
CALLS = re.compile(r"^## (?:Asks|Calls)\n(?P<section>.*?)(?=^## |\Z)|^\| calls \| (?P<row>[^\n]*) \|$", re.M | re.S)
# Who is a party's person, and whether a party is there: a client of the chassis asks for every service.
CALLED_BY_CHASSIS = {"BatchGetClearances", "ListPartiesOfPerson"}

every_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def readme_of(service: Service) -> str:
    return (ROOT / "services" / service.name / "README.md").read_text(encoding="utf-8")


@every_service
def test_a_readme_names_the_consumers_of_its_service(service: Service) -> None:
    subscriptions = import_module(f"services.{service.name}.subscribers").SUBSCRIPTIONS
    assert set(CONSUMER.findall(readme_of(service))) == {subscription.consumer for subscription in subscriptions}


@every_service
def test_a_readme_names_the_services_that_its_service_calls(service: Service) -> None:
    [calls] = CALLS.finditer(readme_of(service))
    words = set(re.findall(r"[a-z]+", calls["section"] or calls["row"]))
    assert words & set(SERVICE_NAMES) == set(service.calls)


@every_service
def test_a_readme_names_each_rpc_that_its_service_calls(service: Service) -> None:
    [calls] = CALLS.finditer(readme_of(service))
    named = set(re.findall(r"`([A-Z]\w+)`", calls["section"] or calls["row"]))
    clients = (ROOT / "services" / service.name / "clients.py").read_text(encoding="utf-8")
    called = set(re.findall(r"self\._\w+\.([A-Z]\w+)", clients))
    assert called - named == set()
    assert named - called <= CALLED_BY_CHASSIS


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_what_a_readme_calls_by_name_is_called_so_in_the_code(service: Service) -> None:
    """Log lines that people look for at night, jobs, columns, fields."""
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in (ROOT / "services" / service.name, ROOT / "services" / "chassis", ROOT / "protos" / "realco")
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".py", ".sql", ".proto"} and "_pb2" not in path.name
    )
    words = set(re.findall(r"\w+", code))
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", readme_of(service)))
    assert {name for name in named - words if not name.startswith("realco_")} == set()


@pytest.mark.parametrize("folder", ["chassis", *SERVICE_NAMES])
def test_what_the_log_warns_of_is_on_a_page(folder: str) -> None:
    """Of its service, or of those who run all of them."""
    pages = [ROOT / "services" / folder / "README.md", ROOT / "docs" / "operations.md"]
    text = "".join(page.read_text(encoding="utf-8") for page in pages if page.exists())
    said = {
        name
        for path in (ROOT / "services" / folder).rglob("*.py")
        for name in re.findall(r"log\.(?:warning|error)\(\s*\"(\w+)\"", path.read_text(encoding="utf-8"))
    }
    assert {name for name in said if f"`{name}`" not in text} == set()


@every_service
def test_a_readme_names_the_jobs_of_its_service(service: Service) -> None:
    anything = SimpleNamespace(database=None, clock=None, faults={}, peers=None)
    jobs = import_module(f"services.{service.name}.jobs").build_jobs(anything)
    assert {job.name for job in jobs} <= set(re.findall(r"\w+", readme_of(service)))


def test_the_page_of_the_chassis_names_its_packages_its_layers_and_files_that_are_there() -> None:
    folder = ROOT / "services" / "chassis"
    page = (folder / "README.md").read_text(encoding="utf-8")
    packages = {file.parent.name for file in folder.glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == packages
    files = {str(file.relative_to(folder)) for file in folder.rglob("*.py")}
    missing = [name for name in re.findall(r"`([a-z_]+/[a-z_]+\.py)`", page) if name not in files]
    assert missing == []

    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [layers] = [each["layers"] for each in linter["contracts"] if each.get("containers") == ["services.chassis"]]
    [drawn] = re.findall(r"^```\n(.*?)^```", page, re.M | re.S)
    assert [line.split() for line in drawn.splitlines()] == [re.split(r" [|:] ", layer) for layer in layers]
