"""Which texts the requests of the contracts take: read from the protos, by what their rules accept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.chassis.calls import validation
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import EtagRequired

# What a machine makes, and is only given back; what no answer has.
GIVEN_BACK = {"idempotency_key", "idempotency_keys", "page_token", "etag", "terms_etag", "resource_id"}
NEVER_SHOWN = {"secret", "signature", "verification"}


def parts_of(requests: Iterable[Descriptor]) -> dict[str, Descriptor]:
    """Each of these requests and each message inside one, by its name."""
    found: dict[str, Descriptor] = {}
    waiting = list(requests)
    while waiting:
        message = waiting.pop()
        if message.full_name.startswith("realco.") and message.full_name not in found:
            found[message.full_name] = message
            waiting += [field.message_type for field in message.fields if field.message_type is not None]
    return {name: message for name, message in found.items() if not message.GetOptions().map_entry}


def fill(message: Descriptor, field: FieldDescriptor, text: str) -> Iterator[Message]:
    """The message with this text in this field: in a map as a key, and as a value."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        keys, values = (entry.fields_by_name[name] for name in ("key", "value"))
        yield from (
            GetMessageClass(message)(**{field.name: {key: value}})
            for key, value in ((text, "sample"), ("sample", text))
            if keys.type == values.type == FieldDescriptor.TYPE_STRING
        )
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield GetMessageClass(message)(**{field.name: [text] if field.is_repeated else text})


def refused_fields(message: Message) -> set[str]:
    try:
        validation.validate(message)
    except EtagRequired:
        without = GetMessageClass(message.DESCRIPTOR)(etag="sample")
        without.MergeFrom(message)
        return refused_fields(without)
    except InvalidField as refusal:
        return {re.split(r"[\[.]", path)[0] for path in refusal.fields}
    return set()
