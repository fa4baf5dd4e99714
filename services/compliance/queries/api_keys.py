"""Reads of API keys, and whether one that signed in is still good."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from realco.compliance.v1 import api_keys_pb2 as pb

from services.chassis.calls.auth import SignedInKey
from services.chassis.calls.sign_in import SessionEnded
from services.chassis.data.paging import one_of, read_list
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Source
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.compliance import actions, messages
from services.compliance.domain import api_keys as rules
from services.compliance.domain.refusals import ApiKeyNotFound
from services.compliance.store import api_keys as store
from services.compliance.tables import api_keys


async def get_api_key(tx: Tx, request: pb.GetApiKeyRequest, now: datetime) -> pb.ApiKey:
    """Raises ApiKeyNotFound."""
    key = await store.find_api_key(tx, request.api_key_id)
    if key is None:
        raise ApiKeyNotFound()
    return actions.answer_api_key(key, now)


async def list_api_keys(tx: Tx, request: pb.ListApiKeysRequest, now: datetime) -> pb.ListApiKeysResponse:
    c = api_keys.c
    found = sa.select(api_keys).where(
        is_mine(api_keys),
        *one_of(c.api_key_id, request.ids),
        *one_of(c.status, [pb.ApiKey.Status.Name(each) for each in request.status]),
        *one_of(c.external_id, request.external_id),
    )
    rows, token, previous = await read_list(tx, request, found, c.created_at, c.api_key_id)
    return pb.ListApiKeysResponse(
        api_keys=store.API_KEYS.show_all(tx, rows, messages.to_api_key),
        next_page_token=token,
        previous_page_token=previous,
    )


async def check_key_of(source: Source, signed_in: SignedInKey, holder: str, now: datetime) -> None:
    """Whether the key that signed in for this holder is good at this moment, and is what its token says.

    Raises:
        SessionEnded
    """
    key = await store.find_api_key(source, signed_in.api_key_id)
    is_ours = key is not None and rules.may_say(key, holder, signed_in.scopes)
    if not is_ours:  # and not one that ended: somebody else signs with our key
        log.error("program_not_known", key_id=signed_in.api_key_id, holder=holder)
    if key is None or not is_ours or not rules.is_good(key, signed_in.secret_id, now):
        raise SessionEnded(
            "The API key has ended, or has another secret. Exchange its secret for a new token; if that is refused,"
            " a person has to give you a new secret or a new API key."
        )
