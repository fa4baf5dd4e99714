"""Who may call which RPC, read from the option `(realco.type.v1.access)` beside it: deny unless the proto allows.

An RPC without the option keeps its service from starting, so nothing is reachable by forgetting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.api import annotations_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from realco.type.v1 import access_pb2, approval_pb2

from services.chassis.calls.auth import SERVICE_ROLE, Principal, current_principal
from services.chassis.calls.sign_in import check_fresh_sign_in
from services.chassis.values.errors import BootError, DomainError, PermissionDenied
from services.chassis.values.refusals import PartyNotFound

# What a caller may do with a resource: the RPC that does it (`HoldsService/PlaceHold`), and whether the rules of the
# business let it happen now: yes or no, or the check that raises the refusal.
Action = tuple[str, bool | Callable[[], None]]


class PersonRequired(PermissionDenied):
    """A program called what only a person may."""

    reason = "PERSON_REQUIRED"


class InsufficientScope(PermissionDenied):
    """The API key may not be used for it. Source of the name: RFC 6750, section 3.1"""

    reason = "INSUFFICIENT_SCOPE"


@dataclass(frozen=True, slots=True)
class Rule:
    """What the option of one RPC says."""

    roles: frozenset[str]
    services: frozenset[str]
    public: bool
    party_path: tuple[str, ...]
    # It changes nothing (`is_read`).
    reads_only: bool = False
    # The path of the route names the party: then no field of the request is to blame for it.
    party_in_route: bool = False
    # The services that may pass on a person's call: then the person's rights count.
    passed_on_by: frozenset[str] = frozenset()
    # A call of it is the second person's decision, and a yes unless this field has this value.
    second_person: bool = False
    # A person's call of it only asks.
    two_persons: bool = False
    # No program with an API key calls it.
    persons_only: bool = False
    # What an API key must be good for: `ESCROW_READ`. Empty where the RPC has no route: then nobody but a service calls
    # it, or passes on what was in the key's scopes where it came in.
    scope: str = ""
    no: tuple[str, int] | None = None

    def admits(self, principal: Principal) -> bool:
        """Whether the caller's role, or this very service, may call."""
        if principal.role == SERVICE_ROLE:
            return principal.service in self.services
        return principal.role in self.roles and self._find_refusal_of_key(principal) is None

    def admit(self, principal: Principal) -> None:
        """Raises PermissionDenied, PersonRequired or InsufficientScope unless the caller may call."""
        if self.admits(principal):
            return
        if principal.role == SERVICE_ROLE:
            raise PermissionDenied("This service may not call this.")
        may_not = PermissionDenied("This role may not call this.", roles=sorted(self.roles))
        raise self._find_refusal_of_key(principal) or may_not

    def _find_refusal_of_key(self, principal: Principal) -> PermissionDenied | None:
        """Why a program may not call it with its API key, whatever its role; None for a person."""
        if principal.api_key is None or principal.service:
            return None
        if self.persons_only:
            return PersonRequired("An API key decides nothing: a person has to sign in for this.")
        if self.scope and self.scope not in principal.api_key.scopes:
            return InsufficientScope("The API key does not have the scope for this.", scope=self.scope)
        return None

    def confine(self, principal: Principal, request: Message) -> None:
        """Keeps an investor to its parties: where the request names parties, they are among them.

        Raises:
            PartyNotFound: it is another id, which looks like one that does not exist.
        """
        if not principal.confined or not self.party_path:
            return
        *path, name = self.party_path
        holder = request
        for part in path:
            holder = getattr(holder, part)
        named = getattr(holder, name)
        if not all(principal.may_reach(each) for each in ([named] if isinstance(named, str) else named) if each):
            raise PartyNotFound(None if self.party_in_route else ".".join(self.party_path))

    def check_sign_in(self, principal: Principal, request: Message) -> None:
        """Whether who says yes as the second person is there now: a token of this morning may be in other hands.

        Raises:
            InsufficientUserAuthentication
        """
        if self.second_person and not (self.no and getattr(request, self.no[0]) == self.no[1]):
            check_fresh_sign_in(principal)


def rules_of(services: Iterable[ServiceDescriptor]) -> dict[str, Rule]:
    """Full method path (`/realco.escrow.v1.HoldsService/GetHold`) -> rule.

    Raises:
        BootError: naming every RPC whose option is missing or makes no sense.
    """
    rules: dict[str, Rule] = {}
    faults: list[str] = []
    for service in services:
        for method in service.methods:
            try:
                rules[f"/{service.full_name}/{method.name}"] = _rule(method)
            except ValueError as fault:
                faults.append(f"{method.full_name}: {fault}")
    if faults:
        raise BootError("; ".join(faults))
    return rules


def list_allowed_actions(resource: type[Message], *actions: Action) -> list[str]:
    """The names of the actions that the contract lets the caller call, and that no rule would refuse now.

    Args:
        resource: What they are done with; its package is that of their RPCs.
    """
    principal, offered = current_principal(), (_offer(resource.DESCRIPTOR, rpc) for rpc, _ in actions)
    return [
        name for (rule, name), (_, lets) in zip(offered, actions, strict=True) if rule.admits(principal) and _lets(lets)
    ]


