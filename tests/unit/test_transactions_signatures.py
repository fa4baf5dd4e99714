"""Which webhooks are genuine: the same table for Stripe's signature and the sandbox bank's."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable

import pytest

from services.transactions.domain.refusals import WebhookSignatureInvalid
from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.providers.sandbox.webhooks import SandboxWebhooks
from services.transactions.providers.stripe.webhooks import StripeWebhooks

SECRET = "whsec_the-secret-of-this-test"
BODY = json.dumps({"id": "evt_1", "type": "payment.settled", "data": {"payment": {"id": "pay_1"}}}).encode()

NO_ID = b'{"type": "x"}'
# Genuine, and still nothing that could be stored, or told from another event.
UNFIT = [
    ("empty id", b'{"id": "", "type": "x"}'),
    ("NUL in the id", b'{"id": "evt_\\u0000", "type": "x"}'),
    ("escape in the type", b'{"id": "evt_1", "type": "\\u001b[2J"}'),
    ("half of a pair", b'{"id": "evt_\\ud800", "type": "x"}'),
    ("long id", b'{"id": "' + b"e" * 256 + b'", "type": "x"}'),
    ("number for an id", b'{"id": 7, "type": "x"}'),
]

Read = Callable[[bytes, str], Awaitable[ProviderEvent]]


def digest(at: int, body: bytes = BODY, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def stripe(secret: str = SECRET) -> Read:
    return StripeWebhooks(secret).read_webhook


def sandbox(secret: str = SECRET) -> Read:
    return SandboxWebhooks(secret).read_webhook


both = pytest.mark.parametrize("provider", [stripe, sandbox])


@both
@pytest.mark.parametrize("age", [0, 290, -290])
async def test_a_genuine_webhook_is_read(provider: Callable[..., Read], age: int) -> None:
    at = int(time.time()) - age
    event = await provider()(BODY, f"t={at},v1={digest(at)}")
    assert (event.event_id, event.event_type) == ("evt_1", "payment.settled")


@both
async def test_any_of_several_signatures_may_match_while_secrets_rotate(provider: Callable[..., Read]) -> None:
    at = int(time.time())
    event = await provider()(BODY, f"t={at},v1={digest(at, secret='old')},v1={digest(at)},v0=x")
    assert event.event_id == "evt_1"


def _now(offset: int = 0) -> int:
    return int(time.time()) + offset


@both
@pytest.mark.parametrize(("name", "body", "header"), [
    ("missing", BODY, lambda: ""),
    ("junk", BODY, lambda: "hello"),
    ("old", BODY, lambda: f"t={_now(-301)},v1={digest(_now(-301))}"),
    ("future", BODY, lambda: f"t={_now(310)},v1={digest(_now(310))}"),
    ("wrong secret", BODY, lambda: f"t={_now()},v1={digest(_now(), secret='other')}"),
    ("changed body", BODY + b" ", lambda: f"t={_now()},v1={digest(_now())}"),
    ("changed time", BODY, lambda: f"t={_now(-1)},v1={digest(_now())}"),
    ("v0 only", BODY, lambda: f"t={_now()},v0={digest(_now())}"),
    ("no time", BODY, lambda: f"v1={digest(_now())}"),
    ("two times", BODY, lambda: f"t={_now()},t={_now()},v1={digest(_now())}"),
    ("not a number", BODY, lambda: f"t=x{_now()},v1={digest(_now())}"),
    ("not ASCII", BODY, lambda: f"t={_now()},v1=é{digest(_now())}"),
    ("empty", b"", lambda: f"t={_now()},v1={digest(_now(), b'')}"),
    ("not JSON", b"{", lambda: f"t={_now()},v1={digest(_now(), b'{')}"),
    ("not UTF-8", b"\xff", lambda: "t=1,v1=00"),
    ("no event", b"[1]", lambda: f"t={_now()},v1={digest(_now(), b'[1]')}"),
    *((f"unfit {name}", text, lambda text=text: f"t={_now()},v1={digest(_now(), text)}") for name, text in UNFIT),
    ("no id", NO_ID, lambda: f"t={_now()},v1={digest(_now(), NO_ID)}"),
])  # fmt: skip
async def test_a_webhook_that_is_not_genuine_is_refused_without_detail(
    provider: Callable[..., Read], name: str, body: bytes, header: Callable[[], str]
) -> None:
    with pytest.raises(WebhookSignatureInvalid) as refusal:
        await provider()(body, header())
    assert refusal.value.message == "The signature is not acceptable."
    assert refusal.value.metadata == {}


@both
async def test_without_a_secret_nothing_is_genuine(provider: Callable[..., Read]) -> None:
    at = int(time.time())
    with pytest.raises(WebhookSignatureInvalid):
        await provider("")(BODY, f"t={at},v1={digest(at, secret='')}")


async def test_the_sandbox_names_the_payment_only_where_the_event_is_about_one() -> None:
    at = int(time.time())
    other = b'{"id": "evt_2", "type": "account.updated", "data": {}}'
    assert (await sandbox()(BODY, f"t={at},v1={digest(at)}")).payment_id == "pay_1"
    assert (await sandbox()(other, f"t={at},v1={digest(at, other)}")).payment_id == ""
