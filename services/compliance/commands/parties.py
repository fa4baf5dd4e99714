"""What changes a party and who acts for it. Each runs inside the caller's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from realco.compliance.v1 import events_pb2 as events
from realco.compliance.v1 import parties_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import PartyNotFound
from services.compliance import messages, queries, store
from services.compliance.commands import checks
from services.compliance.domain import parties as rules
from services.compliance.domain.refusals import TooManyPersons

_REQUIRED = {"kind": "must be set", "legal_name": "must not be empty", "roles": "must name one at least"}


async def create_party(tx: AsyncConnection, request: pb.CreatePartyRequest, now: datetime) -> pb.Party:
    """A party for whom nobody acts yet; a person is asked about it."""
    principal = current_principal()
    row = await store.insert_party(
        tx,
        org_id=principal.org_id,
        party_id=new_id("pty"),
        **_columns(request, [*_FIELDS]),
        version=1,
        written_by=principal.person,
        created_at=now,
        updated_at=now,
    )
    await checks.open_checks(tx, row.party_id, rules.list_questions(None, _facts(row)), now)
    return await _announce(tx, row, events.PartyCreated(), now)


async def update_party(tx: AsyncConnection, request: pb.UpdatePartyRequest, now: datetime) -> pb.Party:
    """Takes over the fields the mask names, and asks a person again what they put in question.

    Raises: PartyNotFound, EtagMismatch, InvalidField.
    """
    before = await _lock(tx, request.party_id)
    check_etag(request.etag, messages.party_etag(before))
    named = [name for name in _FIELDS if name in request.update_mask.paths]
    if faults := {name: _REQUIRED[name] for name in named if name in _REQUIRED and not getattr(request, name)}:
        raise InvalidField("The request is not valid.", fields=faults)
    writer = current_principal().person
    row = await store.update_party(tx, before, **_columns(request, named), written_by=writer, updated_at=now)
    await checks.open_checks(tx, row.party_id, rules.list_questions(_facts(before), _facts(row)), now)
    return await _announce(tx, row, events.PartyUpdated(), now)


async def add_person(tx: AsyncConnection, request: pb.AddPartyPersonRequest, now: datetime) -> pb.PartyPerson:
    """Raises: PartyNotFound, TooManyPersons."""
    principal = current_principal()
    before = await _lock(tx, request.party_id)
    persons = {row.person for row in await store.list_persons(tx, request.party_id)}
    if len(persons | {request.person}) > rules.PERSONS_MAX:
        raise TooManyPersons("So many persons cannot act for one party.", persons_max=rules.PERSONS_MAX)
    await store.put_person(
        tx,
        org_id=principal.org_id,
        party_id=request.party_id,
        person=request.person,
        title=request.title,
        added_by=principal.person,
        created_at=now,
    )
    row = await store.update_party(tx, before, updated_at=now)
    await _announce(tx, row, events.PartyPersonAdded(person=request.person), now)
    [added] = [one for one in await store.list_persons(tx, request.party_id) if one.person == request.person]
    return messages.to_person(added)


async def remove_person(
    tx: AsyncConnection, request: pb.RemovePartyPersonRequest, now: datetime
) -> pb.RemovePartyPersonResponse:
    """Raises: PartyNotFound."""
    before = await _lock(tx, request.party_id)
    if await store.delete_person(tx, before.org_id, request.party_id, request.person):
        row = await store.update_party(tx, before, updated_at=now)
        await _announce(tx, row, events.PartyPersonRemoved(person=request.person), now)
    left = await store.list_persons(tx, request.party_id)
    return pb.RemovePartyPersonResponse(persons=map(messages.to_person, left))


async def _lock(tx: AsyncConnection, party_id: str) -> Any:
    found = await store.lock_parties(tx, [party_id])
    if party_id not in found:
        raise PartyNotFound()
    return found[party_id]


async def _announce(tx: AsyncConnection, row: Any, event: Any, now: datetime) -> pb.Party:
    """Queues the event with the party as it is now; returns the party as its caller gets it."""
    party = await queries.describe_party(tx, row, now)
    event.party.CopyFrom(await queries.describe_state(tx, party))
    await outbox.enqueue(tx, event, now=now)
    return party


def _facts(row: Any) -> rules.Facts:
    return rules.Facts(row.kind, row.legal_name, frozenset(row.roles), row.accreditation)


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
