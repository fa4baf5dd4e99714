"""Which services serve an interface of the contracts, as its proto or package says; and what a servicer serves."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from grpc import aio
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


def interface_of(servicer: object) -> ServiceDescriptor:
    """What it serves: `HoldsService`, of whose generated servicer it is."""
    base = _find_generated(servicer)
    package = base.__module__.rpartition(".")[0]
    return descriptor_pool.Default().FindServiceByName(f"{package}.{base.__name__.removesuffix('Servicer')}")


def add_servicer(servicer: object, grpc_server: aio.Server) -> None:
    """The server answers with it from now on."""
    base = _find_generated(servicer)
    getattr(sys.modules[base.__module__], f"add_{base.__name__}_to_server")(servicer, grpc_server)


def _find_generated(servicer: object) -> type:
    return next(each for each in type(servicer).__mro__ if each.__module__.endswith("_pb2_grpc"))


def _served_by(interface: ServiceDescriptor) -> service_pb2.ServedBy:
    option: Any = service_pb2.served_by  # generated stubs do not say which message it extends
    found: service_pb2.ServedBy = interface.GetOptions().Extensions[option]
    return found
