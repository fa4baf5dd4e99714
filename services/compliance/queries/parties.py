"""Reads of parties, of who acts for them, and of who is asking."""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from typing import Any

import sqlalchemy as sa
from realco.compliance.v1 import clearances_pb2, persons_pb2
from realco.compliance.v1 import parties_pb2 as pb

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.calls.sign_in import check_session
from services.chassis.calls.wire import to_optional_timestamp, to_timestamp
from services.chassis.data.approval_policy import policy_of
from services.chassis.data.paging import one_of, read_list, read_page
from services.chassis.data.reach import is_mine, within_reach
from services.chassis.data.reads import Reader, Source
from services.chassis.data.restores import check_restore_seen
from services.chassis.data.transaction import Tx
from services.chassis.values.refusals import PartyNotFound
from services.chassis.values.text import normalize_person
from services.compliance import actions, messages
from services.compliance.domain import clearance
from services.compliance.domain.parties import Party
from services.compliance.queries.api_keys import check_key_of
from services.compliance.store import checks as checks_store
from services.compliance.store import limits as limits_store
from services.compliance.store import parties as store
from services.compliance.store.standings import read_rest_of_standing
from services.compliance.tables import parties, party_persons


async def get_party(tx: Tx, request: pb.GetPartyRequest, now: datetime) -> pb.Party:
    """Raises PartyNotFound."""
    return await actions.answer_party(tx, await require_party(tx, request.party_id))


async def get_party_name(
    tx: Tx, request: clearances_pb2.GetPartyNameRequest, now: datetime
) -> clearances_pb2.PartyName:
    """Raises: PartyNotFound, NotSealed."""
    party = await require_party(tx, request.party_id)
    checks = await checks_store.list_latest_checks(tx, [party.party_id])
    missing = clearance.list_missing(clearance.checks_at(checks.get(party.party_id, {}), now))
    return clearances_pb2.PartyName(
        party_id=party.party_id, legal_name=party.legal_name, kind=party.kind, cleared=not missing
    )


async def list_parties(tx: Tx, request: pb.ListPartiesRequest, now: datetime) -> pb.ListPartiesResponse:
    c = parties.c
    statement = store.PARTIES.select().where(
        within_reach(c.party_id),
        *one_of(c.party_id, request.ids),
        *one_of(c.external_id, request.external_id),
    )
    if request.person_id:
        theirs = [await store.list_parties_of_person(tx, normalize_person(person)) for person in request.person_id]
        statement = statement.where(c.party_id.in_(sorted({*chain.from_iterable(theirs)})))
    if request.HasField("cleared"):
        cleared = c.party_id.in_(_select_cleared())
        statement = statement.where(cleared if request.cleared else ~cleared)
    if request.HasField("legal_name_prefix"):
        prefix = sa.func.lower(request.legal_name_prefix)
        statement = statement.where(sa.func.starts_with(sa.func.lower(c.legal_name), prefix))
    rows, token, previous = await read_list(tx, request, statement, c.created_at, c.party_id)
    checks = await checks_store.list_latest_checks(tx, [row.party_id for row in rows])

    def to_message(party: Party) -> pb.Party:
        return messages.to_party(party, checks.get(party.party_id, {}))

    return pb.ListPartiesResponse(
        parties=store.PARTIES.show_all(tx, rows, to_message),
        next_page_token=token,
        previous_page_token=previous,
    )


def _select_cleared() -> sa.Select[Any]:
    """The parties of whom the latest check of each required type is PASSED."""
    latest = checks_store.select_latest_checks().subquery()
    return (
        sa.select(latest.c.party_id)
        .where(latest.c.status == "PASSED")
        .group_by(latest.c.party_id)
        .having(sa.func.count() == len(clearance.REQUIRED_CHECKS))
    )


async def list_party_persons(tx: Tx, request: pb.ListPartyPersonsRequest, now: datetime) -> pb.ListPartyPersonsResponse:
    """Raises PartyNotFound."""
    party = await require_party(tx, request.party_id)
    named = [(person.person_id, person.version) for person in await store.list_persons(tx, party.party_id)]
    c = party_persons.c
    theirs = sa.select(party_persons).where(
        is_mine(party_persons), c.party_id == party.party_id, sa.tuple_(c.person_id, c.version).in_(named)
    )
    rows, token, previous = await read_page(tx, request, theirs, [c.person_id], descending=False)
    return pb.ListPartyPersonsResponse(
        persons=[messages.to_party_person(store.read_person(row)) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
    )


async def list_parties_of_person(
    reader: Reader, request: persons_pb2.ListPartiesOfPersonRequest, now: datetime
) -> persons_pb2.ListPartiesOfPersonResponse:
    """Raises SessionEnded, where the person's own token came along: it is asked for each write that moves money.

    Raises RestoreNotSeen, where a yes is counted by it: in records that were restored, somebody may act for a party, or
    be signed in, of whom that was taken away.
    """
    principal = current_principal()
    if request.counts_yes:
        await check_restore_seen(reader)
    ended_at = await check_session_of(reader, principal, now)
    person = normalize_person(request.person_id)
    if person != principal.person:
        ended_at = await store.find_end_of_sessions(reader, person)
    asked = request.include_former, request.api_key_id or None
    found = await read_rest_of_standing(reader, person, now, ended_at, *asked)
    return persons_pb2.ListPartiesOfPersonResponse(
        party_ids=sorted(found.parties),
        sessions_end_time=to_optional_timestamp(found.sessions_ended_at),
        api_key_revoked=found.api_key_revoked,
    )


async def check_session_of(source: Source, principal: Principal, now: datetime) -> datetime | None:
    """Returns when the person's sessions were last ended.

    Raises SessionEnded, also where the API key is no longer good that signed in for the person.
    """
    if principal.api_key is not None:
        await check_key_of(source, principal.api_key, principal.person, now)
    ended_at = await store.find_end_of_sessions(source, principal.person)
    check_session(principal, ended_at)
    return ended_at


async def get_me(tx: Tx, request: pb.GetMeRequest, now: datetime) -> pb.Me:
    principal = current_principal()
    theirs = parties.c.party_id.in_(sorted(principal.parties))
    acting_for = await store.PARTIES.list_all(tx, theirs)
    checks = await checks_store.list_latest_checks(tx, [party.party_id for party in acting_for])
    limits = await limits_store.list_proven_limits(tx)
    last_end = await store.find_last_end_of_sessions(tx, principal.person)
    return pb.Me(
        person_id=principal.person,
        roles=[principal.role.upper()],
        org_id=principal.org_id,
        parties=[messages.to_acting_for(party, checks.get(party.party_id, {})) for party in acting_for],
        transaction_limits=map(messages.to_limit, limits),
        currency_codes=sorted({row.currency for row in limits}),
        business_time=to_timestamp(now),
        approval_rules=map(messages.to_approval_rule, policy_of(tx).list_rules(principal.org_id)),
        sessions_end_time=None if last_end is None else to_timestamp(last_end.ended_at),
        sessions_ended_by=None if last_end is None else last_end.ended_by,
    )


async def require_party(tx: Tx, party_id: str, field: str | None = None) -> Party:
    """Raises PartyNotFound, which names the field of a request that named it."""
    party = await store.find_party(tx, party_id)
    if party is None:
        raise PartyNotFound(field)
    return party
