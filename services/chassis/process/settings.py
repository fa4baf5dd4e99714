"""What a process is told from outside: environment variables, or files of the same lower-case name in SECRETS_DIR.

Secrets are SecretStr and come as files; a message about a bad setting names the setting, never its value.

Whoever calls another service is told where it is: `ESCROW_ADDRESS` is the `host:port` of escrow's gRPC, and so for
every service. None has a default, and none is named here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

T = TypeVar("T")

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ADDRESS = re.compile(r"\S+:\d{1,5}")


class ConfigurationError(Exception):
    """The process cannot start with these settings."""


class Settings(BaseSettings):
    """What every process may be told; a process with more to know has a class of its own, which inherits this one."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    # A local instance has what is for tests alone: the test clock, and reflection.
    environment: Literal["local", "production"] = "production"
    bind_host: str = "127.0.0.1"
    # As the role of requests, as the worker's, and as the owner's, who migrates.
    database_url: SecretStr = SecretStr("")
    worker_database_url: SecretStr = SecretStr("")
    migration_database_url: SecretStr = SecretStr("")
    nats_url: SecretStr = SecretStr("")
    # 0 lets the system choose a port.
    grpc_port: int = Field(default=0, ge=0, le=65535)
    # None: no metrics are served.
    metrics_port: int | None = Field(default=None, ge=0, le=65535)

    # Who may call: people by tokens of these issuers (services/chassis/calls/issuers.py), and services by tokens that
    # they sign themselves: their public keys are a JWKS of their own.
    issuers_file: Path | None = None
    service_jwks: str = ""
    service_key_file: Path | None = None
    # What it shows at the other end of a connection, and whose certificates it believes there: see
    # services/chassis/calls/certificates.py.
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_ca_file: Path | None = None
    # A service mesh encrypts every connection and checks who is at its other end; nothing here does.
    tls_left_to_mesh: bool = False
    # What this service signs its events with, and the public keys of all services that tell any: a JWKS.
    event_key_file: Path | None = None
    event_jwks: str = ""
    # What this service seals its rows with: see services/chassis/data/seals.py.
    data_key_file: Path | None = None
    # What other internal services may call, too: see services/chassis/calls/grants.py.
    service_grants_file: Path | None = None
    # How many persons organizations want for what: see services/chassis/values/approval_policy.py.
    approval_policy_file: Path | None = None

    # The test clock, which moves business time.
    clock_file: Path | None = None
    # How long the service waits, once it says it is not ready, before it stops taking calls.
    drain_wait_seconds: float = Field(default=2, ge=0)
    grpc_concurrent_rpcs_max: int = Field(default=2000, ge=1)
    database_connections_max: int = Field(default=12, ge=1)

    @field_validator("database_url", "worker_database_url", "migration_database_url")
    @classmethod
    def _is_a_database_url(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value()
        try:
            known = _names_database_servers(text)
        except ValueError:  # a port that is none; the words of this error repeat it
            known = False
        if text and not known:
            raise ValueError("must be a URL such as postgresql://user:password@host:5432/name")
        return secret

    @field_validator("clock_file")
    @classmethod
    def _is_of_a_local_instance(cls, file: Path | None, given: ValidationInfo) -> Path | None:
        is_local = given.data.get("environment") == "local" and given.data.get("bind_host") in LOOPBACK
        if file is not None and not is_local:
            raise ValueError("is for a local instance alone: ENVIRONMENT=local, on a loopback address")
        return file

    @classmethod
    def load(cls) -> Self:
        """The settings of this process.

        Raises:
            ConfigurationError: naming each setting that is not acceptable.
        """
        try:
            return cls(_secrets_dir=os.environ.get("SECRETS_DIR") or None)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors())
            raise ConfigurationError("; ".join(faults)) from None

    def require(self, *names: str) -> None:
        """Raises ConfigurationError naming each of the settings that is missing."""
        missing = [name.upper() for name in names if not _given(getattr(self, name))]
        if missing:
            raise ConfigurationError(f"missing: {', '.join(missing)}")


def addresses_of(services: Iterable[str]) -> dict[str, str]:
    """Each service with the `host:port` of its gRPC, from the environment.

    Raises:
        ConfigurationError: naming each variable that is missing or no address.
    """
    names = {service: f"{service.upper()}_ADDRESS" for service in services}
    found = {service: os.environ.get(name, "") for service, name in names.items()}
    if missing := [names[service] for service, address in found.items() if not address]:
        raise ConfigurationError(f"missing: {', '.join(missing)}")
    if wrong := [names[service] for service, address in found.items() if not _ADDRESS.fullmatch(address)]:
        raise ConfigurationError(f"{', '.join(wrong)}: must be host:port")
    return found


def _names_database_servers(text: str) -> bool:
    """Whether it is a URL of PostgreSQL, of one host or several. Raises: ValueError for a port that is none."""
    url = urlsplit(text)
    hosts = url.netloc.rpartition("@")[2].split(",")
    ports = [urlsplit(f"//{host}").port for host in hosts]
    return url.scheme in ("postgres", "postgresql", "postgresql+asyncpg") and 0 not in ports


def _given(value: object) -> bool:
    return bool(value.get_secret_value()) if isinstance(value, SecretStr) else value not in (None, "")


def read_json_file(path: Path, setting: str, shape: TypeAdapter[T]) -> T:
    """What a file of JSON says, in the shape that it must have. `setting` is what names it to us.

    Raises:
        ConfigurationError: it cannot be read, or says something else, with every fault and none of its values.
    """
    try:
        content = path.read_bytes()
        with suppress(json.JSONDecodeError):  # for the shape to say
            json.loads(content, object_pairs_hook=_check_names)
        return shape.validate_json(content)
    except _NamedTwice as error:
        raise ConfigurationError(f"{setting}: {path.name}: {error} stands there twice") from None
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path.name}: {error.strerror}") from None
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise ConfigurationError(f"{setting}: {path.name}: {'; '.join(faults)}") from None


class _NamedTwice(Exception):
    """A name that stands twice in one object of JSON: the later one would count, without a word."""


def _check_names(pairs: list[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _NamedTwice(twice)


def read_private_file(path: Path, setting: str) -> bytes:
    """The bytes of a key file that only its owner (or group) can read. `setting` is what names it to us.

    Raises:
        ConfigurationError: the file is absent, or any user of the machine may read it.
    """
    try:
        mode = path.stat().st_mode
        if mode & 0o007:
            raise ConfigurationError(f"{setting}: {path.name} is readable by every user of this machine; chmod 600 it")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path.name}: {error.strerror}") from None
