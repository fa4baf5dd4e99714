"""Every call goes through here: ids, deadline, caller, access, shape; then its handler. Every failure has one mapper.

A caller sees a DomainError as it was raised. It sees a database or peer that is away as UNAVAILABLE, time that ran
out as DEADLINE_EXCEEDED, and anything else as INTERNAL with an id that finds the log line and tells nothing.
One line is logged for a call, without its body.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from services.chassis.calls import validation
from services.chassis.calls.access import Rule, rules_of
from services.chassis.calls.answer import answer_metadata, begin_answer, void_etags
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.calls.certificates import Certificates, is_connection_of
from services.chassis.calls.client import ACTOR_TOKEN
from services.chassis.calls.deadline import set_deadline
from services.chassis.calls.grants import Grants, merge_grants
from services.chassis.calls.issuers import not_acceptable
from services.chassis.calls.parties import Callers, NoParties, Parties
from services.chassis.calls.peers import from_rpc_error
from services.chassis.calls.restore_gate import RestoreGate
from services.chassis.calls.status import status_of, to_status
from services.chassis.calls.tokens import Verifier
from services.chassis.data.database_errors import is_too_large, is_transient, sqlstate
from services.chassis.data.seals import NotSealed
from services.chassis.process import telemetry
from services.chassis.process.telemetry import log
from services.chassis.runtime.infrastructure import PREFIXES, Infrastructure, receive
from services.chassis.runtime.shares import ShareInterceptor
from services.chassis.runtime.wrapping import Answer, Context, Handler, WrapsOnce, build_handler
from services.chassis.spelling.visibility import withhold
from services.chassis.values.errors import (
    AnswerWithheld,
    BootError,
    Bug,
    DomainError,
    PermissionDenied,
    Unauthenticated,
)
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import RateLimited, SumTooLarge

DEADLINE_SECONDS_DEFAULT = 10.0
DEADLINE_SECONDS_MAX = 60.0
# A certificate is looked at when a connection begins: none outlives one that has expired by much more.
_CONNECTION_SECONDS_MAX = 3600.0
_RECEIVE_BYTES_MAX = 4 * 1024 * 1024
# Open at once, of one caller: each holds one of all the calls that the server answers at once.
STREAMS_MAX = 32
_QUERY_CANCELLED = "57014"

_rpc_status: Any = rpc_status  # has no types at all


class Interceptor(WrapsOnce):
    """Wraps every RPC of the given services.

    Args:
        area: Names the ErrorInfo domain, `<area>.realco`.
        parties: Tells for whom an investor acts.
        grants: What services may call beside those that the contract names.
        gate: Keeps other services from records that were restored; always open where there is none.

    Raises:
        BootError: an RPC has no access rule, or has a stream on one side only.
        ConfigurationError: there is no such RPC to grant.
    """

    def __init__(
        self,
        area: str,
        verifier: Verifier,
        services: Sequence[ServiceDescriptor],
        parties: Parties | None = None,
        grants: Grants | None = None,
        gate: RestoreGate | None = None,
    ) -> None:
        super().__init__()
        self.domain = f"{area}.realco"
        self._verifier = verifier
        self._callers = Callers(parties or NoParties())
        rules = rules_of(services)
        self._rules = merge_grants(rules, grants or {})
        # The services that the contract names as callers: not those that were granted something where it is deployed.
        self.callers = frozenset(name for rule in rules.values() for name in rule.services | rule.passed_on_by)
        self._gate = gate or RestoreGate()
        self._infrastructure = Infrastructure()
        self._streams: Counter[str] = Counter()  # by caller, in whatever organization
        self.in_flight = 0
        # Set while no call is being answered.
        self.idle = asyncio.Event()
        self.idle.set()
        for service in services:
            for method in service.methods:
                if method.client_streaming != method.server_streaming:
                    raise BootError(f"{method.full_name}: a stream has one on either side")
            validation.warm_up([GetMessageClass(method.input_type) for method in service.methods])

    def wrap(self, method: str, handler: Handler) -> Handler:
        if method.startswith(PREFIXES):
            return self._infrastructure.wrap(handler)
        rule = self._rules.get(method)
        if rule is None:  # a servicer was added without its descriptor
            raise BootError(f"{method}: has no access rule")
        answer = self._answer_stream if handler.response_streaming else self._answer
        return build_handler(handler, self._guard(method, partial(answer, rule=rule, handler=handler)))

    def _guard(self, method: str, answer: Answer) -> Answer:
        rpc = method.removeprefix("/")
        seconds = telemetry.RPC_SECONDS.labels(rpc)

        async def call(requests: Any, context: Context) -> Any:
            started = time.perf_counter()
            self.in_flight += 1
            self.idle.clear()
            code = "OK"
            refusal: dict[str, str] = {}
            begin_answer()
            try:
                response = await answer(requests, context)
                context.set_trailing_metadata(answer_metadata())
                return response
            except asyncio.CancelledError:
                code = "CANCELLED"
                if context.cancelled() or context.done():  # nobody is listening any more
                    raise
                await self._abort(context, self.status_for(asyncio.CancelledError(), rpc))
            except Exception as error:  # the one mapper: no failure leaves by another way
                status = self.status_for(error, rpc)
                code = code_pb2.Code.Name(status.code)
                refusal = {"reason": error.reason} if isinstance(error, DomainError) else {}
                await self._abort(context, status)
            finally:
                self.in_flight -= 1
                if self.in_flight == 0:
                    self.idle.set()
                elapsed = time.perf_counter() - started
                seconds.observe(elapsed)
                telemetry.RPCS.labels(rpc, code).inc()
                log.info("rpc", rpc=rpc, code=code, **refusal, duration_ms=round(elapsed * 1000, 2))
                if code != "OK":
                    telemetry.write_lines()

        return call

    async def _answer(self, _requests: Any, context: Context, rule: Rule, handler: Handler) -> Any:
        metadata, in_time = self._begin(context)
        async with in_time:
            if rule.public:
                return await handler.unary_unary(self._request(await receive(context), handler), context)
            principal = await self._admit(metadata, rule, context)
            with acting_as(principal):
                request = self._check(await receive(context), principal, rule, handler)
                answer = await handler.unary_unary(request, context)
                withhold(answer, principal, request)
                if getattr(request, "validate_only", False):
                    void_etags(answer)
                return answer

    async def _answer_stream(
        self, requests: AsyncIterable[bytes], context: Context, rule: Rule, handler: Handler
    ) -> None:
        """One call, with its one deadline: whoever lost the right to it meanwhile has a minute at most."""
        metadata, in_time = self._begin(context)
        async with in_time:
            principal = await self._admit(metadata, rule, context)
            with acting_as(principal), self._hold_stream(principal):
                checked = (self._check(raw, principal, rule, handler) async for raw in requests)
                async for answer in handler.stream_stream(checked, context):
                    withhold(answer, principal)
                    await context.write(answer)
        begin_answer()  # what was noted is said of each answer, by itself

    @contextmanager
    def _hold_stream(self, principal: Principal) -> Iterator[None]:
        """Raises: RateLimited."""
        caller = principal.subject
        if self._streams[caller] >= STREAMS_MAX:
            raise RateLimited(f"One caller has {STREAMS_MAX} streams open at once at most.")
        self._streams[caller] += 1
        try:
            yield
        finally:
            self._streams[caller] -= 1
            if not self._streams[caller]:
                del self._streams[caller]

    def _begin(self, context: Context) -> tuple[dict[str, str], asyncio.Timeout]:
        """The metadata of a call, and the time it has."""
        metadata = _texts(context.invocation_metadata())
        # This call has a task, and so context variables, of its own: nothing is left behind for the next.
        telemetry.continue_trace(metadata.get("traceparent"), metadata.get("x-request-id"))
        remaining = context.time_remaining()
        seconds = DEADLINE_SECONDS_DEFAULT if remaining is None else min(remaining, DEADLINE_SECONDS_MAX)
        set_deadline(seconds)
        return metadata, asyncio.timeout(seconds)

    async def _admit(self, metadata: Mapping[str, str], rule: Rule, context: Context) -> Principal:
        """Who calls, may, and is answered now."""
        principal = await self._identify(metadata, rule, context)
        telemetry.bind(principal=principal.subject, org=principal.org_id, actor=principal.person)
        rule.admit(principal)
        self._gate.admit(principal)
        return await self._callers.find(principal, reads_only=rule.reads_only)

    def _check(self, raw: bytes, principal: Principal, rule: Rule, handler: Handler) -> Message:
        """What they ask for, if it is theirs to ask and well formed."""
        message = validation.parse(raw, handler.request_deserializer)
        rule.confine(principal, message)
        rule.check_sign_in(principal, message)
        validation.validate(message)
        return message

    async def _identify(self, metadata: Mapping[str, str], rule: Rule, context: Context) -> Principal:
        """Who calls: a person, a service, or a person whose call a service passes on with the person's own token."""
        principal = await self._verifier.verify(
            _bearer(metadata),
            org_id=metadata.get("x-realco-org"),
            on_behalf_of=metadata.get("x-realco-on-behalf-of-bin"),
        )
        if principal.service and not is_connection_of(principal.service, context.auth_context()):
            log.warning("token_of_another_process", principal=principal.subject, peer=context.peer())
            raise not_acceptable()
        token = metadata.get(ACTOR_TOKEN)
        if token is None:
            if not principal.service and not rule.scope:  # nobody asked what the caller's own request was
                raise PermissionDenied("Only a service calls what has no route, and passes on who asked for it.")
            return principal
        actor = await self._verifier.verify_actor(principal, token)
        if principal.service in rule.passed_on_by:
            return actor
        return principal.for_person(actor)

    def _request(self, raw: bytes, handler: Handler) -> Message:
        message = validation.parse(raw, handler.request_deserializer)
        validation.validate(message)
        return message

    def status_for(self, error: BaseException, rpc: str) -> status_pb2.Status:
        """What the caller is told of a failure."""
        if isinstance(error, aio.AioRpcError):
            error = from_rpc_error(error)
        if isinstance(error, DomainError):
            return to_status(error, self.domain)
        if isinstance(error, asyncio.CancelledError):
            return self._plain("CANCELLED", "The call was cancelled before there was an answer.")
        if isinstance(error, TimeoutError) or sqlstate(error) == _QUERY_CANCELLED:
            return self._plain("DEADLINE_EXCEEDED", "Time ran out; ask again with the same idempotency_key.")
        if is_transient(error):
            log.warning("not_available", rpc=rpc, error=type(error).__name__, sqlstate=sqlstate(error))
            return self._plain("UNAVAILABLE", "Try again with the same idempotency_key.", retry_after_seconds=1)
        if is_too_large(error):
            return to_status(SumTooLarge(), self.domain)
        if isinstance(error, NotSealed):
            return status_of(
                "UNAVAILABLE",
                AnswerWithheld.reason,
                f"{error}. An operator has to put it right. Look whether it was done before you ask for it anew.",
                self.domain,
                metadata={"row": error.row},
                retry_after_seconds=AnswerWithheld.retry_after_seconds,
            )
        if isinstance(error, NotImplementedError):
            return self._plain("UNIMPLEMENTED", "This service does not do that.")
        error_id = new_id("err")
        log.error("internal_error", rpc=rpc, error_id=error_id, exc_info=error)
        return to_status(Bug(error_id), self.domain)

    def _plain(self, code: str, message: str, **details: Any) -> status_pb2.Status:
        return status_of(code, code, message, self.domain, **details)

    async def _abort(self, context: Context, status: status_pb2.Status) -> None:
        told = _rpc_status.to_status(status)
        await context.abort(told.code, told.details, (*told.trailing_metadata, *answer_metadata()))


