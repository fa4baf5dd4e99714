"""The contracts this gateway speaks for: every proto file of `realco`, and the comments written in them.

Everything else here is derived from their descriptors. An RPC is reachable over REST exactly if it carries a
`google.api.http` rule; each service that answers one has one address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from services.chassis.calls.serving import server_of
from services.chassis.spelling.descriptors import has_option

# Field numbers in descriptor.proto: how SourceCodeInfo spells where a comment stands.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_MESSAGE, _MESSAGE_ENUM, _MESSAGE_ONEOF = 2, 3, 4, 8
_SERVICE_METHOD, _ENUM_VALUE = 2, 2

_SHARED_AREA = "type"

_Names = dict[tuple[int, ...], str]


@cache
def _files() -> tuple[FileDescriptor, ...]:
    """Every file of the contracts, area by area."""
    names = sorted(file.name.removesuffix(".proto") for file in _image())
    return tuple(import_module(f"{name.replace('/', '.')}_pb2").DESCRIPTOR for name in names)


@cache
def _image() -> tuple[FileDescriptorProto, ...]:
    """The same files as protoc read them, with their comments."""
    image = FileDescriptorSet.FromString((files("realco") / "descriptors.binpb").read_bytes())
    return tuple(file for file in image.file if file.package.startswith("realco."))


def services() -> list[ServiceDescriptor]:
    """Every service of every area."""
    return [service for file in _files() for service in file.services_by_name.values()]


def methods() -> list[MethodDescriptor]:
    """Every RPC that has a REST route."""
    return [method for service in services() for method in service.methods if has_option(method, annotations_pb2.http)]


def list_interfaces() -> list[str]:
    """The full names of the services that have REST routes."""
    return list(dict.fromkeys(method.containing_service.full_name for method in methods()))


@cache
def messages() -> frozenset[Descriptor]:
    """Every message that a request or an answer can hold."""
    rpcs = [rpc for service in services() for rpc in service.methods]
    return messages_within(message for rpc in rpcs for message in (rpc.input_type, rpc.output_type))


def messages_within(roots: Iterable[Descriptor]) -> frozenset[Descriptor]:
    """These messages and every message they can hold."""
    found: set[Descriptor] = set()
    waiting = list(roots)
    while waiting:
        message = waiting.pop()
        if message not in found:
            found.add(message)
            waiting.extend(field.message_type for field in message.fields if field.message_type is not None)
    return frozenset(found)


def error_reasons() -> list[EnumDescriptor]:
    """The error catalogue: the shared reasons, then each area's."""
    reasons = (enum for file in _files() for enum in file.enum_types_by_name.values() if enum.name == "ErrorReason")
    return sorted(reasons, key=lambda enum: area_of(enum.full_name) != _SHARED_AREA)


def area_of(full_name: str) -> str:
    """`realco.escrow.v1.HoldsService` -> `escrow`."""
    return full_name.split(".")[1]


def servers() -> list[str]:
    """Every service that REST reaches."""
    return sorted({server_of(service) for service in services()})


def events() -> list[Descriptor]:
    """Every event of every area."""
    told = (file for file in _files() if file.name.endswith("/events.proto"))
    return [event for file in told for event in file.message_types_by_name.values()]


@cache
def comments() -> Mapping[str, str]:
    """Full name of a service, rpc, message, field, enum or enum value -> its comment, one line a paragraph."""
    found: dict[str, str] = {}
    for file in _image():
        names = _names_of(file)
        for location in file.source_code_info.location:
            name = names.get(tuple(location.path))
            if name is not None and location.leading_comments:
                found[name] = _paragraphs(location.leading_comments)
    return found


def _paragraphs(comment: str) -> str:
    lines = [line.strip() for line in comment.strip().splitlines()]
    return "\n\n".join(" ".join(block.split("\n")) for block in "\n".join(lines).split("\n\n"))


def _names_of(file: FileDescriptorProto) -> _Names:
    names: _Names = {}
    for index, message in enumerate(file.message_type):
        _name_message(names, message, (_FILE_MESSAGE, index), file.package)
    for index, enum in enumerate(file.enum_type):
        _name_enum(names, enum, (_FILE_ENUM, index), file.package)
    for index, service in enumerate(file.service):
        _name_service(names, service, (_FILE_SERVICE, index), file.package)
    return names


def _name_message(names: _Names, message: DescriptorProto, path: tuple[int, ...], scope: str) -> None:
    full_name = f"{scope}.{message.name}"
    names[path] = full_name
    for index, field in enumerate(message.field):
        names[*path, _MESSAGE_FIELD, index] = f"{full_name}.{field.name}"
    for index, oneof in enumerate(message.oneof_decl):
        names[*path, _MESSAGE_ONEOF, index] = f"{full_name}.{oneof.name}"
    for index, enum in enumerate(message.enum_type):
        _name_enum(names, enum, (*path, _MESSAGE_ENUM, index), full_name)
    for index, nested in enumerate(message.nested_type):
        _name_message(names, nested, (*path, _MESSAGE_MESSAGE, index), full_name)


def _name_enum(names: _Names, enum: EnumDescriptorProto, path: tuple[int, ...], scope: str) -> None:
    full_name = f"{scope}.{enum.name}"
    names[path] = full_name
    for index, value in enumerate(enum.value):
        names[*path, _ENUM_VALUE, index] = f"{full_name}.{value.name}"


def _name_service(names: _Names, service: ServiceDescriptorProto, path: tuple[int, ...], scope: str) -> None:
    full_name = f"{scope}.{service.name}"
    names[path] = full_name
    for index, method in enumerate(service.method):
        names[*path, _SERVICE_METHOD, index] = f"{full_name}.{method.name}"
