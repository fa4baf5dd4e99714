"""The contracts of today as a descriptor image, and what one changes in a copy of it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from buf.validate import validate_pb2
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet
from realco.type.v1 import access_pb2

from deploy.check import narrowing

Change = Callable[[FileDescriptorSet], Any]

IMAGE = FileDescriptorSet.FromString(files("realco").joinpath("descriptors.binpb").read_bytes())


def of(image: FileDescriptorSet) -> narrowing.Contracts:
    return narrowing.Contracts.of(image)


def message(image: FileDescriptorSet, name: str) -> DescriptorProto:
    return of(image).messages[name]


def field(image: FileDescriptorSet, path: str) -> FieldDescriptorProto:
    name, _, wanted = path.rpartition(".")
    return next(found for found in message(image, name).field if found.name == wanted)


def rules(image: FileDescriptorSet, path: str) -> Any:
    extension: Any = validate_pb2.field
    return field(image, path).options.Extensions[extension]


def access(image: FileDescriptorSet, method: str) -> access_pb2.Access:
    return of(image).methods[method].options.Extensions[access_pb2.access]


def route(image: FileDescriptorSet, method: str) -> Any:
    extension: Any = annotations_pb2.http
    return of(image).methods[method].options.Extensions[extension]


def changed(change: Change) -> FileDescriptorSet:
    image = FileDescriptorSet()
    image.CopyFrom(IMAGE)
    change(image)
    return image
