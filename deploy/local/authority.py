"""The instance's own certificate authority, and the certificates that it issues to the instance's processes.

A certificate names its process the one way that services look at: `<name>.realco.internal`. Each start of the instance
issues new ones, so that none is renewed while it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.chassis.values.text import connection_name

_DAY = timedelta(days=1)
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RealCo local instance")])
# A process is called and calls.
_USES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, as PEM."""

    certificate: str
    key: str


class Authority:
    """`key` is the PEM of its private key."""

    def __init__(self, key: str) -> None:
        loaded = load_pem_private_key(key.encode(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)  # new_key made it
        self._key = loaded
        self._key_id = x509.SubjectKeyIdentifier.from_public_key(loaded.public_key())

    def make_certificate(self) -> str:
        """Its own, by which others know what it issued. One is as good as the next: they differ in their dates."""
        signs = x509.KeyUsage(**dict.fromkeys(_KEY_USES, False) | {"key_cert_sign": True})
        builder = self._builder(_NAME, self._key.public_key(), 3650 * _DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(self._key_id, critical=False)
        return _pem_of(builder.add_extension(signs, critical=True).sign(self._key, hashes.SHA256()))

    def issue(self, process: str, lifetime: timedelta = 365 * _DAY) -> Issued:
        """A certificate of that process; negative: already expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(connection_name(process))])
        builder = self._builder(x509.Name([]), key.public_key(), lifetime)
        builder = builder.add_extension(names, critical=True)  # it is all that says whose the certificate is
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_USES, critical=False)
        # Another authority of the same name is told apart by its key.
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._key_id)
        builder = builder.add_extension(issuer, critical=False)
        return Issued(_pem_of(builder.sign(self._key, hashes.SHA256())), _private_pem_of(key))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .issuer_name(_NAME)
            .subject_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + lifetime) - _DAY)
            .not_valid_after(now + lifetime)
        )


def new_key() -> str:
    return _private_pem_of(ec.generate_private_key(ec.SECP256R1()))


_KEY_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _private_pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
