"""gRPC's health service, which also tells what waits for a person to mend it while the service serves on.

An alarm does not make a service unready: it is about one event or one row, while all the others go on, and whoever
mends it needs the service. The gateway's `/readyz` lists the alarms of all services.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

# What there is to see to, by what it is about. Of a process, shared by all who look.
Alarms = dict[str, str]
# For how long something may fail, or wait, before somebody has to look.
ALARM_SECONDS = 120.0
# In the trailing metadata of an answer about health: a value an alarm.
ALARM_KEY = "realco-alarm"
# What metadata can hold: a few kilobytes of ASCII.
_TOLD_MAX, _LETTERS_MAX = 20, 200

# gRPC's own health package has no types.
_health: Any = health
_Servicer: Any = _health.aio.HealthServicer
_add_servicer: Any = health_pb2_grpc.add_HealthServicer_to_server
_states = health_pb2.HealthCheckResponse


def note_alarm(alarms: Alarms, about: str, found: str) -> str:
    """There is this to see to, or nothing more where `found` is empty. Returns what was found before."""
    before = alarms.pop(about, "")
    if found:
        alarms[about] = found
    return before


def tell_alarms(alarms: Alarms) -> list[str]:
    """The alarms as a line each, as many and as long as metadata holds."""
    told = [ascii(f"{about}: {text}")[1:-1] for about, text in sorted(alarms.items())]
    return [text[:_LETTERS_MAX] for text in told[:_TOLD_MAX]]


class Health(_Servicer):  # type: ignore[misc]
    """Answers for each interface that the server serves, and for the service as a whole, whose name is empty."""

    def __init__(self, grpc_server: aio.Server, interfaces: Sequence[str], alarms: Alarms) -> None:
        super().__init__()
        self._names = ["", *interfaces]
        self._alarms = alarms
        _add_servicer(self, grpc_server)

    async def Check(self, request: Any, context: Any) -> Any:
        context.set_trailing_metadata(tuple((ALARM_KEY, text) for text in tell_alarms(self._alarms)))
        return await super().Check(request, context)

    async def set_all(self, *, ready: bool) -> None:
        for name in self._names:
            await self.set(name, _states.SERVING if ready else _states.NOT_SERVING)
