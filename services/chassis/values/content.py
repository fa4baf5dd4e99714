"""What is decided on, and by what it is compared with what else was asked for. No I/O.

A content may be long: a batch of a thousand entries. So what is compared later is made of it once, when it is asked
for, and whoever reads what waits reads no other content. What an earlier release spelled otherwise is not found by it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, NamedTuple

from services.chassis.values.approval import hash_content, write_content

# What says how it is asked for, or is a word for people: another one of these does nothing else.
_WORDS: Final = frozenset(
    {"description", "etag", "externalId", "idempotencyKey", "metadata", "note", "title", "validateOnly"}
)
# What the service says of a resource by itself: ordered anew, it may wait for another reason.
_SAID_BY_US: Final = frozenset({"approvalReason"})


class Content(NamedTuple):
    """
    Args:
        text: As it is read, in its canonical spelling (`write_content`).
        content_hash: Of the text.
        effect_hash: Of what it does: the same for what says it in other words.
        anew_hash: Of the text, without what the resource was given: the same for the same thing that is ordered again
            as another resource.
        etag: Of what a request is about, if it was asked for by that.
    """

    text: str
    content_hash: str
    effect_hash: str
    anew_hash: str
    etag: str | None


def build_request_content(text: str, effect: Any, etag: str | None) -> Content:
    """Of a request: the id of what it is about was there before, and says what that is.

    Args:
        effect: What it does, in JSON.
    """
    content_hash = hash_content(text)
    return Content(text, content_hash, _hash_effect(effect), content_hash, etag)


def build_resource_content(kind: str, resource_id: str, text: str) -> Content:
    """Of what waits by itself: what a yes to it does is the same for what is ordered again in other words."""
    content = json.loads(text)
    resource = _drop_given(content["resource"], resource_id)
    effect = [kind, drop_words(resource), content["changes"], content["preconditions"]]
    anew = write_content(content | {"resource": resource})
    return Content(text, hash_content(text), _hash_effect(effect), hash_content(anew), None)


def drop_words(asked: Any) -> Any:
    """What of a request, in JSON, says what it does. The order of a list says nothing."""
    if isinstance(asked, dict):
        return {name: drop_words(value) for name, value in asked.items() if name not in _WORDS}
    if isinstance(asked, list):
        return sorted(map(drop_words, asked), key=lambda each: json.dumps(each, sort_keys=True))
    return asked


def _drop_given(said: Any, resource_id: str) -> Any:
    """Without what the service gave it."""
    if isinstance(said, dict):
        kept = {name: value for name, value in said.items() if name not in _SAID_BY_US and value != resource_id}
        return {name: _drop_given(value, resource_id) for name, value in kept.items()}
    return [_drop_given(each, resource_id) for each in said] if isinstance(said, list) else said


def _hash_effect(effect: Any) -> str:
    # A sum of what it moves may pass 64 bits, which json alone spells.
    return hashlib.sha256(json.dumps(effect, sort_keys=True).encode()).hexdigest()
