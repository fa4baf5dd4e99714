"""What each process is told, and where secrets stand."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.local.configuration import Configuration, DatabaseUrls, External
from deploy.local.identity import Identity
from deploy.secrets import Secrets
from deploy.topology import INNER_PORTS, NATS_USER_NAMES, PROCESSES, SERVICE_NAMES
from services.chassis.calls.certificates import Certificates
from services.chassis.data.approval_policy import read_policy
from services.chassis.process.settings import Settings
from services.transactions.providers.settings import ProviderSettings

NAMES = [*(process.name for process in PROCESSES), *(f"migrate-{service}" for service in SERVICE_NAMES), "provisioner"]


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    folder = tmp_path_factory.mktemp("instance")
    return Configuration(
        data_dir=folder,
        ports={name: 20_000 + number for number, name in enumerate((*INNER_PORTS, "gateway"))},
        identity=Identity(folder),
        databases={
            name: DatabaseUrls(*(f"{role}-secret-of-{name}" for role in ("app", "worker", "owner")))
            for name in SERVICE_NAMES
        },
        nats_urls={name: f"nats-secret-of-{name}" for name in NATS_USER_NAMES},
    )


@pytest.mark.parametrize("process", NAMES)
def test_no_secret_stands_in_an_environment_and_files_are_the_owners_alone(
    configuration: Configuration, process: str
) -> None:
    environment = configuration.environment(process)
    folder = Path(environment["SECRETS_DIR"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text() not in " ".join(environment.values())


@pytest.mark.parametrize(
    ("process", "files"),
    [
        (
            "escrow",
            {
                "database_url": "app-secret-of-escrow",
                "worker_database_url": "worker-secret-of-escrow",
                "nats_url": "nats-secret-of-escrow",
            },
        ),
        ("migrate-escrow", {"migration_database_url": "owner-secret-of-escrow"}),
        ("provisioner", {"nats_url": "nats-secret-of-provisioner"}),
        ("gateway", {"nats_url": "nats-secret-of-gateway"}),
        ("bank", {}),
    ],
)
def test_a_process_finds_its_own_secrets_and_nobody_elses(
    configuration: Configuration, process: str, files: dict[str, str]
) -> None:
    folder = Path(configuration.environment(process)["SECRETS_DIR"])
    found = {file.name: file.read_text() for file in folder.iterdir()}
    keys = {"service_key.pem", "event_key.pem", "sandbox_bank_webhook_secret", "data.key"}
    keys |= {"tls_key.pem", "tls_certificate.pem"}
    assert {name: text for name, text in found.items() if name not in keys} == files


@pytest.mark.parametrize("process", NAMES)
def test_who_calls_services_or_is_one_has_a_certificate_of_its_own(configuration: Configuration, process: str) -> None:
    configuration.identity.prepare()
    settings = Settings(**{key.lower(): value for key, value in configuration.environment(process).items()})
    if process in (*SERVICE_NAMES, "gateway"):
        assert Certificates.load(process, settings) is not None
    else:
        assert settings.tls_key_file is None


def test_the_bank_and_transactions_share_the_webhook_secret(configuration: Configuration) -> None:
    found = [
        (Path(configuration.environment(name)["SECRETS_DIR"]) / "sandbox_bank_webhook_secret").read_text()
        for name in ("bank", "transactions")
    ]
    assert found[0] == found[1]
    assert len(found[0]) >= 32


def test_whatever_a_developer_says_of_a_provider_reaches_transactions_and_no_other_process(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {name for name in ProviderSettings.model_fields if name not in Settings.model_fields}
    for name in names:
        monkeypatch.setenv(name.upper(), f"said-of-{name}")
    told, files = {}, {}
    for process in NAMES:
        told[process] = configuration.environment(process)
        files[process] = {file.name: file.read_text() for file in Path(told[process]["SECRETS_DIR"]).iterdir()}
    said = {name: f"said-of-{name}" for name in names - {"sandbox_bank_url", "sandbox_bank_webhook_secret"}}  # ours
    # A file is meant from where the developer stands.
    said |= {name: str(Path(said[name]).resolve()) for name in ("payment_providers_file", "ach_file_config")}
    secrets = {name for name in said if ProviderSettings.model_fields[name].annotation is SecretStr}
    assert {name: text for name, text in files["transactions"].items() if "said-of-" in text} == {
        name: said[name] for name in secrets
    }
    assert {name: text for name, text in told["transactions"].items() if "said-of-" in text} == {
        name.upper(): said[name] for name in said.keys() - secrets
    }
    for process in set(NAMES) - {"transactions"}:
        assert "said-of-" not in " ".join([*files[process].values(), *told[process].values()])


def test_what_other_services_were_granted_is_told_to_every_service_and_to_nobody_else(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVICE_GRANTS_FILE", "grants.json")
    told = {name: file for name in NAMES if (file := configuration.environment(name).get("SERVICE_GRANTS_FILE"))}
    assert told == dict.fromkeys(SERVICE_NAMES, str(tmp_path / "grants.json"))


@pytest.mark.parametrize("given", ["rules.json", ""])
def test_every_service_is_told_the_same_rules_of_approvals_and_nobody_else_any(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APPROVAL_POLICY_FILE", given)
    told = {name: file for name in NAMES if (file := configuration.environment(name).get("APPROVAL_POLICY_FILE"))}
    assert set(told) == set(SERVICE_NAMES)
    [file] = set(told.values())
    assert file == str(tmp_path / given) if given else read_policy(Path(file)).all_organizations


@pytest.mark.parametrize("given", [None, ""])
def test_without_a_file_of_grants_no_process_is_told_of_one(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv("SERVICE_GRANTS_FILE", raising=False)
    if given is not None:
        monkeypatch.setenv("SERVICE_GRANTS_FILE", given)
    assert not any("SERVICE_GRANTS_FILE" in configuration.environment(name) for name in NAMES)


@pytest.mark.parametrize(
    ("environment", "databases", "nats"),
    [
        ({}, {}, {}),
        ({"ESCROW_DATABASE_URL": "app"}, {"escrow": DatabaseUrls("app", "", "")}, {}),
        (
            {
                "ESCROW_DATABASE_URL": "app",
                "ESCROW_WORKER_DATABASE_URL": "worker",
                "ESCROW_MIGRATION_DATABASE_URL": "owner",
            },
            {"escrow": DatabaseUrls("app", "worker", "owner")},
            {},
        ),
        ({"ESCROW_MIGRATION_DATABASE_URL": "owner"}, {}, {}),  # alone it names no database to serve from
        ({"ESCROW_DATABASE_URL": ""}, {}, {}),
        ({"ESCROW_NATS_URL": "nats"}, {}, {"escrow": "nats"}),
    ],
)
def test_servers_named_in_the_environment_are_taken(
    environment: dict[str, str], databases: dict[str, DatabaseUrls], nats: dict[str, str]
) -> None:
    assert External.read(environment) == External(databases, "", nats)


def test_two_who_make_a_secret_at_once_get_the_same_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: Secrets(tmp_path / "secrets").get("shared"), range(32)))
    assert len(set(made)) == 1
    assert [file.name for file in (tmp_path / "secrets").iterdir()] == ["shared"]
