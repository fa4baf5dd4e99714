"""Which services serve an interface of the contracts: as its proto says, or as its package is named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from realco.type.v1 import service_pb2


def server_of(interface: ServiceDescriptor) -> str:
    """The service that REST asks: `escrow` for `realco.escrow.v1.HoldsService`."""
    return _served_by(interface).rest or interface.full_name.split(".")[1]


def servers_of(interface: ServiceDescriptor) -> tuple[str, ...]:
    """Every service that serves it, the one that REST asks first."""
    return server_of(interface), *_served_by(interface).others


def list_served(service: str, interfaces: Iterable[ServiceDescriptor]) -> list[ServiceDescriptor]:
    """Those of the interfaces that a service serves."""
    return [interface for interface in interfaces if service in servers_of(interface)]


def _served_by(interface: ServiceDescriptor) -> service_pb2.ServedBy:
    option: Any = service_pb2.served_by  # generated stubs do not say which message it extends
    found: service_pb2.ServedBy = interface.GetOptions().Extensions[option]
    return found
