"""Certificates: which process is at the other end of a connection. Tokens say for whom it calls (ADR 22).

Each process has one, which names it as the DNS name `<name>.realco.internal`, wherever it runs, and both ends of a
connection show theirs. A service's token is good only over a connection of that service: a stolen key is worth nothing
without the certificate, and neither is a certificate without the key.

The files are read anew when they change: whoever renews them restarts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.chassis.process import telemetry
from services.chassis.process.settings import LOOPBACK, ConfigurationError, Settings, read_private_file
from services.chassis.process.telemetry import log
from services.chassis.values.text import connection_name

_PLAIN = [b"insecure"]


@dataclass(frozen=True)
class Shown:
    """What a process shows at the other end, and whom it believes: PEM."""

    certificates: bytes
    key: bytes
    authorities: bytes

    def to_channel(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authorities, self.key, self.certificates)

    def to_server(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificates)], self.authorities)


class Certificates:
    """The certificate of the process `name`, as its files are now.

    Raises:
        ConfigurationError: a file cannot be read, or they do not make a good certificate of that process.
    """

    def __init__(self, name: str, certificate: Path, key: Path, authorities: Path) -> None:
        self._name = name
        self._files = (certificate, key, authorities)
        self._lock = Lock()  # gRPC asks on a thread of its own
        self._stamp = self._read_stamp()
        self._shown = self._read()
        self._fault = ""

    @classmethod
    def load(cls, name: str, settings: Settings, addresses: Iterable[str] = ()) -> Certificates | None:
        """Those of the settings; None where connections are not encrypted here: on this machine, and in a mesh.

        Args:
            addresses: The `host:port` of each service that is called.

        Raises:
            ConfigurationError: they are not good, or missing where others could listen.
        """
        files = {
            "TLS_CERTIFICATE_FILE": settings.tls_certificate_file,
            "TLS_KEY_FILE": settings.tls_key_file,
            "TLS_CA_FILE": settings.tls_ca_file,
        }
        given = [file for file in files.values() if file is not None]
        if len(given) == len(files):
            if settings.tls_left_to_mesh:
                raise ConfigurationError("TLS_LEFT_TO_MESH: a process that has a certificate uses it; set one of both")
            return cls(name, *given)
        if given:
            absent = [setting for setting, file in files.items() if file is None]
            raise ConfigurationError(f"missing: {', '.join(absent)}: a certificate, its key and a CA go together")
        far = [host for host in (settings.bind_host, *map(_host_of, addresses)) if host not in LOOPBACK]
        if far and not settings.tls_left_to_mesh:
            raise ConfigurationError(
                f"missing: {', '.join(files)}: nothing goes unencrypted to or from {far[0]}; where a service mesh"
                " encrypts and checks every connection, set TLS_LEFT_TO_MESH=true"
            )
        return None

    def current(self) -> Shown:
        """What to show now. Files that are not good, as in the midst of a renewal, change nothing."""
        with self._lock:
            try:
                stamp = self._read_stamp()
                if stamp != self._stamp:
                    self._stamp = stamp  # before they are read: what changes meanwhile is read again
                    self._shown = self._read()
                    self._fault = ""
            except ConfigurationError as fault:
                if str(fault) != self._fault:  # this is asked at each call
                    log.warning("certificate_not_read", error=str(fault))
                self._fault = str(fault)
            return self._shown

    def to_server(self) -> grpc.ServerCredentials:
        """Credentials that ask each caller for its certificate."""
        shown = self.current()
        known = shown

        def renewed() -> Any:
            """Asked at each new connection; None: as before."""
            nonlocal known
            before, known = known, self.current()
            return None if known is before else known.to_server()

        return grpc.dynamic_ssl_server_credentials(shown.to_server(), renewed, require_client_authentication=True)

    def _read_stamp(self) -> list[tuple[int, int, int]]:
        try:
            states = [file.stat() for file in self._files]
        except OSError as error:
            raise ConfigurationError(f"TLS: {Path(error.filename).name}: {error.strerror}") from None
        return [(state.st_mtime_ns, state.st_ino, state.st_size) for state in states]

    def _read(self) -> Shown:
        certificate, key, ca = self._files
        try:
            shown = Shown(certificate.read_bytes(), read_private_file(key, "TLS_KEY_FILE"), ca.read_bytes())
            leaf = x509.load_pem_x509_certificates(shown.certificates)[0]
            own = load_pem_private_key(shown.key, None).public_key() == leaf.public_key()
            x509.load_pem_x509_certificates(shown.authorities)
        except OSError as error:
            raise ConfigurationError(f"TLS: {Path(error.filename).name}: {error.strerror}") from None
        except (ValueError, TypeError):
            raise ConfigurationError("TLS_CERTIFICATE_FILE, TLS_KEY_FILE, TLS_CA_FILE: must hold PEM") from None
        if not own:
            raise ConfigurationError("TLS_KEY_FILE: is not the key of TLS_CERTIFICATE_FILE")
        if connection_name(self._name) not in _names_of(leaf):
            raise ConfigurationError(f"TLS_CERTIFICATE_FILE: does not name {connection_name(self._name)}")
        if leaf.not_valid_after_utc <= datetime.now(UTC):
            raise ConfigurationError(f"TLS_CERTIFICATE_FILE: expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        telemetry.CERTIFICATE_EXPIRES_SECONDS.set(leaf.not_valid_after_utc.timestamp())
        return shown


def is_connection_of(service: str, peer: Mapping[str, Iterable[bytes]]) -> bool:
    """Whether the certificate at the other end names the service; where connections are not encrypted, whoever asks.

    Args:
        peer: What gRPC found out about the connection.
    """
    if peer.get("transport_security_type") == _PLAIN:
        return True
    return connection_name(service).encode() in peer.get("peer_dns", ())


def _host_of(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _names_of(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)
