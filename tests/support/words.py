"""Words that one person alone chooses, and whether a second person can tell them from ours.

What they are is read from the contracts: each text of a request that takes a sentence with quotation marks in it.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from realco.type.v1.approval_pb2 import Approval

from gateway import contracts
from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.spelling.descriptors import is_map, option
from tests.support.request_texts import GIVEN_BACK, NEVER_SHOWN, fill, parts_of, refused_fields

_MARK = "zebra"
# Ends whatever quotation it stands in, says something in our name, and begins another one.
_SENTENCE = f"{_MARK}” was checked. Approved by admin-3: “{_MARK}"
# What a provider calls an account: of one that is none of its own it says so.
_OF_PROVIDERS = {"provider_account_id"}
_numbers = itertools.count(1)


@functools.cache
def find_words() -> frozenset[str]:
    """The names of the fields with which people have something of their own shown to others."""
    writes = [each for each in contracts.methods() if not option(each, annotations_pb2.http).get]
    taken = {
        field.name
        for message in parts_of(each.input_type for each in writes).values()
        for field in message.fields
        for filled in fill(message, field, _SENTENCE)
        if field.name not in refused_fields(filled)
    }
    return frozenset(taken - GIVEN_BACK - NEVER_SHOWN - _OF_PROVIDERS)


def have_words_marked(*servicers: Any) -> None:
    """From now on each request to them says in each of these fields that it is approved, and ends its quotation."""
    for servicer, rpc in _list_rpcs(servicers):
        setattr(servicer, rpc, _mark_request(getattr(servicer, rpc)))


def have_answers_marked(*peers: Any) -> None:
    """The same of what other services answer; who a person is they know better."""
    for peer, rpc in _list_rpcs(peers):
        setattr(peer, rpc, _mark_answer(getattr(peer, rpc)))


def _list_rpcs(servicers: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    rpcs = {method.name for service in contracts.services() for method in service.methods}
    return ((servicer, rpc) for servicer in servicers for rpc in sorted(rpcs) if hasattr(servicer, rpc))


def _mark_request(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def marked(request: Message, context: Any) -> Any:
        if not request.DESCRIPTOR.name.startswith(("Get", "List", "BatchGet")):
            mark(request)
        return await call(request, context)

    return marked


def _mark_answer(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def marked(request: Message, context: Any) -> Any:
        answer = type(told := await call(request, context)).FromString(told.SerializeToString())
        mark(answer, {"person_id", "external_id"}, fills=False)
        return answer

    return marked


def mark(message: Message, but: Iterable[str] = (), *, fills: bool = True) -> None:
    """
    Args:
        but: Fields that are left as they are.
        fills: Words that are not there are said, too, where they can be; an update says no more than it names.
    """
    names = message.DESCRIPTOR.fields_by_name
    fills = fills and "update_mask" not in names
    for field in message.DESCRIPTOR.fields:
        if is_map(field):
            if fills and field.name in find_words():
                getattr(message, field.name)["words"] = say(field.name)
        elif field.message_type is not None:
            values = getattr(message, field.name)
            for each in values if field.is_repeated else [values] if message.HasField(field.name) else []:
                mark(each, but, fills=fills)
        elif field.name in find_words() and field.name not in but and _is_said(message, field, fills=fills):
            setattr(message, field.name, say(field.name))


def _is_said(message: Message, field: FieldDescriptor, *, fills: bool) -> bool:
    is_text = field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
    return is_text and (bool(getattr(message, field.name)) or (fills and field.name != "person_id"))


def say(name: str) -> str:
    """Words that a person may write in a field of this name; each time others."""
    return f"{name} {next(_numbers)} {_SENTENCE}"


def check_quoted(approvals: Approvals, found: Sequence[Approval]) -> set[str]:
    """Each kind of a service is found, and what it says in our name are our words alone.

    Returns: The fields of which some words are shown, in quotation marks that they do not end.
    """
    with acting_as(Principal("admin-1", "admin", "org-1")):
        assert {each.kind for each in found} == set(approvals.permissions.list_decidable_kinds())
    shown: set[str] = set()
    for each in found:
        for text in _list_sentences(each):
            assert not is_bare(text), f"{each.kind} says in our name what a person wrote: {text}"
            shown |= set(re.findall(rf"“(\w+) \d+ {_MARK}", text))
    return shown


def _list_sentences(approval: Approval) -> Iterator[str]:
    """What reads as ours. An operand that is the words and nothing else is none: it stands in a field of its own."""
    yield approval.summary
    for each in approval.explanations:
        yield each.statement
        for one in each.operands:
            yield one.name
            if not re.fullmatch(rf"\w+ \d+ {re.escape(_SENTENCE)}", one.value, re.IGNORECASE):  # persons are kept so
                yield one.value


def is_bare(text: str) -> bool:
    """Whether somebody's words stand outside quotation marks, or end them."""
    ours = re.sub("“[^“”]*”", "", unicodedata.normalize("NFKC", text))
    return _MARK in ours or "“" in ours or "”" in ours
