"""Who reaches which RPC: every RPC there is, times every caller, times every kind of token, over real gRPC.

The contract says who may; a token of any other kind opens nothing. An RPC that is added is a row of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from joserfc.jwk import ECKey
from realco.type.v1 import access_pb2, approval_pb2

from deploy.topology import SERVICE_NAMES
from gateway import contracts
from services.chassis.calls import server
from services.chassis.calls.auth import ROLES, Principal, current_principal
from services.chassis.calls.client import ACTOR_TOKEN
from services.chassis.calls.serving import list_served, server_of
from services.chassis.calls.tokens import ServiceIdentity, audience_of
from services.chassis.spelling.descriptors import has_option
from tests.support.identity import SCOPES, Issuer

# A service whose key is known and that was granted nothing, beside those of the system.
CALLERS = (*SERVICE_NAMES, "reporting")
METHODS = [method for service in contracts.services() for method in service.methods]
Refusal = str
NO_TOKEN: Refusal = "UNAUTHENTICATED"
NO_RIGHT: Refusal = "PERMISSION_DENIED"


class Keys:
    """The keys of everybody: the issuer's and each service's."""

    def __init__(self, folder: Path) -> None:
        self.issuer = Issuer(folder)
        self.private = {name: ECKey.generate_key("P-256") for name in CALLERS}
        self.services = {name: ServiceIdentity(name, key) for name, key in self.private.items()}
        self.issuer.admit(*self.services.values())

    def forged(self, caller: str, key: ECKey, callee: str, *, kid: str = "", **claims: Any) -> str:
        """A token in the name of a service, changed as the test says."""
        name = f"service:{caller}"
        named = {"iss": name, "sub": name, "aud": audience_of(callee), "role": None, "org_id": None}
        return self.issuer.token(header={"kid": kid or name}, key=key, **(named | claims))


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


class Served:
    """One process that serves every RPC of an area, and asks nothing of what it is sent."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel
        # Who the last call came from, if it arrived.
        self.principal: Principal | None = None

    async def call(
        self, method: MethodDescriptor, token: str, *more: tuple[str, str], request: bytes = b""
    ) -> Refusal | Principal | None:
        """Who the handler saw, or None where the request was refused only as a request; else why nobody came."""
        self.principal = None
        send = self._channel.unary_unary(_path(method))
        metadata = (("authorization", f"Bearer {token}"), ("x-realco-org", "org_1"), *more)
        try:
            await send(request, metadata=metadata)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                return error.code().name
        return self.principal

    async def handle(self, _: Any, __: Any) -> Empty:
        self.principal = current_principal()
        return Empty()


def methods_of(area: str) -> list[MethodDescriptor]:
    return [method for service in list_served(area, contracts.services()) for method in service.methods]


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


@asynccontextmanager
async def serving(keys: Keys, area: str) -> AsyncIterator[Served]:
    services = list_served(area, contracts.services())
    running = server.build(server.Interceptor(area, keys.issuer.verifier(area), services), 100)
    async with aio.insecure_channel(f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}") as channel:
        served = Served(channel)
        for service in services:
            handlers = {
                method.name: grpc.unary_unary_rpc_method_handler(
                    served.handle, GetMessageClass(method.input_type).FromString, Empty.SerializeToString
                )
                for method in service.methods
            }
            running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        await running.start()
        yield served
        await running.stop(None)


def access_of(method: MethodDescriptor) -> access_pb2.Access:
    option: Any = access_pb2.access
    found: access_pb2.Access = method.GetOptions().Extensions[option]
    return found


def four_eyes_of(method: MethodDescriptor) -> approval_pb2.FourEyes:
    option: Any = approval_pb2.four_eyes
    found: approval_pb2.FourEyes = method.GetOptions().Extensions[option]
    return found


def is_refused(answer: Refusal | Principal | None) -> bool:
    return isinstance(answer, str)


@pytest.mark.parametrize("area", contracts.servers())
async def test_a_services_key_opens_what_the_contract_lists_for_it_and_nothing_else(tmp_path: Path, area: str) -> None:
    keys, cells, leaks = Keys(tmp_path), Counter[str](), []
    methods = methods_of(area)
    async with serving(keys, area) as served:
        for method in methods:
            access = access_of(method)
            for caller in CALLERS:
                answer = await served.call(method, keys.services[caller].token(area))
                may = access.public or caller in access.services
                cells["own"] += 1
                if is_refused(answer) is may or answer not in (None, NO_RIGHT, *_seen(caller)):
                    leaks.append((method.name, caller, "own", answer))
                for kind, forge in FORGERIES.items():
                    answer = await served.call(method, forge(keys, caller, area))
                    cells[kind] += 1
                    if answer != NO_TOKEN and not access.public:
                        leaks.append((method.name, caller, kind, answer))
    assert leaks == []
    assert cells == dict.fromkeys(("own", *FORGERIES), len(methods) * len(CALLERS))


def _seen(caller: str) -> tuple[Principal, ...]:
    return (Principal(f"service:{caller}", "service", "org_1"),)


@pytest.mark.parametrize("area", contracts.servers())
async def test_a_role_opens_what_the_contract_lists_for_it_and_nothing_else(tmp_path: Path, area: str) -> None:
    keys, leaks = Keys(tmp_path), []
    # Every service that passes calls on at all, and one that does not.
    passing = sorted({name for method in METHODS for name in access_of(method).passed_on_by} | {"reporting"})
    async with serving(keys, area) as served:
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
    async with serving(keys, area) as served:
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


def has_route(method: MethodDescriptor) -> bool:
    return has_option(method, annotations_pb2.http)


def scope_of(method: MethodDescriptor) -> str:
    verb = "READ" if method.name.startswith(("Get", "List")) else "WRITE"
    return f"{method.full_name.split('.')[1]}_{verb}".upper()


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
    async with serving(keys, area) as served:
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
    async with serving(keys, area) as served:
        own = keys.services["transactions"].token(area)
        assert await served.call(method, own, (ACTOR_TOKEN, beside(keys))) == NO_TOKEN, title
        # Nor does a person lend another's name.
        assert await served.call(method, keys.issuer.token(), (ACTOR_TOKEN, keys.issuer.token())) == NO_TOKEN


async def test_the_person_a_service_acts_for_is_whose_token_travels_and_not_whom_it_says(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    claim = ("x-realco-on-behalf-of-bin", b"somebody-else")
    async with serving(keys, "escrow") as served:
        method = next(m for m in METHODS if m.name == "GetEscrowAccount")
        assert "transactions" in access_of(method).services
        own, person = keys.services["transactions"].token("escrow"), keys.issuer.token(sub="Ann@example.org")
        send = served._channel.unary_unary(_path(method))
        request = GetMessageClass(method.input_type)(escrow_account_id="esc_" + "0" * 26).SerializeToString()
        base = (("authorization", f"Bearer {own}"), ("x-realco-org", "org_1"), claim)
        await send(request, metadata=(*base, (ACTOR_TOKEN, person)))
        assert served.principal is not None
        assert (served.principal.person, served.principal.token) == ("ann@example.org", person)
        await send(request, metadata=base)
        assert (served.principal.person, served.principal.token) == ("somebody-else", "")
