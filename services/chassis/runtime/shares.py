"""How many of a server's calls each peer has under way: none takes so many that others find no room.

gRPC would count all calls together, and keeps each until its answer has been taken. So whoever has any certificate
could hold them all, by calls whose message does not come or by answers that it never reads. Here each is counted from
when its handler begins until gRPC is done with it, however that ends, by the certificate at the other end of its
connection: every RPC, health and reflection alike.

A peer has at most as many as are still free for all: alone a half, two of them a third each, and so on. One that the
contract does not name as a caller has a seventh of what is free: alone an eighth. What is above is refused, and is not
counted while the refusal goes out: who does not read that either holds nothing by it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from grpc_status import rpc_status

from services.chassis.calls.status import to_status
from services.chassis.process import telemetry
from services.chassis.process.telemetry import log
from services.chassis.runtime.wrapping import Answer, Context, Handler, WrapsOnce, build_handler
from services.chassis.values.refusals import RateLimited
from services.chassis.values.text import connection_name

# It carries the calls of all persons; no option of an RPC names it.
GATEWAY = "gateway"
# Of what is free a peer may have one in so many: one of the house, and any other.
OF_THE_HOUSE, OF_OTHERS = 1, 7
_TELL_SECONDS = 60.0

_rpc_status: Any = rpc_status  # has no types at all


class Shares:
    """Who has how many of so many calls under way."""

    def __init__(self, calls_max: int) -> None:
        self.free = calls_max
        self._held: Counter[str] = Counter()

    def take(self, peer: str, divisor: int) -> bool:
        """Whether the peer may have one more; then it has it, until it is given back."""
        held = self._held[peer]
        if held * divisor >= self.free:
            return False
        self._held[peer] = held + 1
        self.free -= 1
        return True

    def give_back(self, peer: str) -> None:
        self.free += 1
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]

    def held_by(self, peer: str) -> int:
        return self._held[peer]


class ShareInterceptor(WrapsOnce):
    """Counts every call of one server, before any other interceptor.

    Args:
        domain: Names the ErrorInfo domain of a refusal.
        callers: The services that the contract names as callers.
    """

    def __init__(self, calls_max: int, domain: str, callers: Iterable[str]) -> None:
        super().__init__()
        self._shares = Shares(calls_max)
        self._of_the_house = frozenset(connection_name(name) for name in (GATEWAY, *callers))
        self._told_at: dict[str, float] = {}
        refusal = RateLimited(
            "The process that calls has its share of the calls that are answered at once under way: let it read the"
            " answers, or end the calls, and ask again later."
        )
        self._refusal = _rpc_status.to_status(to_status(refusal, domain))

    def wrap(self, method: str, handler: Handler) -> Handler:
        # What comes next takes the messages itself, one or several.
        answer = handler.stream_stream or handler.stream_unary
        return build_handler(handler, self._count(method.removeprefix("/"), answer))

    def _count(self, rpc: str, answer: Answer) -> Answer:
        take, give_back = self._shares.take, self._shares.give_back

        async def call(requests: Any, context: Any) -> Any:  # its type takes no function as a callback
            peer, divisor = self._find_peer(context)
            if not take(peer, divisor):
                self._tell(peer, rpc)
                told = self._refusal
                await context.abort(told.code, told.details, told.trailing_metadata)
            # Called once gRPC has nothing more to do: also after it waited for a window to send the answer in.
            context.add_done_callback(lambda _: give_back(peer))
            return await answer(requests, context)

        return call

    def _find_peer(self, context: Context) -> tuple[str, int]:
        """By what name it is counted, and its part."""
        found = context.auth_context()
        if "x509_pem_cert" not in found:  # not encrypted here: nobody can be told from the callers of the contract
            return context.peer().rpartition(":")[0], OF_THE_HOUSE
        names = [name.decode("utf-8", "replace") for name in found.get("peer_dns") or found.get("x509_subject") or ()]
        known = next((name for name in names if name in self._of_the_house), None)
        return (known, OF_THE_HOUSE) if known else (",".join(names[:1]), OF_OTHERS)

    def _tell(self, peer: str, rpc: str) -> None:
        telemetry.RPCS_ABOVE_SHARE.labels(peer).inc()
        now = time.monotonic()
        if now - self._told_at.get(peer, -_TELL_SECONDS) < _TELL_SECONDS:
            return
        self._told_at = {each: at for each, at in self._told_at.items() if now - at < _TELL_SECONDS} | {peer: now}
        held, free = self._shares.held_by(peer), self._shares.free
        log.warning("calls_above_share", peer=peer, under_way=held, free=free, rpc=rpc)
