"""What speaks against a person at this moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.chassis.data.reads import Source
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Approval
from services.chassis.values.session import Standing, list_ended
from services.compliance.domain.api_keys import ApiKeyStatus
from services.compliance.domain.parties import PartyPerson
from services.compliance.domain.statements import Statement
from services.compliance.store import parties as store
from services.compliance.store.api_keys import find_api_key


async def read_standing(
    source: Source, person: str, now: datetime, *, include_former: bool = True, api_key_id: str | None = None
) -> Standing:
    """For whom the person acts, or also acted not long ago, and whether its sessions, or the API key, were ended.

    Raises:
        NotSealed: somebody wrote the API key past this service.
    """
    ended_at = await store.find_end_of_sessions(source, person)
    return await read_rest_of_standing(source, person, now, ended_at, include_former, api_key_id)


async def read_rest_of_standing(
    source: Source, person: str, now: datetime, ended_at: datetime | None, include_former: bool, api_key_id: str | None
) -> Standing:
    """`read_standing`, once it was read when the person's sessions were ended."""
    found = frozenset(await store.list_parties_of_person(source, person))
    if include_former:
        found |= frozenset(await store.list_former_parties_of(source, person, now))
    revoked = api_key_id is not None and await _is_revoked(source, api_key_id)
    return Standing(found, ended_at, revoked)


async def read_standings(tx: Tx, said: Sequence[Statement], now: datetime) -> dict[Statement, Standing]:
    """Of who said each of these."""
    return {each: await read_standing(tx, each.person_id, now, api_key_id=each.session.api_key_id) for each in said}


async def was_session_ended(tx: Tx, approval: Approval, now: datetime) -> bool:
    """Whether it, or a part of it, was asked for in a session that was ended since."""
    askers = approval.list_askers()
    who_asked = {each.identity for each in askers}
    standings = {each: await read_standing(tx, each.person, now, api_key_id=each.api_key_id) for each in who_asked}
    return bool(list_ended(askers, standings))


async def list_persons_to_review(tx: Tx, party_id: str, now: datetime) -> list[PartyPerson]:
    """Whom whoever passes the party's checks says yes to: who acts for it, or waits to; without those whom somebody
    named in a session that was ended since."""
    persons = await store.list_persons(tx, party_id)
    return [one for one in persons if one.acts or not await _was_named_in_ended_session(tx, one, now)]


async def _was_named_in_ended_session(tx: Tx, person: PartyPerson, now: datetime) -> bool:
    standing = await read_standing(tx, person.created_by, now, api_key_id=person.session.api_key_id)
    return standing.has_ended(person.session.signed_in_at)


async def _is_revoked(source: Source, api_key_id: str) -> bool:
    """One whose time ran out, or that has another secret, was not by that: nobody locked anybody out."""
    key = await find_api_key(source, api_key_id)
    return key is None or key.status is ApiKeyStatus.REVOKED