@cache
def _offer(resource: Descriptor, rpc: str) -> tuple[Rule, str]:
    """Who may do it, and what it is called there."""
    return rule_of(f"{resource.file.package}.{rpc}"), name_action(rpc.partition("/")[2], resource.name)


@cache
def name_action(rpc: str, resource: str) -> str:
    """The RPC in snake case without the resource's name: `FreezeEscrowAccount` of an `EscrowAccount` is `freeze`."""
    words, own = (re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in (rpc, resource))
    return f"_{words}_".replace(f"_{own}_", "_", 1).strip("_")


@cache
def rule_of(rpc: str) -> Rule:
    """The rule of one RPC: `realco.escrow.v1.HoldsService/GetHold`."""
    return _rule(descriptor_pool.Default().FindMethodByName(rpc.replace("/", ".")))


def find_rpc(request_type: type[Message]) -> str:
    """The RPC that takes this request, of the services in the same file, as `rule_of` names it."""
    services = request_type.DESCRIPTOR.file.services_by_name.values()
    methods = (method for service in services for method in service.methods)
    method = next(method for method in methods if method.input_type is request_type.DESCRIPTOR)
    return f"{method.containing_service.full_name}/{method.name}"


def _lets(rule: bool | Callable[[], None]) -> bool:
    if isinstance(rule, bool):
        return rule
    try:
        rule()
    except DomainError:
        return False
    return True


def _rule(method: MethodDescriptor) -> Rule:
    options = method.GetOptions()
    option: Any = access_pb2.access  # generated stubs do not say which message it extends
    if not options.HasExtension(option):
        raise ValueError("has no (realco.type.v1.access)")
    access: access_pb2.Access = options.Extensions[option]
    roles = frozenset(access_pb2.Access.Role.Name(role).lower() for role in access.roles)
    services = frozenset(access.services)
    if access.public and (roles or services):
        raise ValueError("is public, and names who may call: one of the two")
    if "role_unspecified" in roles:
        raise ValueError("names ROLE_UNSPECIFIED")
    path = tuple(access.party_field.split(".")) if access.party_field else ()
    if path:
        _check_path(method.input_type, path)
    route: Any = annotations_pb2.http  # as above
    pattern = options.Extensions[route].WhichOneof("pattern")
    four_eyes_option: Any = approval_pb2.four_eyes  # as above
    four_eyes: approval_pb2.FourEyes = options.Extensions[four_eyes_option]
    if (four_eyes.two_persons or four_eyes.waits) and not four_eyes.read_with:
        raise ValueError("does not say with which RPC its approvals are read")
    in_route = bool(path) and f"{{{access.party_field}}}" in getattr(options.Extensions[route], pattern or "get")
    return Rule(
        roles,
        services,
        access.public,
        path,
        reads_only=is_read(method),
        party_in_route=in_route,
        passed_on_by=frozenset(access.passed_on_by),
        second_person=four_eyes.second_person,
        two_persons=four_eyes.two_persons,
        persons_only=access.persons_only or four_eyes.second_person,
        scope=_name_scope(method) if pattern else "",
        no=_find_no(method.input_type, access.says_no) if access.says_no else None,
    )


def is_read(method: MethodDescriptor) -> bool:
    """Whether it changes nothing: REST reaches it by GET or, where it has no route, the contract says so."""
    options: Any = method.GetOptions()
    has_get = options.Extensions[annotations_pb2.http].WhichOneof("pattern") == "get"
    return has_get or bool(options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS)


def is_idempotent(method: MethodDescriptor) -> bool:
    """Whether it has no second effect, whatever the request says."""
    return is_read(method) or bool(method.GetOptions().idempotency_level == MethodOptions.IDEMPOTENT)


def _name_scope(method: MethodDescriptor) -> str:
    """The area that the RPC is in, and whether it writes there."""
    area = method.full_name.split(".")[1]
    return f"{area}_{'read' if is_read(method) else 'write'}".upper()


def _find_no(message: Descriptor, says_no: str) -> tuple[str, int]:
    name, _, value = says_no.partition("=")
    field = message.fields_by_name.get(name)
    if field is None or field.enum_type is None or value not in field.enum_type.values_by_name:
        raise ValueError(f"says_no {says_no} is no value of a field of the request")
    return name, field.enum_type.values_by_name[value].number


def _check_path(message: Descriptor, path: tuple[str, ...]) -> None:
    for depth, name in enumerate(path):
        field = message.fields_by_name.get(name)
        last = depth == len(path) - 1
        wanted = FieldDescriptor.TYPE_STRING if last else FieldDescriptor.TYPE_MESSAGE
        # A list may be filtered by several parties.
        if field is None or field.type != wanted or (field.is_repeated and not last):
            raise ValueError(f"party_field {'.'.join(path)} is no string field of the request")
        if field.message_type is not None:
            message = field.message_type
