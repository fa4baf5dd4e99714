"""What moves money in another service is told to a notary, by each person with their own token.

So whoever is to move it need not take the word of the service that asks for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from services.chassis.values.money import Money


class MovementLine(NamedTuple):
    """What moves out of one ledger account.

    Args:
        ledger_account_kind: What it leaves, as escrow names it.
        party_id: Whose it is, or whose it becomes.
    """

    ledger_account_kind: str
    party_id: str
    amount: Money


@dataclass(frozen=True, slots=True)
class Movement:
    """All that moves in an escrow account by one decision."""

    escrow_account_id: str
    lines: tuple[MovementLine, ...]


class Notary(Protocol):
    """Called in the name of the person, outside of any transaction. Saying the same again changes nothing."""

    async def record_request(
        self,
        kind: str,
        resource_id: str,
        content_hash: str,
        movement: Movement,
        makers: Collection[str],
        beneficiary_party_ids: Collection[str],
    ) -> None:
        """The caller asks for it. Raises Unavailable."""
        ...

    async def record_approval(self, kind: str, resource_id: str, content_hash: str, movement: Movement) -> None:
        """The caller approves it.

        Raises:
            Unavailable, ContentChanged, MakerIsChecker, BeneficiaryIsChecker
        """
        ...

    async def record_withdrawal(self, kind: str, resource_id: str) -> None:
        """What was asked for and approved about the resource counts no longer. Raises Unavailable."""
        ...

    async def record_execution(
        self, kind: str, resource_id: str, content_hash: str, movement: Movement, *, validate_only: bool
    ) -> None:
        """The caller executes it, or asks whether it could be.

        Raises:
            DomainError: not as many persons as it takes have approved exactly this, and still count.
            Unavailable
        """
        ...


FindMovement = Callable[[str], Awaitable[Movement]]


class Witnessed:
    """What a service has a notary hear of.

    Args:
        movements: The kind of an approval -> what moves if it is approved, of the resource with this id.
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
        movement = await self._movements[kind](resource_id)
        await self._notary.record_request(kind, resource_id, content_hash, movement, makers, beneficiary_party_ids)

    async def record_approval(self, kind: str, resource_id: str, content_hash: str) -> None:
        """The caller, who may, approves it.

        Raises:
            Unavailable, ContentChanged, MakerIsChecker, BeneficiaryIsChecker
        """
        movement = await self._movements[kind](resource_id)
        await self._notary.record_approval(kind, resource_id, content_hash, movement)

    async def record_execution(self, kind: str, resource_id: str, content_hash: str, *, validate_only: bool) -> None:
        """The caller, who may, executes it, or asks whether it could be.

        Raises:
            DomainError: not as many persons as it takes have approved it, and still count.
            Unavailable
        """
        movement = await self._movements[kind](resource_id)
        await self._notary.record_execution(kind, resource_id, content_hash, movement, validate_only=validate_only)

    async def record_withdrawal(self, kind: str, resource_id: str) -> None:
        """Before the resource goes back: if it does not, after all, it is asked for anew. Raises Unavailable."""
        await self._notary.record_withdrawal(kind, resource_id)
