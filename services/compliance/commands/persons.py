"""Who begins to act for a party: named by somebody else, a person waits until another one has said yes."""

from __future__ import annotations

import json
from datetime import datetime

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Approval
from services.compliance.domain import parties as rules
from services.compliance.domain.parties import Party, PartyPerson
from services.compliance.domain.refusals import TooManyParties
from services.compliance.store import parties as store
from services.compliance.store.standings import list_persons_to_review


def build_person(party: Party, person_id: str, title: str | None, now: datetime, *, acts: bool) -> PartyPerson:
    principal = current_principal()
    return PartyPerson(
        party_id=party.party_id,
        person_id=person_id,
        title=title,
        version=party.version,
        created_by=principal.person,
        created_at=now,
        updated_at=now,
        act_started_at=now if acts else None,
        session=principal.session,
    )


async def check_may_act_for_more(tx: Tx, person_id: str) -> None:
    """Raises: TooManyParties."""
    if len(await store.list_parties_of_person(tx, person_id)) >= rules.PARTIES_MAX:
        message = f"The person acts for {rules.PARTIES_MAX} parties, and may act for no more."
        raise TooManyParties(message, person_id=person_id, parties_max=rules.PARTIES_MAX)


async def admit_waiting(tx: Tx, party: Party, decided: Approval, now: datetime) -> Party:
    """Those who wait to act for a locked party do so from now on, where the check that was passed names them.

    Raises: TooManyParties.
    """
    named = json.loads(decided.content)["resource"]["personIds"]
    admitted = [
        one for one in await list_persons_to_review(tx, party.party_id, now) if not one.acts and one.person_id in named
    ]
    for one in admitted:
        await check_may_act_for_more(tx, one.person_id)
    return await store.admit_persons(tx, party, admitted, now)
