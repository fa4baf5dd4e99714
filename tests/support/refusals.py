"""What the contract says of refusals: a business refusal of an RPC stands in the comment of that RPC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from google.protobuf.message import Message

from gateway import contracts
from services.chassis.calls.access import find_rpc
from services.chassis.values.errors import DomainError, Kind

# Every write may be refused so: docs/idempotency.md says it once.
OF_ANY_WRITE = frozenset({"IDEMPOTENCY_KEY_REUSED"})


def is_listed(reason: str, comment: str) -> bool:
    """Whether the words about an RPC say that it refuses so."""
    return reason in OF_ANY_WRITE or re.search(rf"\b{reason}\b", comment) is not None


@contextmanager
def listed_only(request: Message) -> Iterator[None]:
    """Whoever reads what an RPC may refuse finds every business refusal of it that a test meets."""
    try:
        yield
    except DomainError as refusal:
        if refusal.kind is Kind.FAILED_PRECONDITION:
            rpc = find_rpc(type(request)).replace("/", ".")
            if not is_listed(refusal.reason, contracts.comments()[rpc]):
                pytest.fail(f"{rpc} does not list {refusal.reason}")
        raise