def _texts(metadata: Any) -> dict[str, str]:
    """A key that comes twice has both values, as gRPC says: so two tokens are no token, rather than one of them."""
    texts: dict[str, str] = {}
    for key, value in metadata or ():
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        texts[key] = f"{texts[key]},{text}" if key in texts else text
    return texts


def _bearer(metadata: Mapping[str, str]) -> str:
    scheme, _, token = metadata.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("A bearer token is needed.")
    return token


def build(
    interceptor: Interceptor, concurrent_rpcs_max: int, connection_seconds_max: float = _CONNECTION_SECONDS_MAX
) -> aio.Server:
    """A server with limits: what exceeds them is refused at once instead of queued."""
    return aio.server(
        # gRPC's own limit is of all peers together, and would be reached by one of them alone.
        interceptors=[ShareInterceptor(concurrent_rpcs_max, interceptor.domain, interceptor.callers), interceptor],
        options=[
            # Of one connection, with those whose refusal it does not read: a peer's share is less.
            ("grpc.max_concurrent_streams", 2 * concurrent_rpcs_max),
            ("grpc.max_receive_message_length", _RECEIVE_BYTES_MAX),
            ("grpc.max_metadata_size", 16 * 1024),
            ("grpc.so_reuseport", 0),  # two services on one port by mistake must not share its calls
            ("grpc.max_connection_age_ms", int(connection_seconds_max * 1000)),
            ("grpc.max_connection_age_grace_ms", int(DEADLINE_SECONDS_MAX * 1000)),
        ],
    )


def bind(running: aio.Server, address: str, certificates: Certificates | None) -> int:
    """The port in use; 0 where it cannot be had. Without certificates, connections are not encrypted here."""
    try:
        if certificates is None:
            return running.add_insecure_port(address)
        return running.add_secure_port(address, certificates.to_server())
    except RuntimeError:
        return 0
