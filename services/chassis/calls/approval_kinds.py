"""The kinds of approvals: the contracts name each, so that who writes rules about one cannot misspell it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from realco.type.v1 import approval_pb2


def name_kind(request: str) -> str:
    """Of a request that needs two persons: `PostJournalEntryRequest` -> `POST_JOURNAL_ENTRY`."""
    return "_".join(re.findall("[A-Z][^A-Z]*", request.removesuffix("Request"))).upper()


@cache
def list_approval_kinds() -> Mapping[str, str]:
    """Those of every service, each with the RPC that reads what it is about, as `rule_of` names it.

    The image of the contracts has the RPCs of all, whichever of them this process knows.
    """
    option: Any = approval_pb2.four_eyes  # generated stubs do not say which message it extends
    image = FileDescriptorSet.FromString((files("realco") / "descriptors.binpb").read_bytes())
    kinds = {}
    for file in image.file:
        for method in (method for service in file.service for method in service.method):
            four_eyes = method.options.Extensions[option]
            kind = name_kind(method.input_type.rpartition(".")[2]) if four_eyes.two_persons else four_eyes.waits
            if kind:
                kinds[kind] = f"{file.package}.{four_eyes.read_with}"
    return kinds
