"""The sandbox bank as a process: HTTP in, signed webhooks out, time from the clock file, kill -9 in between."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from sandbox.signature import SIGNATURE_HEADER, verify

ROOT = Path(__file__).parents[2]
SECRET = "the-secret-of-this-test"
ACCOUNT = "0001111111"
MONDAY = datetime(2024, 12, 2, 12, tzinfo=UTC)


def eventually(probe: Callable[[], bool], limit_seconds: float = 10) -> None:
    """Polls until `probe` is true; fails when it is not within the limit."""
    deadline = time.monotonic() + limit_seconds
    while not probe():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


class Receiver:
    """A webhook endpoint that keeps what it is sent, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.refused = 0
        self.events: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                genuine = verify(SECRET, self.headers[SIGNATURE_HEADER], body, int(time.time()))
                status = receiver.status if genuine else 400
                if status == 200:
                    receiver.events.append(json.loads(body))
                else:
                    receiver.refused += 1
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, payment_id: str) -> list[dict[str, Any]]:
        return [event for event in list(self.events) if event["data"]["payment"]["id"] == payment_id]

    def types(self, payment_id: str) -> list[str]:
        return [event["type"] for event in self.of(payment_id)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class BankProcess:
    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self._clock_file = folder / "clock.json"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._environment = os.environ | {
            "SANDBOX_BANK_PORT": str(port),
            "SANDBOX_BANK_DATABASE": str(folder / "bank.sqlite"),
            "SANDBOX_BANK_WEBHOOK_URL": receiver.url,
            "SANDBOX_BANK_WEBHOOK_SECRET": SECRET,
            "CLOCK_FILE": str(self._clock_file),
        }
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=5)
        self.reference = "txn_1"
        self.travel(MONDAY)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "sandbox.bank"], cwd=ROOT, env=self._environment)
        eventually(self._is_up)

    def stop(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return self._process.wait(10)

    def travel(self, to: datetime) -> None:
        offset = math.ceil((to - datetime.now(UTC)).total_seconds())
        fresh = self._clock_file.with_suffix(".new")
        fresh.write_text(json.dumps({"offset_seconds": offset}))
        fresh.replace(self._clock_file)

    def pay(
        self, suffix: str, *, key: str | None = None, timeout_seconds: float = 5, **fields: object
    ) -> httpx.Response:
        order: dict[str, object] = {
            "direction": "debit",
            "amount_minor": 100_000_00,
            "currency": "USD",
            "method": "ach",
            "routing_number": "021000021",
            "account_number": ACCOUNT + suffix,
            "account_holder_name": "Ada Investor",
            "reference": self.reference,
            "presentment": 1,
            "description": "CONTRIBUTION",
        }
        headers = {"Idempotency-Key": f"{self.reference}:{key or uuid4()}"}
        return self.client.post("/v1/payments", json=order | fields, headers=headers, timeout=timeout_seconds)

    def payment(self, payment_id: str) -> dict[str, Any]:
        payment: dict[str, Any] = self.client.get(f"/v1/payments/{payment_id}").raise_for_status().json()
        return payment

    def becomes(self, payment_id: str, status: str) -> dict[str, Any]:
        eventually(lambda: self.payment(payment_id)["status"] == status)
        return self.payment(payment_id)

    def found(self) -> list[dict[str, Any]]:
        """What the bank has under this test's reference."""
        answer = self.client.get("/v1/payments", params={"reference": self.reference})
        payments: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return payments

    def close(self) -> None:
        self.client.close()
        if self._process.poll() is None:
            self.stop(signal.SIGKILL)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, "the bank died at start"
        try:
            return self.client.get("/healthz").is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def running_bank(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[BankProcess]:
    bank = BankProcess(tmp_path_factory.mktemp("bank"), receiver)
    yield bank
    bank.close()


@pytest.fixture
def bank(running_bank: BankProcess) -> BankProcess:
    """The one bank of these tests: each has its own reference and keys and starts on the same Monday."""
    running_bank.reference = f"txn_{uuid4()}"
    running_bank.travel(MONDAY)
    return running_bank


def test_a_payment_settles_at_once_and_the_webhook_says_so(bank: BankProcess, receiver: Receiver) -> None:
    answer = bank.pay("01")
    payment = answer.json()
    assert (answer.status_code, payment["status"], payment["account_last4"]) == (201, "pending", "1101")
    eventually(lambda: sorted(receiver.types(payment["id"])) == ["payment.pending", "payment.settled"])
    [settled] = [event for event in receiver.of(payment["id"]) if event["type"] == "payment.settled"]
    assert settled["data"]["payment"] == bank.payment(payment["id"])
    assert settled["created"].startswith("2024-12-02T12")


def test_a_delayed_payment_settles_when_the_clock_reaches_its_banking_day(bank: BankProcess) -> None:
    payment_id = bank.pay("02").json()["id"]
    bank.travel(datetime(2024, 12, 3, 23, tzinfo=UTC))
    probe = bank.pay("01").json()["id"]
    bank.becomes(probe, "settled")  # the bank has seen the new time and still waits
    assert bank.payment(payment_id)["status"] == "pending"
    bank.travel(datetime(2024, 12, 4, 0, 1, tzinfo=UTC))
    assert bank.becomes(payment_id, "settled")["expected_settlement_date"] == "2024-12-04"


def test_a_debit_comes_back_r01_and_its_re_presentment_settles(bank: BankProcess, receiver: Receiver) -> None:
    first = bank.pay("03").json()["id"]
    bank.travel(MONDAY + timedelta(days=1))
    returned = bank.becomes(first, "returned")
    assert (returned["return_code"], returned["failure_reason"]) == ("R01", "insufficient funds")
    second = bank.pay("03", presentment=2, description="RETRY PYMT").json()["id"]
    bank.travel(MONDAY + timedelta(days=2))
    bank.becomes(second, "settled")
    eventually(lambda: "payment.returned" in receiver.types(first) and "payment.settled" in receiver.types(second))
    assert [(p["id"], p["presentment"]) for p in bank.found()] == [(second, 2), (first, 1)]


def test_a_payout_fails_and_says_why(bank: BankProcess, receiver: Receiver) -> None:
    payment_id = bank.pay("60", direction="credit").json()["id"]
    failed = bank.becomes(payment_id, "failed")
    assert (failed["return_code"], failed["failure_reason"]) == ("R03", "no account, or the holder cannot be located")
    eventually(lambda: "payment.failed" in receiver.types(payment_id))


def test_a_late_return_undoes_a_settled_debit_on_the_statement(bank: BankProcess) -> None:
    payment_id = bank.pay("10", amount_minor=5_00).json()["id"]
    bank.becomes(payment_id, "settled")
    bank.travel(MONDAY + timedelta(days=31))
    assert bank.payment(payment_id)["return_code"] == "R10"  # at once: a bank knows what day it is
    statement = bank.client.get("/v1/statement", params={"from": "2024-12-01", "to": "2025-01-31"}).json()
    lines = [line for line in statement["movements"] if line["payment_id"] == payment_id]
    assert [(line["booked_on"], line["kind"], line["amount_minor"]) for line in lines] == [
        ("2024-12-02", "settlement", 5_00),
        ("2025-01-01", "return", -5_00),
    ]
    moved = sum(line["amount_minor"] for line in statement["movements"])
    assert statement["opening_balance_minor"] + moved == statement["closing_balance_minor"]


def test_one_key_is_one_payment_however_often_it_is_sent(bank: BankProcess) -> None:
    first, again = bank.pay("02", key="key-1"), bank.pay("02", key="key-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    assert again.headers["Idempotent-Replayed"] == "true"
    other = bank.pay("02", key="key-1", amount_minor=1)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert len(bank.found()) == 1


def test_a_payment_is_cancelled_before_it_leaves_and_not_after(bank: BankProcess, receiver: Receiver) -> None:
    early, late = bank.pay("02").json()["id"], bank.pay("02").json()["id"]
    assert bank.client.post(f"/v1/payments/{early}/cancel").json()["status"] == "cancelled"
    bank.travel(MONDAY + timedelta(days=1))
    refusal = bank.client.post(f"/v1/payments/{late}/cancel")
    assert (refusal.status_code, refusal.json()["code"]) == (409, "not_cancellable")
    assert bank.client.post("/v1/payments/pay_unknown/cancel").status_code == 404
    eventually(lambda: "payment.cancelled" in receiver.types(early))


@pytest.mark.parametrize(
    ("suffix", "statuses"),
    [
        ("90", [500, 200]),
        ("92", [429, 429, 201]),
        ("93", [422, 422]),
        ("94", [503, 201]),
    ],
)
def test_a_bank_in_trouble_answers_badly_and_still_pays_once(
    bank: BankProcess, suffix: str, statuses: list[int]
) -> None:
    answers = [bank.pay(suffix, key="key-1") for _ in statuses]
    assert [answer.status_code for answer in answers] == statuses
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code in {429, 503})
    assert len(bank.found()) == (0 if suffix == "93" else 1)


def test_a_reply_that_never_comes_can_be_asked_for_again(bank: BankProcess) -> None:
    with pytest.raises(httpx.ReadTimeout):
        bank.pay("91", key="key-1", timeout_seconds=0.5)
    assert bank.pay("91", key="key-1").status_code == 200
    assert len(bank.found()) == 1


def test_a_reply_can_be_junk_or_wrong_by_a_cent_while_a_get_tells_the_truth(bank: BankProcess) -> None:
    with pytest.raises(json.JSONDecodeError):
        bank.pay("96").json()
    wrong = bank.pay("97").json()
    assert wrong["amount_minor"] == 100_000_01
    assert bank.payment(wrong["id"])["amount_minor"] == 100_000_00


@pytest.mark.parametrize(
    ("fields", "blamed"),
    [
        ({"amount_minor": 0}, "amount_minor"),
        ({"amount_minor": -1}, "amount_minor"),
        ({"amount_minor": 1.5}, "amount_minor"),
        ({"amount_minor": 1.0}, "amount_minor"),
        ({"amount_minor": "100"}, "amount_minor"),
        ({"amount_minor": True}, "amount_minor"),
        ({"amount_minor": 10**40}, "amount_minor"),
        ({"amount_minor": 10**10}, "amount_minor"),
        ({"currency": "EUR"}, "currency"),
        ({"direction": "sideways"}, "direction"),
        ({"method": "pigeon"}, "method"),
        ({"method": "wire"}, "method"),
        ({"routing_number": "021000022"}, "routing_number"),
        ({"account_number": "12x4"}, "account_number"),
        ({"account_number": "1234\n"}, "account_number"),
        ({"account_holder_name": ""}, "account_holder_name"),
        ({"account_holder_name": "a\x00b"}, "account_holder_name"),
        ({"reference": None}, "reference"),
        ({"presentment": 4}, "presentment"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_field_is_refused_by_name_and_not_echoed(bank: BankProcess, fields: dict[str, Any], blamed: str) -> None:
    answer = bank.pay("01", **fields)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [blamed]
    assert "021000022" not in answer.text
    assert "12x4" not in answer.text
    assert bank.found() == []


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/payments", b"", 400),
        ("POST", "/v1/payments", b"[]", 400),
        ("POST", "/v1/payments", b"\xff", 400),
        ("POST", "/v1/payments", b'{"amount_minor": NaN}', 400),
        ("POST", "/v1/payments", b"[" * 10_000, 400),
        ("POST", "/v1/payments", b" " * 70_000, 413),
        ("PUT", "/v1/payments", b"", 405),
        ("GET", "/v1/payments/pay_none", b"", 404),
        ("GET", "/v1/nothing", b"", 404),
        ("GET", "/v1/payments?limit=0", b"", 400),
        ("GET", "/v1/payments?limit=99999999999", b"", 400),
        ("GET", "/v1/payments?limit=x", b"", 400),
        ("GET", "/v1/statement", b"", 400),
        ("GET", "/v1/statement?from=2024-02-30&to=2024-03-01", b"", 400),
        ("GET", "/v1/statement?from=2024-03-02&to=2024-03-01", b"", 400),
    ],
)
def test_a_bad_request_gets_its_refusal(bank: BankProcess, method: str, path: str, content: bytes, status: int) -> None:
    answer = bank.client.request(method, path, content=content, headers={"Idempotency-Key": "k"})
    assert answer.status_code == status
    assert set(answer.json()) == {"code", "message", "errors"}


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9"])
def test_an_order_needs_a_proper_idempotency_key(bank: BankProcess, key: str) -> None:
    answer = bank.client.post("/v1/payments", json={}, headers=[(b"Idempotency-Key", key.encode("latin-1"))])
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


def test_kill_9_loses_no_payment_no_timer_no_key_and_no_event(bank: BankProcess, receiver: Receiver) -> None:
    receiver.status = 503
    keys = [f"key-{number}" for number in range(20)]
    payments = [bank.pay("02", key=key).json() for key in keys]
    eventually(lambda: receiver.refused > 0)
    bank.stop(signal.SIGKILL)

    bank.start()
    assert [bank.pay("02", key=key).json() for key in keys] == payments
    bank.travel(MONDAY + timedelta(days=2))
    for payment in payments:
        bank.becomes(payment["id"], "settled")
    bank.stop(signal.SIGKILL)

    receiver.status = 200
    bank.start()
    both = {"payment.pending", "payment.settled"}
    eventually(lambda: all(set(receiver.types(payment["id"])) == both for payment in payments), 40)
    statement = bank.client.get("/v1/statement", params={"from": "2024-12-04", "to": "2024-12-04"}).json()
    booked = [line["payment_id"] for line in statement["movements"] if line["reference"] == bank.reference]
    assert sorted(booked) == sorted(payment["id"] for payment in payments)


def test_an_unruly_account_reports_twice_and_out_of_order(bank: BankProcess, receiver: Receiver) -> None:
    payment_id = bank.pay("95").json()["id"]
    eventually(lambda: len(receiver.types(payment_id)) == 4)
    assert receiver.types(payment_id)[0] == "payment.settled"
    assert sorted(receiver.types(payment_id)) == ["payment.pending"] * 2 + ["payment.settled"] * 2
    assert len({event["id"] for event in receiver.of(payment_id)}) == 2


def test_the_test_values_are_served(bank: BankProcess) -> None:
    values = bank.client.get("/v1/test-values").json()
    assert values["routing_number"] == "021000021"
    assert values["data"][0]["account_number"] == "000111111101"


def test_a_polite_stop_ends_with_status_0_even_while_a_reply_hangs(bank: BankProcess) -> None:
    with pytest.raises(httpx.ReadTimeout):
        bank.pay("91", timeout_seconds=0.5)
    assert bank.stop(signal.SIGTERM) == 0
    bank.start()
