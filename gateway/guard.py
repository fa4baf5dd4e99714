"""Who may pass: rate limits by address and by caller, the caller's token, the access rule of the RPC.

The same token and rule are checked again by the service (reliability rules c27, c32, c35); here they are checked
before a body is read. Headers that claim who somebody is (`X-Forwarded-*`, `X-Realco-*`, …) are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from gateway.counters import Counters, Kind
from gateway.problems import of_domain_error, rate_limited
from services.chassis.calls.access import Rule
from services.chassis.calls.auth import Principal
from services.chassis.calls.tokens import Verifier
from services.chassis.process import telemetry
from services.chassis.values.errors import DomainError, PermissionDenied, Unauthenticated

_TOKEN_BYTES_MAX = 8192


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved who it is, and the token that did."""

    principal: Principal
    token: str


class Guard:
    """Admits or refuses requests."""

    def __init__(self, counters: Counters, verifier: Verifier) -> None:
        self._counters = counters
        self._verifier = verifier

    async def admit_address(self, request: Request) -> None:
        """Raises Problem 429 where the address asks too often."""
        await self._count(request, "address", address_of(request))

    async def admit_caller(self, request: Request, rule: Rule, *, guarded: bool = False) -> Caller | None:
        """The caller, None for a public RPC.

        Args:
            guarded: Callers have a rate of their own for what this RPC does; so has an address, where nobody is known.

        Raises:
            Problem: 401, 403 or 429.
        """
        if rule.public:
            if guarded:
                await self._count(request, "guarded", address_of(request))
            return None
        caller = await self._authenticate(request)
        principal = caller.principal
        telemetry.bind(principal=principal.subject, org=principal.org_id)
        await self._count_caller(request, principal, 1)
        if guarded:
            await self._count(request, "guarded", _name(principal))
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
        await self._count(request, "principal", _name(principal), cost)
        shown = request.state.counted
        await self._count(request, "organization", principal.org_id, cost)
        request.state.counted = shown

    async def _authenticate(self, request: Request) -> Caller:
        try:
            token = _bearer(request)
            principal = await self._verifier.verify(token)
        except Unauthenticated as refusal:
            await self._count(request, "refused", address_of(request))
            problem = of_domain_error(refusal)
            if request.headers.get("authorization"):
                problem.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
            raise problem from None
        except DomainError as refusal:
            raise of_domain_error(refusal) from None
        return Caller(principal, token)

    async def _count(self, request: Request, kind: Kind, name: str, cost: int = 1) -> None:
        request.state.counted = kind, name
        if not await self._counters.count(kind, name, cost):
            raise rate_limited((await self._counters.read_allowance(kind, name)).seconds)

    async def list_headers(self, request: Request) -> dict[str, str]:
        """The headers that tell a caller how much it may still ask for; none where nothing was counted."""
        counted = getattr(request.state, "counted", None)
        return (await self._counters.read_allowance(*counted)).headers() if counted is not None else {}


def _name(principal: Principal) -> str:
    return f"{principal.org_id}/{principal.subject}"


def address_of(request: Request) -> str:
    """The network address that it came from, which may be a proxy's."""
    return request.client.host if request.client is not None else ""


def _bearer(request: Request) -> str:
    given = request.headers.getlist("authorization")
    if not given:
        raise Unauthenticated("A bearer token is needed.")
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token or len(token) > _TOKEN_BYTES_MAX:
        raise Unauthenticated("The token is not acceptable.")
    return token
