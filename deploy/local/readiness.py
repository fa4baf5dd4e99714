"""Whether a process serves, asked the way its callers would ask."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from deploy.local.channels import open_channel
from deploy.local.ports import LOOPBACK

if TYPE_CHECKING:
    import grpc

_TIMEOUT_SECONDS = 2.0


def http_answers(port: int, path: str) -> bool:
    """Whether GET answers with 200."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def grpc_serves(port: int, service: str, credentials: grpc.ChannelCredentials) -> bool:
    """Whether that service is there, and its gRPC health service says SERVING."""
    # Imported when first asked: gRPC is large, and PostgreSQL may start meanwhile.
    import grpc
    from grpc_health.v1 import health_pb2

    with open_channel(port, service, credentials) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
