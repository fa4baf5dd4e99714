"""What changes a party and who acts for it. Each runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from realco.compliance.v1 import events_pb2 as events
from realco.compliance.v1 import parties_pb2 as pb

from services.chassis.approvals.requests import name_kind_of
from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.database import read_database_time
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import hash_matter
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import EtagRequired, check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.money import Money
from services.chassis.values.refusals import PartyNotFound
from services.chassis.values.text import normalize_person
from services.compliance import actions, messages
from services.compliance.commands import checks
from services.compliance.commands.api_keys import revoke_keys_of
from services.compliance.commands.persons import build_person, check_may_act_for_more
from services.compliance.domain import clearance
from services.compliance.domain import parties as rules
from services.compliance.domain.parties import Party
from services.compliance.domain.refusals import PersonNotFound, TooManyPersons
from services.compliance.store import parties as store
from services.compliance.store.approvals import APPROVAL_WRITER
from services.compliance.store.standings import was_session_ended

_ADD = name_kind_of(pb.AddPartyPersonRequest)


async def create_party(tx: Tx, request: pb.CreatePartyRequest, now: datetime) -> pb.Party:
    """A party with those who act for it: the caller at once, whoever else once another person, who is asked about both,
    has passed its check.

    Raises: InvalidField, TooManyParties.
    """
    persons = {normalize_person(one.person_id): one.title if one.HasField("title") else None for one in request.persons}
    if len(persons) < len(request.persons):
        raise InvalidField("The request is not valid.", fields={"persons": "must name each person once"})
    for person_id in persons:
        await check_may_act_for_more(tx, person_id)
    party = Party(party_id=new_id("pty"), **_read_fields(request, _FIELDS), created_at=now, updated_at=now)
    await checks.open_checks(tx, party, list(persons), now)
    caller = current_principal().person
    named = [build_person(party, name, title, now, acts=name == caller) for name, title in persons.items()]
    await store.insert_party(tx, party, named)
    return await actions.answer_party(tx, party)


async def update_party(tx: Tx, request: pb.UpdatePartyRequest, now: datetime) -> pb.Party:
    """Takes over the fields the mask names, and asks a person again what they put in question.

    What nobody passed stays as asked for by who asked for it, in that session, until somebody names all the facts that
    it is about.

    Raises: PartyNotFound, EtagMismatch, InvalidField, TooManyStops.
    """
    before = await _lock(tx, request.party_id)
    check_etag(request.etag, before.etag)
    after = replace(before, **_read_fields(request, request.update_mask.paths))
    asked = await checks.list_asked(tx, before.party_id)
    restated = clearance.list_restated(asked, request.update_mask.paths)
    anew = {
        check_type: clearance.ENDED
        for check_type in restated
        if asked[check_type].is_open_at(now) and await was_session_ended(tx, asked[check_type], now)
    }
    if after != before or anew:
        kept = {check_type: each for check_type, each in asked.items() if check_type not in restated}
        questions = rules.list_questions(before, after)
        if questions and not await _acts_for(tx, before.party_id):
            await note_stop(tx, "UPDATE_PARTY", before.party_id, now)
        await checks.reopen_checks(tx, after, questions | anew, kept, now)
        after = await store.save_party(tx, before, after, events.PartyUpdated(), now)
    return await actions.answer_party(tx, after)


async def add_party_person(tx: Tx, request: pb.AddPartyPersonRequest, now: datetime) -> pb.PartyPerson:
    """A person who acts already goes on; another title of that person is set by whoever names the one that was read.

    Raises: PartyNotFound, EtagMismatch, EtagRequired, TooManyPersons, TooManyParties.
    """
    party = await _lock(tx, request.party_id)
    person_id = normalize_person(request.person_id)
    person = await store.find_person(tx, request.party_id, person_id)
    check_etag(request.etag, "" if person is None else person.etag)
    if person is None or not person.acts:
        if person is None and len(await store.list_persons(tx, request.party_id)) >= rules.PERSONS_MAX:
            raise TooManyPersons(
                f"The party has {rules.PERSONS_MAX} persons, and may have no more: remove one first.",
                persons_max=rules.PERSONS_MAX,
            )
        await check_may_act_for_more(tx, person_id)
        title = request.title or (person.title if person else None)
        person = build_person(party, person_id, title, now, acts=True)
        person = await store.save_person(tx, party, person, events.PartyPersonAdded(person_id=person_id), now)
    elif request.HasField("title") and request.title != person.title:
        if not request.etag:
            about = {"etag": "must be the etag of the person, whose title is another"}
            raise EtagRequired("The person acts for the party already.", fields=about)
        person = replace(person, title=request.title)
        person = await store.save_person(tx, party, person, events.PartyPersonUpdated(person_id=person_id), now)
    return messages.to_party_person(person)


async def remove_party_person(tx: Tx, request: pb.RemovePartyPersonRequest, now: datetime) -> pb.Party:
    """Raises: PartyNotFound, PersonNotFound, EtagMismatch, TooManyStops."""
    party = await _lock(tx, request.party_id)
    person_id = normalize_person(request.person_id)
    person = await store.find_person(tx, request.party_id, person_id)
    if person is None:  # a name that was misspelled must not look like a right that was taken away
        raise PersonNotFound("person_id")
    check_etag(request.etag, person.etag)
    if not await _acts_for(tx, party.party_id):
        await note_stop(tx, "REMOVE_PARTY_PERSON", f"{party.party_id}/{person_id}", now)
    asked = hash_matter(rules.name_acting(request.party_id, person_id))
    await APPROVAL_WRITER.cancel_undoing(tx, _ADD, request.party_id, now, lambda each: each.matter_hash == asked)
    return await actions.answer_party(tx, await store.insert_end_of_person(tx, party, person, now))


async def end_sessions(tx: Tx, request: pb.EndSessionsRequest, now: datetime) -> pb.EndSessionsResponse:
    """With the API keys that the person holds: whoever had the person's token may have made one, or a secret.

    Raises: TooManyStops.
    """
    person_id = normalize_person(request.person_id)
    await note_stop(tx, "END_SESSIONS", person_id, now)
    ended_at = await read_database_time(tx)
    await store.insert_end_of_sessions(tx, person_id, ended_at, now)
    await revoke_keys_of(tx, person_id, now)
    return pb.EndSessionsResponse(person_id=person_id, end_time=to_timestamp(ended_at))


async def _lock(tx: Tx, party_id: str) -> Party:
    found = await store.lock_parties(tx, [party_id])
    if party_id not in found:
        raise PartyNotFound()
    return found[party_id]


async def _acts_for(tx: Tx, party_id: str) -> bool:
    """Whether the caller does: what is the caller's own may be stopped as often as it pleases."""
    person = await store.find_person(tx, party_id, current_principal().person)
    return person is not None and person.acts


def _read_money(request: Any, name: str) -> Money | None:
    return Money.from_proto(getattr(request, name)) if request.HasField(name) else None


# What a request says of a party. What may stay unset has its default here, for a creation and a change alike.
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "kind": lambda request: pb.Party.Kind.Name(request.kind),
    "legal_name": lambda request: request.legal_name,
    "accreditation": lambda request: pb.Party.Accreditation.Name(request.accreditation or pb.Party.NON_ACCREDITED),
    "annual_income": lambda request: _read_money(request, "annual_income"),
    "net_worth": lambda request: _read_money(request, "net_worth"),
    "external_id": lambda request: request.external_id or None,
    "metadata": lambda request: dict(request.metadata),
}


def _read_fields(request: pb.CreatePartyRequest | pb.UpdatePartyRequest, names: Iterable[str]) -> dict[str, Any]:
    return {name: _FIELDS[name](request) for name in names}
