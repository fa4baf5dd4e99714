"""What moves money in another service is told to a notary, by each person with their own token.

So whoever is to move it need not take the word of the service that asks for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from services.chassis.calls.wire import copy_without
from services.chassis.data.operations import Operations, note_told
from services.chassis.data.transaction import Tx
from services.chassis.values.movement import Movement

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


class Notary(Protocol):
    """Called in the name of the person, outside of any transaction. Saying the same again changes nothing."""

    async def record_request(
        self, movement: Movement, makers: Collection[str], beneficiary_party_ids: Collection[str]
    ) -> None:
        """The caller asks for it. Raises Unavailable."""
        ...

    async def record_approval(self, movement: Movement) -> None:
        """The caller approves it.

        Raises:
            Unavailable, ContentChanged, MakerIsChecker, BeneficiaryIsChecker
        """
        ...

    async def record_withdrawal(
        self, kind: str, resource_id: str, *, after_refusal: bool = False, of_approved: bool = False
    ) -> None:
        """What was asked for and approved about the resource counts no longer.

        Args:
            after_refusal: What was decided was refused, and comes to nothing.
            of_approved: The caller read that it was approved, and not that it waited.

        Raises:
            DomainError: it was decided just now, and is being done.
            Unavailable
        """
        ...

    async def record_execution(self, movement: Movement, *, validate_only: bool) -> None:
        """The caller executes it, or asks whether it could be.

        Raises:
            DomainError: not as many persons as it takes have approved exactly this, and still count.
            Unavailable
        """
        ...


# The caller's command, without its effect: it raises what speaks against it. Whoever may not say a thing says it to
# nobody, so the notary hears nothing that is refused.
Rehearse = Callable[[], Awaitable[object]]
# What moves, of the resource with this id, if the content with this hash is approved.
FindMovement = Callable[[str, str], Awaitable[Movement]]


class Witnessed:
    """What a service has a notary hear of.

    Args:
        movements: What moves, by the kind of the approval.
    """

    def __init__(self, notary: Notary, movements: Mapping[str, FindMovement]) -> None:
        self._notary = notary
        self._movements = movements

    def __contains__(self, kind: str) -> bool:
        return kind in self._movements

    async def record_request(
        self,
        kind: str,
        resource_id: str,
        content_hash: str,
        makers: Collection[str],
        beneficiary_party_ids: Collection[str],
    ) -> None:
        """The caller asks for it. Raises Unavailable."""
        movement = await self._movements[kind](resource_id, content_hash)
        await self._notary.record_request(movement, makers, beneficiary_party_ids)
        note_told()

    async def record_approval(self, kind: str, resource_id: str, content_hash: str, rehearse: Rehearse) -> None:
        """The caller approves it.

        Raises:
            Unavailable, ContentChanged, MakerIsChecker, BeneficiaryIsChecker, and as the command does
        """
        await rehearse()
        await self._notary.record_approval(await self._movements[kind](resource_id, content_hash))
        note_told()

    async def record_execution(self, kind: str, resource_id: str, content_hash: str, *, validate_only: bool) -> None:
        """The caller, who may, executes it, or asks whether it could be.

        Raises:
            DomainError: not as many persons as it takes have approved it, and still count.
            Unavailable
        """
        movement = await self._movements[kind](resource_id, content_hash)
        await self._notary.record_execution(movement, validate_only=validate_only)
        if not validate_only:
            note_told()

    async def record_withdrawal(
        self, kind: str, resource_id: str, rehearse: Rehearse, *, of_approved: bool = False
    ) -> None:
        """The caller takes back what was asked for, or says no: if the resource does not go back, after all, it is
        asked for anew.

        Args:
            of_approved: The caller read that it was approved, and not that it waited.

        Raises:
            DomainError: as the command does, or the notary.
        """
        await rehearse()
        await self._notary.record_withdrawal(kind, resource_id, of_approved=of_approved)
        note_told()

    async def record_failure(self, kind: str, resource_id: str) -> None:
        """What was decided was refused, and comes to nothing. Raises as the notary does."""
        await self._notary.record_withdrawal(kind, resource_id, after_refusal=True)
        note_told()


async def write_heard(
    operations: Operations,
    request: Request,
    answer_type: type[Answer],
    hear: Callable[[Request], Awaitable[bool]],
    command: Callable[[Tx, Request, datetime], Awaitable[Answer]],
) -> Answer:
    """`command(tx, request, now)`, of which the notary hears before, if it is to.

    Args:
        hear: Whether the notary has heard of it now. What it heard holds, though somebody wrote beside it meanwhile:
            then the command goes by no version.
    """

    async def run(tx: Tx, request: Request, is_heard: bool, now: datetime) -> Answer:
        return await command(tx, copy_without(request, "etag") if is_heard else request, now)

    return await operations.write_on_facts(request, answer_type, hear, run)
