"""For which parties an investor acts: by what this service has heard, for a read; as it is at this moment, for a write.

Who acts for whom is kept by one service and heard by the others, a little later. What moves money cannot wait for
that: a person who was removed moves nothing from that moment on, and neither does anybody, staff or not, whose
sessions were ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Protocol

from google.protobuf.message import Message

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.calls.peers import ask, ask_in_parts, check_answers
from services.chassis.calls.tokens import API_KEY_TOKEN_SECONDS
from services.chassis.calls.wire import from_timestamp
from services.chassis.values.refusals import PartyNotFound
from services.chassis.values.session import Identity, Standing, Standings

_REMEMBERED_MAX = 4096


class Parties(Protocol):
    """Who acts for whom, in the caller's organization."""

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        """The parties the person acts for, as far as this service has heard."""
        ...

    async def list_current(self, principal: Principal) -> frozenset[str]:
        """The parties the person acts for at this moment.

        Raises:
            SessionEnded: the person's sessions were ended, or the API key that signed in for it.
            Unavailable: nobody can tell.
        """
        ...

    async def list_interests(self, principal: Principal) -> frozenset[str]:
        """The parties the person acts for, or acted for not long ago: nobody decides what those gain from.

        Raises:
            Unavailable: nobody can tell.
        """
        ...

    async def list_standings(self, persons: Collection[Identity]) -> Standings:
        """Of each of these in the caller's organization: with the parties of `list_interests`.

        Raises:
            SessionEnded: the caller's own sessions were ended.
            Unavailable: nobody can tell.
        """
        ...


class Ask(Protocol):
    """Asks the owner for which parties a person acts at this moment, and whether its sessions were ended."""

    async def __call__(
        self,
        person_id: str,
        *,
        include_former: bool = False,
        counts_yes: bool = False,
        api_key_id: str | None = None,
    ) -> Standing:
        """
        Args:
            include_former: With the parties that the person acted for not long ago.
            counts_yes: By the answer a yes is counted: restored records that nobody has looked through give none.
            api_key_id: What signed in for the person, to be told whether somebody revoked it.

        Raises:
            SessionEnded: the caller's own sessions were ended.
            Unavailable: nobody can tell.
        """
        ...


class AskByRpc:
    """Asks by the owner's RPC, whose package this library does not know."""

    def __init__(self, rpc: Any, request_type: type[Message]) -> None:
        self._rpc = rpc
        self._request_type = request_type

    async def __call__(
        self,
        person_id: str,
        *,
        include_former: bool = False,
        counts_yes: bool = False,
        api_key_id: str | None = None,
    ) -> Standing:
        asked = {"person_id": person_id, "include_former": include_former, "counts_yes": counts_yes}
        answer: Any = await ask(self._rpc, self._request_type(**asked, api_key_id=api_key_id))
        is_ended = answer.HasField("sessions_end_time")
        ended_at = from_timestamp(answer.sessions_end_time) if is_ended else None
        return Standing(frozenset(answer.party_ids), ended_at, answer.api_key_revoked)


class Known(Protocol):
    """What the owner of the parties says of one."""

    known: bool


class AskAboutParties:
    """Asks the owner about many parties by its RPC, whose package this library does not know.

    Raises:
        Unavailable: nobody can tell.
    """

    def __init__(self, rpc: Any, request_type: type[Message]) -> None:
        self._rpc = rpc
        self._request_type = request_type

    async def __call__(self, party_ids: Collection[str]) -> Sequence[Any]:
        """One clearance a party, in their order."""
        asked = list(party_ids)
        clearances = await ask_in_parts(asked, self._ask_some)
        check_answers(asked, (each.party_id for each in clearances), "the owner of the parties")
        return clearances

    async def _ask_some(self, party_ids: Sequence[str]) -> Sequence[Any]:
        answer: Any = await ask(self._rpc, self._request_type(party_ids=party_ids))
        clearances: Sequence[Any] = answer.clearances
        return clearances


async def find_unknown_party(
    ask_about: Callable[[Sequence[str]], Awaitable[Sequence[Known]]], party_id: str, field: str
) -> PartyNotFound | None:
    """The refusal of a party that is not there; None where it is.

    Args:
        ask_about: Asks the owner about parties.
        field: The request's field that names it.

    Raises:
        Unavailable: nobody can tell.
    """
    [found] = await ask_about([party_id])
    return None if found.known else PartyNotFound(field)


class NoParties:
    """For a service that no investor calls."""

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        return frozenset()

    async def list_current(self, principal: Principal) -> frozenset[str]:
        return frozenset()

    async def list_interests(self, principal: Principal) -> frozenset[str]:
        return frozenset()

    async def list_standings(self, persons: Collection[Identity]) -> Standings:
        return {each: Standing() for each in persons}


class CurrentParties:
    """For a service that has heard nothing of who acts for whom, and asks whenever it must know."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        return await self.list_current(principal)

    async def list_current(self, principal: Principal) -> frozenset[str]:
        with acting_as(principal):
            return (await self._ask(principal.person)).parties

    async def list_interests(self, principal: Principal) -> frozenset[str]:
        with acting_as(principal):
            return (await self._ask(principal.person, include_former=True, counts_yes=True)).parties

    async def list_standings(self, persons: Collection[Identity]) -> Standings:
        asked = list(persons)
        asking = [
            self._ask(each.person, include_former=True, counts_yes=True, api_key_id=each.api_key_id) for each in asked
        ]
        return dict(zip(asked, await asyncio.gather(*asking), strict=True))


class Callers:
    """What is known of who calls one process: for whom they act, and whether there are the programs that they say."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties
        # The programs whose API key there is, and until when they read without anybody being asked again.
        self._known_programs: dict[Principal, float] = {}

    async def find(self, principal: Principal, *, reads_only: bool) -> Principal:
        """The caller with the parties it acts for; whoever is no investor stays as it is.

        At each write of a person or a program it is asked whether the session, or the API key, is still good: what
        staff ask for, take away or reject is done, or waits for somebody's yes, long after the thief of a token is
        gone. Of a program it is asked for a read, too, once in the minutes that a token is good: who has the key that
        signs such tokens, and no API key, reads nothing.

        Raises:
            SessionEnded: the caller's sessions or its API key were ended, or there is no such key.
            Unavailable: nobody can tell.
        """
        reads_only = reads_only and self._is_known(principal)
        if principal.confined:
            heard, current = self._parties.list_heard, self._parties.list_current
            return replace(principal, parties=await (heard if reads_only else current)(principal))
        if not (principal.service or reads_only):
            await self._parties.list_current(principal)
            self._note(principal)
        return principal

    def _is_known(self, principal: Principal) -> bool:
        return principal.api_key is None or time.monotonic() < self._known_programs.get(principal, 0.0)

    def _note(self, principal: Principal) -> None:
        if principal.api_key is not None:
            if len(self._known_programs) >= _REMEMBERED_MAX:
                self._known_programs.clear()
            self._known_programs[principal] = time.monotonic() + API_KEY_TOKEN_SECONDS
