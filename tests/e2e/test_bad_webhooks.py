"""A webhook that does not prove its sender is refused without a word why, and nothing of it is stored."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from demo.harness.rest import API
from deploy.local.instance import Instance
from tests.e2e.bad_requests import BadRequest, find_faults
from tests.e2e.digest import digest, digest_when_settled
from tests.e2e.providers import PLAID_KEY_ID, STRIPE_SECRET, Plaid, event, signed

JSON = {"Content-Type": "application/json"}


def _post(instance: Instance, provider: str, body: bytes, headers: Mapping[str, str | bytes]) -> httpx.Response:
    url = f"{instance.base_url}{API}/webhooks/{provider}"
    return httpx.post(url, content=body, headers={**JSON, **headers}, trust_env=False, verify=False)


def _bad_signatures(secret: str, body: bytes) -> dict[str, str]:
    """Of Stripe's scheme, which is the sandbox bank's, too."""
    now, good = int(time.time()), signed(secret, body)
    return {
        "empty": "",
        "a word": "swordfish",
        "without a time": good.split(",")[1],
        "without a digest": good.split(",")[0],
        "with an empty digest": f"t={now},v1=",
        "of two times": f"t={now - 1},{good}",
        "of no number as time": good.replace(f"t={now}", "t=now"),
        "of another body": signed(secret, body + b" "),
        "of another secret": signed("whsec_of_somebody_else", body),
        "of the other time": good.replace(f"t={now}", f"t={now + 1}"),
        "of an older scheme": signed(secret, body, scheme="v0"),
        "old": signed(secret, body, age_seconds=301 + 5),
        "of the future": signed(secret, body, age_seconds=-(301 + 120)),
        "of a day ago": signed(secret, body, age_seconds=86_400),
    }


def _bad_verifications(plaid: Plaid, body: bytes) -> dict[str, str]:
    stranger = ECKey.generate_key("P-256", private=True)
    good = plaid.verification(body)
    header, claims, signature = good.split(".")
    shared = OctKey.import_key("0" * 32)
    hmac_key = jwt.encode({"alg": "HS256", "kid": PLAID_KEY_ID}, {"iat": int(time.time())}, shared, ["HS256"])
    return {
        "empty": "",
        "a word": "swordfish",
        "three dots": "...",
        "unsigned": f"eyJhbGciOiJub25lIiwia2lkIjoicGxhaWQta2V5LTEifQ.{claims}.",
        "HMAC": hmac_key,
        "of another key": plaid.verification(body, key=stranger),
        "of an unknown key": plaid.verification(body, key=stranger, header={"kid": secrets.token_hex(8)}),
        "of another body": plaid.verification(body + b" "),
        "old": plaid.verification(body, age_seconds=301 + 5),
        "of the future": plaid.verification(body, age_seconds=-600),
        "without its signature": f"{header}.{claims}.",
        "with half a signature": f"{header}.{claims}.{signature[:40]}",
    }


def test_a_webhook_without_a_genuine_signature_is_refused_and_not_stored(instance: Instance, plaid: Plaid) -> None:
    sandbox_secret = instance.identity.webhook_secret()
    bodies = {name: event(name, f"evt_{secrets.token_hex(8)}") for name in ("stripe", "plaid", "sandbox")}
    header = {"stripe": "Stripe-Signature", "plaid": "Plaid-Verification", "sandbox": "Sandbox-Signature"}
    bad = {
        "stripe": _bad_signatures(STRIPE_SECRET, bodies["stripe"]),
        "plaid": _bad_verifications(plaid, bodies["plaid"]),
        "sandbox": _bad_signatures(sandbox_secret, bodies["sandbox"]),
    }
    before = digest_when_settled(instance)

    faults = []
    for provider, signatures in bad.items():
        for title, signature in signatures.items():
            answer = _post(instance, provider, bodies[provider], {header[provider]: signature})
            expected = BadRequest(f"{provider}: {title}", 400, "WEBHOOK_SIGNATURE_INVALID", echo=signature)
            faults += find_faults(expected, answer) if signature else _of_none(expected, answer)
        answer = _post(instance, provider, bodies[provider], {})
        faults += _of_none(BadRequest(f"{provider}: none", 400, "WEBHOOK_SIGNATURE_INVALID"), answer)
        # Genuine words in the mouth of another provider.
        others = {header[other]: next(iter(bad[other].values())) for other in bad if other != provider}
        faults += _of_none(BadRequest(f"{provider}: others'", 400), _post(instance, provider, bodies[provider], others))

    assert faults == []
    assert digest(instance) == before


def _of_none(bad: BadRequest, answer: httpx.Response) -> list[str]:
    """No signature at all: refused as a missing header or as a signature that is not genuine."""
    known = ("INVALID_FIELD", "WEBHOOK_SIGNATURE_INVALID")
    if answer.status_code == 400 and answer.json()["code"] in known:
        return []
    return [f"{bad.title}: {answer.status_code} {answer.text}"]


@pytest.mark.parametrize("provider", ["stripe", "sandbox"])
def test_what_a_genuine_signature_covers_must_be_an_event(instance: Instance, provider: str) -> None:
    secret = STRIPE_SECRET if provider == "stripe" else instance.identity.webhook_secret()
    before = digest_when_settled(instance)
    no_events = (b"", b"{}", b"[]", b"null", b'{"id": 1, "type": 2}', b"\xff\xfe", b'{"id": "x"}', b"not json")
    unfit = (
        b'{"id": "", "type": "x"}',
        b'{"id": "e\\u0000", "type": "x"}',
        b'{"id": "%s", "type": "x"}' % (b"e" * 256),
    )
    for body in (*no_events, *unfit):
        headers = {f"{provider.title()}-Signature": signed(secret, body)}

        answer = _post(instance, provider, body, headers)

        assert answer.status_code == 400, (body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert digest(instance) == before


@pytest.mark.parametrize("provider", ["stripe", "plaid", "sandbox"])
def test_an_endless_webhook_is_refused_unread(instance: Instance, provider: str) -> None:
    answer = _post(instance, provider, b"x" * 300_000, {})

    assert find_faults(BadRequest("endless", 413, "PAYLOAD_TOO_LARGE"), answer) == []


def test_the_same_event_twice_is_stored_once(instance: Instance) -> None:
    body = event("stripe", f"evt_{secrets.token_hex(8)}")
    answers = [
        _post(instance, "stripe", body, {"Stripe-Signature": signed(STRIPE_SECRET, body, age_seconds=age)}).json()
        for age in (2, 1)
    ]

    assert [answer["replayed"] for answer in answers] == [False, True]
    assert len({answer["webhookId"] for answer in answers}) == 1
