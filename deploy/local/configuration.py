"""What each process of a local instance is given: settings in its environment, secrets as files in its own folder.

- Nothing secret stands in an environment or on a command line, where other programs could read it.
- A process finds in its folder what it needs and nothing of any other process, as long as it needs it.
- Databases and a NATS server named in the supervisor's environment win over the embedded ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from deploy.local.clock import clock_file
from deploy.local.identity import Identity
from deploy.local.ports import LOOPBACK
from deploy.secrets import private_folder, write_private
from deploy.topology import BANK, GATEWAY, NATS_USER_NAMES, PROCESSES, PROVISIONER, SERVICE_NAMES
from services.chassis.process.settings import Settings
from services.transactions.providers.settings import ProviderSettings

# Who approves what here, unless a developer says otherwise.
_APPROVAL_POLICY = Path(__file__).with_name("approval_policy.json")
# Set by a developer who tries a real provider, and handed on to the service that calls it; true for a secret.
_PROVIDER_SETTINGS = {
    name: field.annotation is SecretStr
    for name, field in ProviderSettings.model_fields.items()
    if name not in Settings.model_fields
}
_PROVIDER_FILES = {name for name in _PROVIDER_SETTINGS if ProviderSettings.model_fields[name].annotation == Path | None}

# Who calls services, or is one.
_HAVE_CERTIFICATES = (*SERVICE_NAMES, GATEWAY)


@dataclass(frozen=True)
class DatabaseUrls:
    """Of one service. `owner_url` is empty where somebody else runs its migrations."""

    app_url: str
    worker_url: str
    owner_url: str


@dataclass(frozen=True)
class External:
    """The PostgreSQL databases and the NATS server that exist already, from the environment."""

    databases: Mapping[str, DatabaseUrls] = field(default_factory=dict)
    nats_url: str = ""
    nats_urls: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> External:
        """`ESCROW_DATABASE_URL`, `ESCROW_WORKER_DATABASE_URL`, `ESCROW_MIGRATION_DATABASE_URL`, …; `NATS_URL`, or
        `ESCROW_NATS_URL`, … beside it."""

        def url_of(service: str, role: str = "") -> str:
            return environment.get(f"{service.upper()}_{role}DATABASE_URL", "")

        databases = {
            service: DatabaseUrls(url_of(service), url_of(service, "WORKER_"), url_of(service, "MIGRATION_"))
            for service in SERVICE_NAMES
            if url_of(service)
        }
        urls = {user: url for user in NATS_USER_NAMES if (url := environment.get(f"{user.upper()}_NATS_URL"))}
        return cls(databases, environment.get("NATS_URL", ""), urls)


@dataclass
class Configuration:
    """Filled in while the instance starts; asked by each process just before it is started."""

    data_dir: Path
    ports: Mapping[str, int]
    identity: Identity
    databases: dict[str, DatabaseUrls] = field(default_factory=dict)
    nats_urls: dict[str, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports[GATEWAY]}"

    def environment(self, process: str) -> dict[str, str]:
        """Writes the process's secret files and returns its environment."""
        folder = private_folder(self.data_dir / "processes" / process)
        for name, text in self._secrets(process).items():
            write_private(folder / name, text)
        settings = self._common(folder) | self._addresses(process)
        if process in _HAVE_CERTIFICATES:
            settings |= {
                "TLS_CERTIFICATE_FILE": str(folder / "tls_certificate.pem"),
                "TLS_KEY_FILE": str(folder / "tls_key.pem"),
                "TLS_CA_FILE": str(self.identity.ca_file),
            }
        if f"{process}_metrics" in self.ports:
            settings["METRICS_PORT"] = str(self.ports[f"{process}_metrics"])
        if process in SERVICE_NAMES:
            settings |= {
                "GRPC_PORT": str(self.ports[process]),
                "SERVICE_KEY_FILE": str(folder / "service_key.pem"),
                "SERVICE_JWKS": str(self.identity.service_jwks_file),
                "EVENT_KEY_FILE": str(folder / "event_key.pem"),
                "DATA_KEY_FILE": str(folder / "data.key"),
                "APPROVAL_POLICY_FILE": str(Path(os.environ.get("APPROVAL_POLICY_FILE") or _APPROVAL_POLICY).resolve()),
            }
        if process == "compliance":
            settings["API_TOKEN_KEY_FILE"] = str(folder / "api_token_key.pem")
        if process == "transactions":
            settings["WRAPPING_KEY_FILE"] = str(folder / "wrapping.key")
            settings |= {name.upper(): value for name, value in _read_provider_settings(secret=False).items()}
            settings["SANDBOX_BANK_URL"] = f"http://{LOOPBACK}:{self.ports[BANK]}"
            settings |= {"OPERATOR_ORG_ID": org_id} if (org_id := os.environ.get("OPERATOR_ORG_ID")) else {}
        if process in SERVICE_NAMES and (grants := os.environ.get("SERVICE_GRANTS_FILE")):
            settings["SERVICE_GRANTS_FILE"] = str(Path(grants).resolve())
        if process == PROVISIONER and "TEAMS_FILE" in os.environ:
            settings["TEAMS_FILE"] = os.environ["TEAMS_FILE"]
        if process == GATEWAY:
            settings["PORT"] = str(self.ports[GATEWAY])
        if process == BANK:
            settings |= {
                "SANDBOX_BANK_PORT": str(self.ports[BANK]),
                "SANDBOX_BANK_DATABASE": str(private_folder(self.data_dir / "bank") / "bank.sqlite"),
                "SANDBOX_BANK_WEBHOOK_URL": f"{self.base_url}/api/v1/webhooks/sandbox",
            }
        return settings

    def take_back(self, process: str) -> None:
        """Removes the secret files of a process that has ended and is not started again."""
        for file in (self.data_dir / "processes" / process).iterdir():
            file.unlink()

    def _addresses(self, process: str) -> dict[str, str]:
        """Where the services are that the process calls."""
        called = [service for known in PROCESSES if known.name == process for service in known.calls]
        return {f"{service.upper()}_ADDRESS": f"{LOOPBACK}:{self.ports[service]}" for service in called}

    def _common(self, folder: Path) -> dict[str, str]:
        return {
            "BIND_HOST": LOOPBACK,
            "ENVIRONMENT": "local",
            "SECRETS_DIR": str(folder),
            "ISSUERS_FILE": str(self.identity.issuers_file),
            "EVENT_JWKS": str(self.identity.event_jwks_file),
            "CLOCK_FILE": str(clock_file(self.data_dir)),
            "DRAIN_WAIT_SECONDS": "0",  # no load balancer has to notice first
        }

    def _secrets(self, process: str) -> dict[str, str]:
        files: dict[str, str] = {}
        if process in SERVICE_NAMES:
            files["database_url"] = self.databases[process].app_url
            files["worker_database_url"] = self.databases[process].worker_url
        if process.startswith("migrate-"):
            files["migration_database_url"] = self.databases[process.removeprefix("migrate-")].owner_url
        if process in self.nats_urls:
            files["nats_url"] = self.nats_urls[process]
        if process in SERVICE_NAMES:
            files["service_key.pem"] = self.identity.keys.service_key(process)
            files["event_key.pem"] = self.identity.keys.event_key(process)
            files["data.key"] = self.identity.keys.data_key(process)
        if process in _HAVE_CERTIFICATES:
            issued = self.identity.issue_certificate(process)
            files |= {"tls_certificate.pem": issued.certificate, "tls_key.pem": issued.key}
        if process == "compliance":
            files["api_token_key.pem"] = self.identity.keys.api_token_key()
        if process == "transactions":
            files["wrapping.key"] = self.identity.keys.wrapping_key()
            files |= _read_provider_settings(secret=True)
        if process in ("transactions", BANK):
            files["sandbox_bank_webhook_secret"] = self.identity.webhook_secret()
        return files


def _read_provider_settings(*, secret: bool) -> dict[str, str]:
    """What our own environment says of the providers."""
    names = (name for name, is_secret in _PROVIDER_SETTINGS.items() if is_secret is secret)
    given = {name: os.environ[name.upper()] for name in names if name.upper() in os.environ}
    # A file is meant from where the developer stands.
    return {name: str(Path(text).resolve()) if name in _PROVIDER_FILES else text for name, text in given.items()}
