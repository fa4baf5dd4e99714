"""Who may say and hear what on NATS: one allow-list of subjects per user, nothing by default.

- A service publishes events of its own area only, so no other service can be believed to have spoken for it.
- A service reads and acknowledges through its own durable consumers only, so none can swallow another's messages.
- Only the provisioner makes or changes streams and durable consumers.
- `subscriber` reads: the docs' and the demo's user. It may listen, and replay through ordered consumers of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SERVICES = ("transactions", "escrow", "distributions", "compliance")
STREAMS = tuple(service.upper() for service in SERVICES)
USERS = (*SERVICES, "provisioner", "subscriber")
ANY_DURABLE = ("*",)


@dataclass(frozen=True)
class Permissions:
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def permissions(durables: Mapping[str, Sequence[str]] | None) -> dict[str, Permissions]:
    """By user. `durables`: the names of each service's durable consumers.

    None is for tests: each service may use any, and the provisioner may do everything.
    """
    by_user = {
        service: _service(service, ANY_DURABLE if durables is None else durables.get(service, ()))
        for service in SERVICES
    }
    anything = durables is None
    by_user["provisioner"] = Permissions((">",) if anything else ("$JS.API.>",), (">",) if anything else ("_INBOX.>",))
    by_user["subscriber"] = _subscriber()
    return by_user


def _service(service: str, durables: Sequence[str]) -> Permissions:
    publish = [f"realco.{service}.v1.>", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.*"]
    for durable in durables:
        publish += [
            f"realco.dead_letters.{durable}",
            f"$JS.API.CONSUMER.INFO.*.{durable}",
            f"$JS.API.CONSUMER.MSG.NEXT.*.{durable}",
            f"$JS.ACK.*.{durable}.>",
        ]
    return Permissions(tuple(publish), ("_INBOX.>",))


def _subscriber() -> Permissions:
    publish = ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.FC.>"]
    for stream in STREAMS:
        # The subject without a consumer's name makes consumers that nobody named and that end with their reader:
        # with a name in it one could rewrite a service's durable.
        publish += [f"$JS.API.STREAM.INFO.{stream}", f"$JS.API.CONSUMER.CREATE.{stream}"]
    return Permissions(tuple(publish), ("_INBOX.>", *(f"realco.{service}.v1.>" for service in SERVICES)))
