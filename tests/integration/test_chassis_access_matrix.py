"""Who reaches which RPC: every RPC there is, with every caller and every kind of token, over real gRPC.

The contract says who may; a token of any other kind opens nothing. An RPC that is added is a row of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from realco.type.v1 import access_pb2

from deploy.topology import SERVICE_NAMES
from gateway import contracts
from services.chassis.calls.auth import ROLES, Principal
from services.chassis.calls.client import ACTOR_TOKEN
from services.chassis.calls.serving import server_of
from services.chassis.calls.tokens import audience_of
from tests.support.access_matrix import (
    CALLERS,
    METHODS,
    NO_RIGHT,
    NO_TOKEN,
    Keys,
    Refusal,
    access_of,
    four_eyes_of,
    has_route,
    methods_of,
    path_of,
    scope_of,
    serving,
)
from tests.support.identity import SCOPES


def other(name: str) -> str:
    return SERVICE_NAMES[(SERVICE_NAMES.index(name) + 1) % len(SERVICE_NAMES)]


def past() -> dict[str, int]:
    return {"iat": int(time.time()) - 120, "exp": int(time.time()) - 61}


# What a thief of one key, or a dishonest issuer or peer, could send in place of the service's own token.
FORGERIES: Mapping[str, Callable[[Keys, str, str], str]] = {
    "for another service": lambda keys, caller, callee: keys.services[caller].token(other(callee)),
    "for people's API": lambda keys, caller, callee: keys.forged(caller, keys.private[caller], callee, aud="realco"),
    "for two services": lambda keys, caller, callee: keys.forged(
        caller, keys.private[caller], callee, aud=[audience_of(callee), audience_of(other(callee))]
    ),
    "expired": lambda keys, caller, callee: keys.forged(caller, keys.private[caller], callee, **past()),
    "good for long": lambda keys, caller, callee: keys.forged(
        caller, keys.private[caller], callee, exp=int(time.time()) + 3600
    ),
    "signed by the people's issuer": lambda keys, caller, callee: keys.forged(
        caller, keys.issuer.key, callee, kid="people-1"
    ),
    "signed by the people's issuer under the service's key id": lambda keys, caller, callee: keys.forged(
        caller, keys.issuer.key, callee
    ),
    "from the people's issuer": lambda keys, caller, callee: keys.issuer.token(
        sub=f"service:{caller}", role="service", aud=audience_of(callee)
    ),
    "signed by another service": lambda keys, caller, callee: keys.forged(
        caller, keys.private[CALLERS[CALLERS.index(caller) - 1]], callee
    ),
    "of an admin, signed by the service": lambda keys, caller, callee: keys.issuer.token(
        header={"kid": f"service:{caller}"}, key=keys.private[caller]
    ),
    "of an admin, from the service": lambda keys, caller, callee: keys.issuer.token(
        header={"kid": f"service:{caller}"}, key=keys.private[caller], iss=f"service:{caller}", aud=audience_of(callee)
    ),
}


def is_refused(answer: Refusal | Principal | None) -> bool:
    return isinstance(answer, str)


@pytest.mark.parametrize("area", contracts.servers())
async def test_a_services_key_opens_what_the_contract_lists_for_it_and_nothing_else(tmp_path: Path, area: str) -> None:
    """Whose forgery is tried takes turns: a token is judged without regard to the RPC, so every pair of RPC, caller and
    kind is tried, and not every three of them.
    """
    keys, forged, leaks = Keys(tmp_path), set(), []
    tokens = {(caller, kind): forge(keys, caller, area) for caller in CALLERS for kind, forge in FORGERIES.items()}
    async with serving(keys.issuer.verifier(area), area) as served:
        for number, method in enumerate(methods_of(area)):
            access = access_of(method)
            for caller in CALLERS:
                answer = await served.call(method, keys.services[caller].token(area))
                may = access.public or caller in access.services
                if is_refused(answer) is may or answer not in (None, NO_RIGHT, *_seen(caller)):
                    leaks.append((method.name, caller, "own", answer))
            for turn, kind in enumerate(FORGERIES):
                caller = CALLERS[(number + turn) % len(CALLERS)]
                answer = await served.call(method, tokens[caller, kind])
                forged.add((caller, kind))
                if answer != NO_TOKEN and not access.public:
                    leaks.append((method.name, caller, kind, answer))
    assert leaks == []
    assert forged == tokens.keys()


def _seen(caller: str) -> tuple[Principal, ...]:
    return (Principal(f"service:{caller}", "service", "org_1"),)


@pytest.mark.parametrize("area", contracts.servers())
async def test_a_role_opens_what_the_contract_lists_for_it_and_nothing_else(tmp_path: Path, area: str) -> None:
    keys, leaks = Keys(tmp_path), []
    # Every service that passes calls on at all, and one that does not.
    passing = sorted({name for method in METHODS for name in access_of(method).passed_on_by} | {"reporting"})
    async with serving(keys.issuer.verifier(area), area) as served:
        for method in methods_of(area):
            access = access_of(method)
            roles = {access_pb2.Access.Role.Name(role).lower() for role in access.roles}
            for role in sorted(ROLES):
                token = keys.issuer.token(role=role, amr=["mfa"], auth_time=int(time.time()))
                # What has no route, a service passes on.
                alone = role in roles and has_route(method)
                if is_refused(await served.call(method, token)) is (access.public or alone):
                    leaks.append((method.name, role, "by itself"))
                for service in passing:
                    own, beside = keys.services[service].token(area), (ACTOR_TOKEN, token)
                    answer = await served.call(method, own, beside)
                    # Who may pass a call on has the person's rights there, and who may not has its own.
                    passes = service in access.passed_on_by
                    may = role in roles if passes else service in access.services
                    if is_refused(answer) is (access.public or may):
                        leaks.append((method.name, role, f"by {service}"))
    assert leaks == []


@pytest.mark.parametrize("area", contracts.servers())
async def test_an_api_key_opens_what_its_scopes_list_and_no_decision(tmp_path: Path, area: str) -> None:
    """By itself and passed on, with a strong sign-in that its issuer has no right to claim."""
    keys, leaks, fresh = Keys(tmp_path), [], {"amr": ["mfa"], "auth_time": int(time.time())}
    async with serving(keys.issuer.verifier(area), area) as served:
        for method in methods_of(area):
            access = access_of(method)
            decides = access.persons_only or four_eyes_of(method).second_person
            for role, roles in (("admin", access.ADMIN), ("auditor", access.AUDITOR)):
                own = scope_of(method)
                for scopes in (set(SCOPES), set(SCOPES) - {own}):
                    token = keys.issuer.key_token(role=role, scope=" ".join(scopes), **fresh)
                    may = roles in access.roles and not decides
                    routed = has_route(method)
                    ways: list[tuple[str, tuple[Any, ...]]] = [(token, ())]
                    ways += [(keys.services[name].token(area), ((ACTOR_TOKEN, token),)) for name in access.passed_on_by]
                    for sent, beside in ways:
                        # What has no route is only passed on, by who checked the scope of what was asked.
                        in_scope = own in scopes if routed else bool(beside)
                        if is_refused(await served.call(method, sent, *beside)) is (
                            access.public or (may and in_scope)
                        ):
                            leaks.append((method.name, role, own in scopes, len(beside)))
    assert leaks == []


@pytest.mark.parametrize("area", contracts.servers())
async def test_the_second_persons_yes_asks_for_a_sign_in_of_just_now_with_more_than_a_password(
    tmp_path: Path, area: str
) -> None:
    """Whoever passes it on. A no asks for none: it is an RPC of its own, or a value that the contract names."""
    keys, faults = Keys(tmp_path), []
    decisions = [method for method in methods_of(area) if four_eyes_of(method).second_person]
    now = int(time.time())
    sign_ins: dict[str, dict[str, Any]] = {
        "a password": {"amr": ["pwd"]},
        "two factors, long ago": {"amr": ["mfa"], "auth_time": now - 1000},
        "two factors": {"amr": ["mfa"], "auth_time": now},
    }
    async with serving(keys.issuer.verifier(area), area) as served:
        for method, (title, claims) in product(decisions, sign_ins.items()):
            token, access = keys.issuer.token(**claims), access_of(method)
            ways = [
                *([(token, ())] if has_route(method) else []),
                *((keys.services[name].token(area), ((ACTOR_TOKEN, token),)) for name in access.passed_on_by),
            ]
            for own, beside in ways:
                yes = await served.call(method, own, *beside)
                if yes != (None if title == "two factors" else NO_TOKEN):
                    faults.append((method.name, title, len(beside), yes))
            if access.says_no:
                field, _, value = access.says_no.partition("=")
                request = GetMessageClass(method.input_type)()
                number = method.input_type.fields_by_name[field].enum_type.values_by_name[value].number
                setattr(request, field, number)
                if is_refused(await served.call(method, token, request=request.SerializeToString())):
                    faults.append((method.name, title, "no"))
    assert faults == []


@pytest.mark.parametrize(
    ("title", "beside"),
    [
        ("another organization's", lambda keys: keys.issuer.token(org_id="org_2")),
        ("expired", lambda keys: keys.issuer.token(**past())),
        ("a service's", lambda keys: keys.services["distributions"].token("escrow")),
        ("none", lambda keys: ""),
        ("signed by the service", lambda keys: keys.issuer.token(key=keys.private["transactions"])),
    ],
)
async def test_a_service_acts_for_nobody_whose_token_is_not_good(
    tmp_path: Path, title: str, beside: Callable[[Keys], str]
) -> None:
    keys = Keys(tmp_path)
    method = next(method for method in METHODS if "transactions" in access_of(method).services)
    area = server_of(method.containing_service)
    async with serving(keys.issuer.verifier(area), area) as served:
        own = keys.services["transactions"].token(area)
        assert await served.call(method, own, (ACTOR_TOKEN, beside(keys))) == NO_TOKEN, title
        # Nor does a person lend another's name.
        assert await served.call(method, keys.issuer.token(), (ACTOR_TOKEN, keys.issuer.token())) == NO_TOKEN


async def test_the_person_a_service_acts_for_is_whose_token_travels_and_not_whom_it_says(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    claim = ("x-realco-on-behalf-of-bin", b"somebody-else")
    async with serving(keys.issuer.verifier("escrow"), "escrow") as served:
        method = next(m for m in METHODS if m.name == "GetEscrowAccount")
        assert "transactions" in access_of(method).services
        own, person = keys.services["transactions"].token("escrow"), keys.issuer.token(sub="Ann@example.org")
        send = served.channel.unary_unary(path_of(method))
        request = GetMessageClass(method.input_type)(escrow_account_id="esc_" + "0" * 26).SerializeToString()
        base = (("authorization", f"Bearer {own}"), ("x-realco-org", "org_1"), claim)
        await send(request, metadata=(*base, (ACTOR_TOKEN, person)))
        assert served.principal is not None
        assert (served.principal.person, served.principal.token) == ("ann@example.org", person)
        await send(request, metadata=base)
        assert (served.principal.person, served.principal.token) == ("somebody-else", "")
