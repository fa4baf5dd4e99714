"""What changes a party and who acts for it. Each runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from realco.compliance.v1 import events_pb2 as events
from realco.compliance.v1 import parties_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import PartyNotFound
from services.chassis.values.text import normalize_person
from services.compliance import actions, messages
from services.compliance.commands import checks
from services.compliance.commands.api_keys import revoke_keys_of
from services.compliance.domain import parties as rules
from services.compliance.domain.refusals import PersonNotFound, TooManyParties, TooManyPersons
from services.compliance.store import parties as store


async def create_party(tx: AsyncConnection, request: pb.CreatePartyRequest, now: datetime) -> pb.Party:
    """A party with those who act for it; a person is asked about both. Raises InvalidField, TooManyParties."""
    persons = {normalize_person(one.person_id): one.title if one.HasField("title") else None for one in request.persons}
    if len(persons) < len(request.persons):
        raise InvalidField("The request is not valid.", fields={"persons": "must name each person once"})
    for person_id in persons:
        await _check_may_act_for_more(tx, person_id)
    columns = {"org_id": current_principal().org_id, "party_id": new_id("pty"), **_columns(request, [*_FIELDS])}
    await checks.open_checks(tx, columns, list(persons), now)
    row = await store.insert_party(tx, now, persons, created_by=current_principal().person, **columns)
    return await actions.answer_party(tx, row)


async def update_party(tx: AsyncConnection, request: pb.UpdatePartyRequest, now: datetime) -> pb.Party:
    """Takes over the fields the mask names, and asks a person again what they put in question.

    Raises: PartyNotFound, EtagMismatch, InvalidField.
    """
    before = await _lock(tx, request.party_id)
    check_etag(request.etag, messages.etag_of_party(before))
    named = [name for name in _FIELDS if name in request.update_mask.paths]
    changes = {name: value for name, value in _columns(request, named).items() if getattr(before, name) != value}
    if not changes:
        return await actions.answer_party(tx, before)
    after = before._asdict() | changes
    questions = rules.list_questions(_facts(before._asdict()), _facts(after))
    await checks.reopen_checks(tx, after, questions, now)
    row = await store.save_party(tx, before, events.PartyUpdated(), now, **changes)
    return await actions.answer_party(tx, row)


async def add_party_person(tx: AsyncConnection, request: pb.AddPartyPersonRequest, now: datetime) -> pb.PartyPerson:
    """Raises: PartyNotFound, EtagMismatch, TooManyPersons, TooManyParties."""
    party = await _lock(tx, request.party_id)
    person_id = normalize_person(request.person_id)
    row = await store.find_person(tx, request.party_id, person_id)
    check_etag(request.etag, "" if row is None else messages.etag_of_person(row))
    if row is None:
        if len(await store.list_persons(tx, request.party_id)) >= rules.PERSONS_MAX:
            raise TooManyPersons(
                f"The party has {rules.PERSONS_MAX} persons, and may have no more: remove one first.",
                persons_max=rules.PERSONS_MAX,
            )
        await _check_may_act_for_more(tx, person_id)
        title, maker = request.title or None, current_principal().person
        row = await store.insert_person(tx, party, now, person_id=person_id, title=title, created_by=maker)
    elif request.HasField("title") and request.title != row.title:
        row = await store.save_person(tx, party, person_id, now, title=request.title)
    return messages.to_party_person(row)


async def remove_party_person(tx: AsyncConnection, request: pb.RemovePartyPersonRequest, now: datetime) -> pb.Party:
    """Raises: PartyNotFound, PersonNotFound, EtagMismatch."""
    party = await _lock(tx, request.party_id)
    person_id = normalize_person(request.person_id)
    row = await store.find_person(tx, request.party_id, person_id)
    if row is None:  # a name that was misspelled must not look like a right that was taken away
        raise PersonNotFound("person_id")
    check_etag(request.etag, messages.etag_of_person(row))
    return await actions.answer_party(tx, await store.delete_person(tx, party, person_id, now))


async def end_sessions(tx: AsyncConnection, request: pb.EndSessionsRequest, now: datetime) -> pb.EndSessionsResponse:
    """With the API keys that the person holds: whoever had the person's token may have made one, or a secret."""
    principal, person_id = current_principal(), normalize_person(request.person_id)
    columns = {"org_id": principal.org_id, "person_id": person_id, "ended_by": principal.person}
    ended_at = await store.insert_end_of_sessions(tx, **columns)
    await revoke_keys_of(tx, person_id, now)
    return pb.EndSessionsResponse(person_id=person_id, end_time=to_timestamp(ended_at))


async def _check_may_act_for_more(tx: AsyncConnection, person_id: str) -> None:
    if len(await store.list_parties_of_person(tx, person_id)) >= rules.PARTIES_MAX:
        message = f"The person acts for {rules.PARTIES_MAX} parties, and may act for no more."
        raise TooManyParties(message, person_id=person_id, parties_max=rules.PARTIES_MAX)


async def _lock(tx: AsyncConnection, party_id: str) -> Any:
    found = await store.lock_parties(tx, [party_id])
    if party_id not in found:
        raise PartyNotFound()
    return found[party_id]


def _facts(columns: Mapping[str, Any]) -> rules.Facts:
    """Of a party's columns."""
    roles = frozenset(columns["roles"])
    return rules.Facts(columns["kind"], columns["legal_name"], roles, columns["accreditation"])


def _read_money(request: Any, name: str) -> dict[str, Any]:
    given = getattr(request, name) if request.HasField(name) else None
    return {
        f"{name}_minor": given.amount_minor if given else None,
        f"{name}_currency": given.currency_code if given else None,
    }


# Field of a request -> its columns. What may stay unset has its default here, for a creation and a change alike.
_FIELDS: dict[str, Any] = {
    "kind": lambda request: {"kind": pb.Party.Kind.Name(request.kind)},
    "roles": lambda request: {"roles": sorted(map(pb.Party.Role.Name, request.roles)) or [rules.INVESTOR]},
    "legal_name": lambda request: {"legal_name": request.legal_name},
    "accreditation": lambda request: {
        "accreditation": pb.Party.Accreditation.Name(request.accreditation or pb.Party.NON_ACCREDITED)
    },
    "annual_income": lambda request: _read_money(request, "annual_income"),
    "net_worth": lambda request: _read_money(request, "net_worth"),
    "external_id": lambda request: {"external_id": request.external_id},
    "metadata": lambda request: {"metadata": dict(request.metadata)},
}


def _columns(request: pb.CreatePartyRequest | pb.UpdatePartyRequest, names: list[str]) -> dict[str, Any]:
    return {column: value for name in names for column, value in _FIELDS[name](request).items()}
