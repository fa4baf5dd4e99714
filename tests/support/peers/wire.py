"""A wire inside one process: channels to servicers, real ones or fakes, on which calls can be cut at a chosen moment.

The clients that services are made with speak over it as over gRPC: messages travel as bytes, the called one hears which
service calls for whom, admits it by the RPC's rule and checks the request by its proto, and a refusal arrives as a
status. Only how an id is spelled is not checked: tests name parties so that a person can read them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import protovalidate
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from grpc import StatusCode, aio
from grpc_status import rpc_status

from services.chassis.calls.access import Rule, rules_of
from services.chassis.calls.answer import answer_metadata, begin_answer
from services.chassis.calls.auth import Principal, acting_as, current_principal, service_principal
from services.chassis.calls.status import to_status
from services.chassis.data.seals import NotSealed
from services.chassis.values.errors import AnswerWithheld, DomainError, InvalidField

_rpc_status: Any = rpc_status  # has no types


class Killed(BaseException):
    """The calling process is gone: nothing after this line happens, not even error handling."""


class Wire:
    """All calls of one service. Each fault is used up by one call of its RPC."""

    def __init__(self, caller: str) -> None:
        self._caller = caller
        self.faults: dict[str, list[str]] = {}
        self.calls: list[tuple[str, Message]] = []
        self.persons: dict[str, str] = {}  # RPC -> for whom it was last called
        self._away: list[object] = []

    def open_channel(self, *servicers: object) -> Any:
        """A channel to a service that consists of these servicers: each may serve only some of its RPCs."""
        return _Channel(self, servicers)

    def fail(self, rpc: str, *how: str) -> None:
        """`lost` before the effect, `unanswered` after it, `killed` and `killed_after`: the caller dies there."""
        self.faults.setdefault(rpc, []).extend(how)

    @contextmanager
    def cut(self, servicer: object) -> Iterator[None]:
        """Whoever answers there cannot be reached inside the block."""
        self._away.append(servicer)
        try:
            yield
        finally:
            self._away.remove(servicer)

    def requests(self, rpc: str) -> list[Any]:
        """What an RPC was asked, in order."""
        return [request for name, request in self.calls if name == rpc]

    async def carry(self, method: str, servicer: object, request: Message) -> tuple[Message, aio.Metadata]:
        """The servicer's answer, and what it says beside it. Raises AioRpcError as a channel does, and Killed."""
        _, service_name, rpc = method.split("/")
        principal = current_principal()
        self.calls.append((rpc, request))
        self.persons[rpc] = principal.person
        faults = self.faults.get(rpc)
        how = faults.pop(0) if faults else ""
        if how == "lost" or any(servicer is one for one in self._away):
            raise _lost()
        if how == "killed":
            raise Killed
        service = descriptor_pool.Default().FindServiceByName(service_name)
        rule = rules_of([service])[method]
        caller = service_principal(self._caller, principal.org_id, on_behalf_of=principal.person)
        if self._caller in rule.passed_on_by and not principal.service:
            caller = principal  # whose own token comes along
        # A server answers in a task of its own: what it notes of its answer is not said of the caller's.
        answer, beside = await asyncio.create_task(_serve(servicer, service_name, rule, caller, rpc, request))
        if how == "unanswered":
            raise _lost()
        if how == "killed_after":
            raise Killed
        return answer, beside


async def _serve(
    servicer: object, service_name: str, rule: Rule, caller: Principal, rpc: str, request: Message
) -> tuple[Message, aio.Metadata]:
    begin_answer()
    with acting_as(caller):
        try:
            rule.admit(caller)
            _check(request)
            # Looked up at each call, for a test may put another handler in its place.
            answer: Message = await getattr(servicer, rpc)(request, None)
        except DomainError as refusal:
            raise _refused(refusal, f"{service_name.split('.')[1]}.realco") from None
        except NotSealed as error:
            withheld = AnswerWithheld(str(error), row=error.row)
            raise _refused(withheld, f"{service_name.split('.')[1]}.realco") from None
    return answer, aio.Metadata(*answer_metadata())


class _Channel:
    """What a generated stub needs of a channel."""

    def __init__(self, wire: Wire, servicers: tuple[object, ...]) -> None:
        self._wire = wire
        self._servicers = servicers

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[[Message], Awaitable[Any]]:
        rpc = method.rsplit("/", 1)[1]

        async def carry(request: Message) -> tuple[Any, aio.Metadata]:
            [servicer] = [each for each in self._servicers if hasattr(each, rpc)]
            sent = type(request).FromString(request_serializer(request))
            answer, beside = await self._wire.carry(method, servicer, sent)
            return response_deserializer(answer.SerializeToString()), beside

        return lambda request: _Call(carry(request))


class _Call:
    """What is awaited for the answer, as a call of gRPC."""

    def __init__(self, carried: Awaitable[tuple[Any, aio.Metadata]]) -> None:
        self._carried = carried
        self._beside = aio.Metadata()

    def __await__(self) -> Generator[Any, None, Any]:
        answer, self._beside = yield from self._carried.__await__()
        return answer

    async def trailing_metadata(self) -> aio.Metadata:
        return self._beside


def _check(request: Message) -> None:
    faults = {}
    for violation in protovalidate.collect_violations(request):
        if violation.proto.rule_id != "string.id" or not violation.field_value:
            faults[".".join(part.field_name for part in violation.proto.field.elements)] = violation.proto.message
    if faults:
        raise InvalidField("The request is not valid.", fields=faults)


def _lost() -> aio.AioRpcError:
    return aio.AioRpcError(StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata(), "the line is dead")


def _refused(refusal: DomainError, domain: str) -> aio.AioRpcError:
    told = _rpc_status.to_status(to_status(refusal, domain))
    beside = aio.Metadata(*told.trailing_metadata, *answer_metadata())
    return aio.AioRpcError(told.code, aio.Metadata(), beside, told.details)
