"""`sslmode` in a database URL means what it means to psql, for engines, raw connections and migrations alike."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy.engine import make_url

from services.chassis.data.database import Database
from services.chassis.data.migrate import engine_of
from tests.support import chassis
from tests.support.seals import SEALS


def make_certificate() -> tuple[bytes, bytes]:
    """Certificate and private key of a server at 127.0.0.1 that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return certificate.public_bytes(pem), key.private_bytes(pem, pkcs8, serialization.NoEncryption())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """`right` is the server's own; `wrong` is another one of the same name."""
    folder = tmp_path_factory.mktemp("certificates")
    (right, key), (wrong, _) = make_certificate(), make_certificate()
    files = {"right": right, "key": key, "wrong": wrong}
    for name, text in files.items():
        (folder / name).write_bytes(text)
    return SimpleNamespace(**{name: folder / name for name in files})


class TlsServer:
    """What stands before PostgreSQL here, for the embedded one has no TLS of its own: as PostgreSQL would, it answers a
    client that asks for TLS, and passes everything on.
    """

    SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # Source: PostgreSQL, "Message Formats", SSLRequest

    def __init__(self, certificates: SimpleNamespace, port_behind: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.right, certificates.key)
        self._port_behind = port_behind
        self.secure: list[bool] = []  # of each connection

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if asks_for_tls := first == self.SSL_REQUEST:
            writer.write(b"S")
            try:
                await writer.start_tls(self._context)
            except (ssl.SSLError, OSError):  # the client does not trust us
                return
        self.secure.append(asks_for_tls)
        behind, to_behind = await asyncio.open_connection("127.0.0.1", self._port_behind)
        to_behind.write(b"" if asks_for_tls else first)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pass_on(reader, to_behind))
            tasks.create_task(pass_on(behind, writer))


async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):  # either side may hang up
        while block := await source.read(65536):
            target.write(block)
            await target.drain()
    target.close()


@pytest.mark.parametrize(
    ("sslmode", "certificate", "secure"),
    [
        ("disable", None, False),
        ("prefer", None, True),
        ("require", None, True),
        ("verify-ca", "right", True),
        ("verify-full", "right", True),
    ],
)
async def test_a_url_says_whether_a_connection_is_encrypted(
    urls: SimpleNamespace,
    certificates: SimpleNamespace,
    sslmode: str,
    certificate: str | None,
    secure: bool,
) -> None:
    async with serving(certificates, urls) as (server, moved):
        query = f"?sslmode={sslmode}" + (f"&sslrootcert={getattr(certificates, certificate)}" if certificate else "")
        database = Database(moved(urls.app_url) + query, moved(urls.worker_url) + query, "chassis", SEALS)
        assert await chassis.note_ids(database) == []
        async with database.connect_raw() as raw:
            assert await raw.fetchval("SELECT 1") == 1
        await database.dispose()
        engine = engine_of(moved(urls.owner_url) + query, {})  # as migrations have it
        async with engine.connect() as connection:
            assert await connection.scalar(sa.text("SELECT 1")) == 1
        await engine.dispose()
        assert server.secure == [secure] * 3


async def test_a_server_with_another_certificate_is_not_believed(
    urls: SimpleNamespace, certificates: SimpleNamespace
) -> None:
    async with serving(certificates, urls) as (server, moved):
        query = f"?sslmode=verify-full&sslrootcert={certificates.wrong}"
        database = Database(moved(urls.app_url) + query, moved(urls.worker_url) + query, "chassis", SEALS)
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await chassis.note_ids(database)
        await database.dispose()
        assert server.secure == []


@asynccontextmanager
async def serving(
    certificates: SimpleNamespace, urls: SimpleNamespace
) -> AsyncIterator[tuple[TlsServer, Callable[[str], str]]]:
    """The server, and what makes a URL lead to it."""
    behind = make_url(urls.app_url).port
    assert behind is not None
    server = TlsServer(certificates, behind)
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield server, lambda url: url.replace(f":{behind}/", f":{port}/")
