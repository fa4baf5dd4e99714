"""Who reaches which RPC over REST: every RPC that has a route, times every caller, times every kind of credential.

The gateway decides by the token, the role and the scope, and passes the same token on to a service, which decides again
and knows what the gateway does not: the parties of an investor, and whose sessions were ended. So this is both, as they
are deployed: the gateway's whole application before the interceptor of each service. Only what lies behind them stands
in: the handlers, which answer emptily and so refuse nothing, and what compliance says of persons. Whatever is let in is
answered, then, and whatever is not is refused here or nowhere; and what the gateway can refuse, no service is asked. Of
what handlers refuse (whose resource it is), tests/e2e/test_strangers.py asks the running system.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from joserfc.jwk import ECKey
from realco.type.v1 import access_pb2

from gateway import contracts
from gateway.__main__ import build
from gateway.counters import Counters
from gateway.guard import Guard
from gateway.upstream import Upstream
from services.chassis.calls.auth import ADMIN, AUDITOR, INVESTOR, ROLES, Principal
from services.chassis.calls.serving import server_of
from services.chassis.calls.sign_in import check_session
from services.chassis.calls.tokens import Verifier
from services.chassis.values.ids import new_id
from tests.support.access_matrix import CALLERS, Keys, Served, access_of, four_eyes_of, scope_of, serving
from tests.support.gateway import settings
from tests.support.identity import SCOPES
from tests.support.persons import Persons
from tests.support.rest_requests import write_rest
from tests.support.sample_requests import SampleRequests

METHODS = contracts.methods()
OWN_PARTY, OTHER_PARTY = new_id("pty"), new_id("pty")
LET_IN = ""
# What only a service can tell. The gateway refuses all else, before it reads a body.
BY_SERVICES = {"SESSION_ENDED", "PARTY_NOT_FOUND", "INSUFFICIENT_USER_AUTHENTICATION"}
BY_THE_GATEWAY = {"UNAUTHENTICATED", "PERMISSION_DENIED", "PERSON_REQUIRED", "INSUFFICIENT_SCOPE"}
UNLIMITED = {
    f"rate_{rate}": "1000000/second"
    for rate in ("per_address", "of_refused_tokens", "per_principal", "per_organization", "of_guarded_calls")
}


def read_now() -> int:
    return int(time.time())


def sign_in() -> dict[str, Any]:
    """The claims of who has just signed in by two factors. A token of before the other tests ran is over by now."""
    return {"amr": ["mfa"], "auth_time": read_now(), "iat": read_now(), "exp": read_now() + 300}


@dataclass(frozen=True)
class Caller:
    """Somebody who asks, and what the contract says of that.

    Args:
        token: What it shows, for an RPC; None: nothing at all.
        expect: The code of the refusal, for an RPC and its request; LET_IN where there is none.
        party_id: Which party its requests name, where they name one.
    """

    title: str
    token: Callable[[MethodDescriptor], str | None]
    expect: Callable[[MethodDescriptor, Message], str]
    party_id: str = OWN_PARTY


class Compliance(Persons):
    """What it says of persons when a service asks."""

    async def list_current(self, principal: Principal) -> frozenset[str]:
        check_session(principal, self.ended.get(principal.person))
        return await super().list_current(principal)


class WatchedUpstream(Upstream):
    """Knows whether the gateway asked a service at all."""

    was_asked = False

    def unary(self, area: str, method: MethodDescriptor) -> Any:
        call = super().unary(area, method)

        async def watched(*arguments: Any) -> tuple[Message, bool]:
            self.was_asked = True
            return await call(*arguments)

        return watched


@dataclass(frozen=True)
class Answered:
    """What became of a request.

    Args:
        code: Of the refusal; LET_IN where there is none.
        token: What proved whom the handler saw; None where it saw nobody.
    """

    code: str
    was_passed_on: bool
    reached: bool
    token: str | None


@dataclass(frozen=True)
class Running:
    """The gateway, and the services behind it."""

    client: httpx.AsyncClient
    upstream: WatchedUpstream
    services: Mapping[str, Served]

    async def ask(self, method: MethodDescriptor, request: Message, token: str | None) -> Answered:
        served = self.services[server_of(method.containing_service)]
        served.forget()
        self.upstream.was_asked = False
        asked = write_rest(method, request, changes={"metadata": {"asked": "here"}})
        bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
        answer = await self.client.request(
            asked.http_method, asked.path, headers={**asked.headers, **bearer}, **asked.sent
        )
        assert answer.status_code < 500, (method.name, answer.text)
        code = answer.json()["code"] if answer.is_error else LET_IN
        seen = served.principal and served.principal.token
        return Answered(code, self.upstream.was_asked, served.reached, seen)


@asynccontextmanager
async def running(keys: Keys) -> AsyncIterator[Running]:
    persons = Compliance()
    persons.ended = {"gone": datetime.fromtimestamp(time.time() - 10, UTC)}
    persons.parties = dict.fromkeys(("ann", "gone"), frozenset({OWN_PARTY}))
    async with AsyncExitStack() as stack:
        services = {
            area: await stack.enter_async_context(serving(keys.issuer.verifier(area), area, persons))
            for area in contracts.servers()
        }
        upstream = WatchedUpstream({area: served.address for area, served in services.items()})
        stack.push_async_callback(upstream.close)
        configured = settings(keys.issuer.issuers, **UNLIMITED)
        guard = Guard(Counters(configured), Verifier(configured))
        door = httpx.ASGITransport(build(configured, guard, upstream, asyncio.Event(), {}))
        client = await stack.enter_async_context(httpx.AsyncClient(transport=door, base_url="http://gateway"))
        yield Running(client, upstream, services)


def nobodies(keys: Keys) -> list[Caller]:
    """Who proves nothing here: no service calls the gateway, with whatever token."""
    expired = keys.issuer.token(iat=read_now() - 400, exp=read_now() - 100)
    foreign = keys.issuer.token(key=ECKey.generate_key("P-256"))
    tokens: dict[str, Callable[[MethodDescriptor], str | None]] = {
        "without a token": lambda _: None,
        "with a token of before": lambda _: expired,
        "with a token by a key of nobody": lambda _: foreign,
        **{f"the service {name}": _token_of_service(keys, name) for name in CALLERS},
    }
    return [
        Caller(title, token, lambda method, _: LET_IN if access_of(method).public else "UNAUTHENTICATED")
        for title, token in tokens.items()
    ]


def _token_of_service(keys: Keys, name: str) -> Callable[[MethodDescriptor], str]:
    return lambda method: keys.services[name].token(server_of(method.containing_service))


def persons(keys: Keys) -> list[Caller]:
    """Each role by each sign-in; and an investor with what is its party's, and with another's."""
    found = []
    for role in sorted(ROLES):
        fresh, weak, ended = (
            keys.issuer.token(role=role, **{**sign_in(), **claims})
            for claims in (
                {"sub": "ann"},
                {"sub": "ann", "amr": ["pwd"]},
                {"sub": "gone", "auth_time": read_now() - 100},
            )
        )
        found += [
            Caller(f"{role} by two factors", lambda _, it=fresh: it, _expect_person(role)),
            Caller(f"{role} by a password", lambda _, it=weak: it, _expect_person(role, is_strong=False)),
            Caller(f"{role} in an ended session", lambda _, it=ended: it, _expect_person(role, has_ended=True)),
        ]
        if role == INVESTOR:
            expect = _expect_person(role, is_stranger=True)
            found.append(Caller(f"{role} for another party", lambda _, it=fresh: it, expect, OTHER_PARTY))
    return found


def _expect_person(
    role: str, *, is_strong: bool = True, has_ended: bool = False, is_stranger: bool = False
) -> Callable[[MethodDescriptor, Message], str]:
    def expect(method: MethodDescriptor, request: Message) -> str:
        if access_of(method).public:
            return LET_IN
        if not _is_open_to(role, method):
            return "PERMISSION_DENIED"
        if has_ended and scope_of(method).endswith("_WRITE"):
            return "SESSION_ENDED"
        if is_stranger and OTHER_PARTY in _named(request, access_of(method).party_field):
            return "PARTY_NOT_FOUND"
        if not is_strong and four_eyes_of(method).second_person and not _says_no(method, request):
            return "INSUFFICIENT_USER_AUTHENTICATION"
        return LET_IN

    return expect


def programs(keys: Keys) -> list[Caller]:
    """API keys of each role that may have one, with each set of scopes that says something about an RPC."""
    sets: dict[str, Callable[[str], set[str]]] = {
        "all scopes": lambda own: set(SCOPES),
        "the scope alone": lambda own: {own} & set(SCOPES),
        "every other scope": lambda own: set(SCOPES) - {own},
    }
    found = []
    for role in (ADMIN, AUDITOR):
        for title, choose in sets.items():
            token = _token_of_program(keys, role, choose)
            found.append(Caller(f"a program of the {role} with {title}", token, _expect_program(role, choose)))
        token = _token_of_program(keys, role, sets["all scopes"], person="gone", auth_time=read_now() - 100)
        expect = _expect_program(role, sets["all scopes"], has_ended=True)
        found.append(Caller(f"a program of the {role} whose holder's sessions ended", token, expect))
    return found


def _token_of_program(
    keys: Keys, role: str, choose: Callable[[str], set[str]], **claims: Any
) -> Callable[[MethodDescriptor], str]:
    made: dict[str, str] = {}

    def token(method: MethodDescriptor) -> str:
        own = scope_of(method)
        if own not in made:
            # With a strong sign-in, which its issuer has no right to claim.
            signed = {**sign_in(), **claims, "scope": " ".join(sorted(choose(own))) or "none"}
            made[own] = keys.issuer.key_token(role=role, **signed)
        return made[own]

    return token


def _expect_program(
    role: str, choose: Callable[[str], set[str]], *, has_ended: bool = False
) -> Callable[[MethodDescriptor, Message], str]:
    def expect(method: MethodDescriptor, _: Message) -> str:
        access, own = access_of(method), scope_of(method)
        if access.public:
            return LET_IN
        if access.persons_only or four_eyes_of(method).second_person:
            return "PERSON_REQUIRED"
        if own not in choose(own):
            return "INSUFFICIENT_SCOPE"
        if not _is_open_to(role, method):
            return "PERMISSION_DENIED"
        return "SESSION_ENDED" if has_ended else LET_IN  # a program is asked about for its reads, too

    return expect


def _is_open_to(role: str, method: MethodDescriptor) -> bool:
    return role in {access_pb2.Access.Role.Name(each).lower() for each in access_of(method).roles}


def _named(request: Any, path: str) -> list[str]:
    """The parties that the request names, where the contract says it does."""
    for name in path.split(".") if path else ():
        request = getattr(request, name)
    return [request] if isinstance(request, str) else list(request) if path else []


def _says_no(method: MethodDescriptor, request: Any) -> bool:
    field, _, value = access_of(method).says_no.partition("=")
    if not field:
        return False
    values = method.input_type.fields_by_name[field].enum_type.values_by_name
    return bool(getattr(request, field) == values[value].number)


async def test_over_rest_everybody_reaches_what_the_contract_lists_for_them_and_nothing_else(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    callers = [*nobodies(keys), *persons(keys), *programs(keys)]
    samples = {
        party_id: SampleRequests({"pty": party_id, "inv": new_id("inv")}, "somebody", datetime.now(UTC))
        for party_id in (OWN_PARTY, OTHER_PARTY)
    }
    cells, refusals, leaks = Counter[str](), set[str](), []
    async with running(keys) as system:
        for method in METHODS:
            for caller in callers:
                request, token = samples[caller.party_id].make(method), caller.token(method)
                expected = caller.expect(method, request)
                seen = None if expected or access_of(method).public else token
                wanted = Answered(expected, expected not in BY_THE_GATEWAY, not expected, seen)
                answered = await system.ask(method, request, token)
                cells[caller.title] += 1
                refusals.add(expected)
                if answered != wanted:
                    leaks.append(f"{method.name}, {caller.title}: {answered} in place of {wanted}")
    assert leaks == []
    assert cells == dict.fromkeys((caller.title for caller in callers), len(METHODS))
    assert refusals == {LET_IN, *BY_SERVICES, *BY_THE_GATEWAY}, "each way to be refused was asked for"
