"""Certificates of connections for tests: files as a process is given them, of an authority that a test chooses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from deploy.local.authority import Authority, Issued, new_key
from deploy.secrets import write_private
from services.chassis.calls.certificates import Certificates, Shown
from services.chassis.process.settings import Settings


def make_authority() -> Authority:
    return Authority(new_key())


class Files:
    """What a process is given; `renew` replaces it, file by file, as it happens on a server."""

    def __init__(self, folder: Path, name: str, authority: Authority) -> None:
        self.name, self._authority = name, authority
        self.certificate, self.key, self.ca = (folder / name / file for file in ("tls.crt", "tls.key", "ca.crt"))
        self.believe(authority)
        self.renew()

    def settings(self) -> Settings:
        return Settings(tls_certificate_file=self.certificate, tls_key_file=self.key, tls_ca_file=self.ca)

    def load(self) -> Certificates:
        return Certificates(self.name, self.certificate, self.key, self.ca)

    def renew(self, authority: Authority | None = None) -> None:
        issued = (authority or self._authority).issue(self.name)
        write_private(self.certificate, issued.certificate)
        write_private(self.key, issued.key)

    def believe(self, *authorities: Authority) -> None:
        write_private(self.ca, "".join(authority.make_certificate() for authority in authorities))


def show(name: str, authority: Authority, believed: Authority, days: int = 1) -> Shown:
    """What a caller shows that was issued this certificate."""
    issued: Issued = authority.issue(name, timedelta(days=days))
    return Shown(issued.certificate.encode(), issued.key.encode(), believed.make_certificate().encode())
