"""gRPC channels into the instance, with the certificate of one of its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.local.identity import CLIENT, Identity
from deploy.local.ports import LOOPBACK
from services.chassis.values.text import connection_name

if TYPE_CHECKING:
    import grpc


def credentials_of(identity: Identity, process: str = CLIENT) -> grpc.ChannelCredentials:
    """What that process shows, and whom it believes."""
    # Imported when first asked: gRPC is large, and PostgreSQL may start meanwhile.
    import grpc

    issued = identity.issue_certificate(process)
    authorities = identity.ca_file.read_bytes()
    return grpc.ssl_channel_credentials(authorities, issued.key.encode(), issued.certificate.encode())


def options_of(service: str) -> list[tuple[str, Any]]:
    """The other end has to be that service, whatever the address is."""
    return [("grpc.default_authority", connection_name(service))]


def open_channel(port: int, service: str, credentials: grpc.ChannelCredentials) -> grpc.Channel:
    """A channel of its own each time: one that was refused would wait for its back-off before it tries again."""
    import grpc

    options = [*options_of(service), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(f"{LOOPBACK}:{port}", credentials, options=options)
