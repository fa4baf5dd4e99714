"""Who may pass: rate limits by address and by caller, the caller's token, the access rule of the RPC.

The same token and rule are checked again by the service (reliability rules c27, c32, c35); here they are checked
before a body is read. Headers that claim who somebody is (`X-Forwarded-*`, `X-Realco-*`, …) are not looked at.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import limits
import structlog
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import Request

from gateway.problems import of_domain_error, rate_limited
from gateway.settings import Settings
from services.chassis.calls.access import Rule
from services.chassis.calls.auth import Principal
from services.chassis.calls.tokens import Verifier
from services.chassis.values.errors import DomainError, PermissionDenied, Unauthenticated

_TOKEN_BYTES_MAX = 8192


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved who it is, and the token that did."""

    principal: Principal
    token: str


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller may still ask for, of the rate that was counted last.

    Args:
        seconds: Until the whole of `most` is to be had again.
    """

    most: int
    left: int
    seconds: int

    def headers(self) -> dict[str, str]:
        told = {"Limit": self.most, "Remaining": self.left, "Reset": self.seconds}
        return {f"RateLimit-{name}": str(value) for name, value in told.items()}


class Guard:
    """Admits or refuses requests.

    The counters are this process's own: several gateways admit that many times as much.
    """

    def __init__(self, settings: Settings, verifier: Verifier) -> None:
        self._verifier = verifier
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._per_address = limits.parse(settings.rate_per_address)
        self._refused_tokens = limits.parse(settings.rate_of_refused_tokens)
        self._per_organization = limits.parse(settings.rate_per_organization)
        self._per_principal = limits.parse(settings.rate_per_principal)
        self._guarded = limits.parse(settings.rate_of_guarded_calls)

    async def admit_address(self, request: Request) -> None:
        """Raises Problem 429 where the address asks too often."""
        await self._count(request, self._per_address, "address", _address(request))

    async def admit_caller(self, request: Request, rule: Rule, *, guarded: bool = False) -> Caller | None:
        """The caller, None for a public RPC.

        Args:
            guarded: Callers have a rate of their own for what this RPC does; so has an address, where nobody is known.

        Raises:
            Problem: 401, 403 or 429.
        """
        if rule.public:
            if guarded:
                await self._count(request, self._guarded, "guarded", _address(request))
            return None
        caller = await self._authenticate(request)
        principal = caller.principal
        structlog.contextvars.bind_contextvars(principal=principal.subject, org=principal.org_id)
        await self._count_caller(request, principal, 1)
        if guarded:
            await self._count(request, self._guarded, "guarded", _name(principal))
        try:
            rule.admit(principal)
        except PermissionDenied as refusal:
            raise of_domain_error(refusal) from None
        return caller

    async def admit_items(self, request: Request, caller: Caller, number: int) -> None:
        """Counts a batch as its items, the first of which `admit_caller` counted. Raises Problem 429."""
        if number > 1:
            await self._count_caller(request, caller.principal, number - 1)

    async def _count_caller(self, request: Request, principal: Principal, cost: int) -> None:
        """The person first: what is refused to one person is not taken from the organization's."""
        await self._count(request, self._per_principal, "principal", _name(principal), cost)
        shown = request.state.counted
        await self._count(request, self._per_organization, "organization", principal.org_id, cost)
        request.state.counted = shown

    async def _authenticate(self, request: Request) -> Caller:
        try:
            token = _bearer(request)
            principal = await self._verifier.verify(token)
        except Unauthenticated as refusal:
            await self._count(request, self._refused_tokens, "refused", _address(request))
            problem = of_domain_error(refusal)
            if request.headers.get("authorization"):
                problem.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
            raise problem from None
        except DomainError as refusal:
            raise of_domain_error(refusal) from None
        return Caller(principal, token)

    async def _count(self, request: Request, rate: limits.RateLimitItem, kind: str, name: str, cost: int = 1) -> None:
        """A batch of more items than the whole rate costs all of it: there must be a time when it passes."""
        request.state.counted = rate, kind, name
        if not await self._limiter.hit(rate, kind, name, cost=min(cost, max(1, rate.amount - 1))):
            raise rate_limited((await self._read_allowance(rate, kind, name)).seconds)

    async def list_headers(self, request: Request) -> dict[str, str]:
        """The headers that tell a caller how much it may still ask for; none where nothing was counted."""
        counted = getattr(request.state, "counted", None)
        return (await self._read_allowance(*counted)).headers() if counted is not None else {}

    async def _read_allowance(self, rate: limits.RateLimitItem, kind: str, name: str) -> Allowance:
        window = await self._limiter.get_window_stats(rate, kind, name)
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        return Allowance(rate.amount, max(0, window.remaining), seconds)


def _name(principal: Principal) -> str:
    return f"{principal.org_id}/{principal.subject}"


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _bearer(request: Request) -> str:
    given = request.headers.getlist("authorization")
    if not given:
        raise Unauthenticated("A bearer token is needed.")
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token or len(token) > _TOKEN_BYTES_MAX:
        raise Unauthenticated("The token is not acceptable.")
    return token
