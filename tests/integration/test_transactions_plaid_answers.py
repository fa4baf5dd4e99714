"""What Plaid answers, or somebody in its place; and how it is set up."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from pydantic import SecretStr

from services.chassis.process.settings import ConfigurationError
from services.transactions.providers.plaid.keys import check_address
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.plaid.webhooks import PlaidWebhooks
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.providers.registry import open_providers
from services.transactions.providers.settings import ProviderSettings
from tests.e2e.providers import Plaid as SignsAsPlaid
from tests.integration.plaid_desk import CLIENT_ID, SECRET, VAULT
from tests.support.payment_orders import an_order
from tests.support.stand_ins import WEBHOOK_SECRET
from tests.support.strangers import answering

pytest_plugins = ("tests.integration.plaid_desk",)


async def test_keys_that_plaid_refuses_and_a_plaid_that_is_away_are_unknown_and_not_failed(
    plaid, plaid_url, plaid_database, plaid_clock
) -> None:
    order = an_order()
    await plaid.submit(order)
    for url, secret in ((plaid_url, "a secret of others"), ("http://127.0.0.1:9", SECRET)):
        adapter = PlaidTransfers(url, CLIENT_ID, secret, plaid_database, plaid_clock, VAULT)
        asked = (adapter.submit(an_order()), adapter.list_payments(order.reference), adapter.get_payment("x"))
        for call in (*asked, adapter.events.list_events("0")):
            with pytest.raises(OutcomeUnknown):
                await call
        await adapter.close()


@pytest.mark.parametrize("payment_id", ["pay_nothing", "../transfer/list", "", "pä", "0" * 300])
async def test_what_is_not_there_and_what_is_no_id_is_no_payment(plaid, payment_id) -> None:
    assert await plaid.get_payment(payment_id) is None


@pytest.mark.parametrize(("status", "body"), [
    (200, b"<html>It works!"),
    (200, b"[]"),
    (200, b"{}"),
    (200, b'{"transfer": null, "request_id": "r"}'),
    (200, b'{"transfer": {"id": 7}, "request_id": "r"}'),
    (302, b""),
    (400, b"no"),
    (400, b'{"error_type": "API_ERROR", "error_code": "PLANNED_MAINTENANCE"}'),
    (404, b"<html>No such page"),
    (429, b'{"error_type": "RATE_LIMIT_EXCEEDED", "error_code": "TRANSFER_LIMIT"}'),
    (500, b"\xff"),
])  # fmt: skip
async def test_an_answer_that_is_not_plaids_proves_nothing(plaid_database, plaid_clock, plaid, status, body) -> None:
    with answering(status, body) as there:
        adapter = PlaidTransfers(there.url, CLIENT_ID, SECRET, plaid_database, plaid_clock, VAULT)
        for call in (adapter.submit(an_order()), adapter.get_payment("x"), adapter.events.list_events("0")):
            with pytest.raises(OutcomeUnknown):
                await call
        await adapter.close()
    assert "/elsewhere" not in there.asked


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("kind", ["INVALID_INPUT", "INVALID_REQUEST", "TRANSFER_ERROR"])
async def test_whatever_plaid_calls_it_an_id_that_it_refuses_is_of_no_transfer(
    plaid_database, plaid_clock, plaid, status, kind
) -> None:
    body = f'{{"error_type": "{kind}", "error_code": "SOME_CODE", "error_message": "no"}}'.encode()
    with answering(status, body) as there:
        adapter = PlaidTransfers(there.url, CLIENT_ID, SECRET, plaid_database, plaid_clock, VAULT)
        assert await adapter.get_payment("x") is None
        with pytest.raises(OutcomeUnknown):
            await adapter.events.list_events("0")
        await adapter.close()


async def test_a_plaid_that_drips_is_not_waited_for(plaid_database, plaid_clock, plaid) -> None:
    stopped = Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not stopped.wait(0.1):
                self.wfile.write(b" ")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        adapter = PlaidTransfers(address, CLIENT_ID, SECRET, plaid_database, plaid_clock, VAULT, timeout_seconds=0.5)
        with pytest.raises(OutcomeUnknown):
            await adapter.get_payment("x")
        stopped.set()
        await adapter.close()
        server.shutdown()


KNOCK = b'{"webhook_type": "TRANSFER", "webhook_code": "TRANSFER_EVENTS_UPDATE"}'


@pytest.mark.parametrize(
    ("body", "secret", "is_knock"),
    [(KNOCK, SECRET, True), (KNOCK, "", False), (KNOCK.replace(b'"TRANSFER"', b'"ITEM"'), SECRET, False)],
    ids=["it says that there are events", "nobody fetches them", "it says something else"],
)
async def test_what_says_that_there_are_events_is_told_apart_by_its_proof(body, secret, is_knock) -> None:
    with SignsAsPlaid().serving() as there:
        reader = PlaidWebhooks(there.url, CLIENT_ID, secret)
        first, second = there.verification(body, age_seconds=7), there.verification(body, age_seconds=7)
        events = [await reader.read_webhook(body, proof) for proof in (first, second, first)]
    assert {each.is_knock for each in events} == {is_knock}
    assert events[0] == events[2]
    if is_knock:
        assert events[0].event_id != events[1].event_id


# --- how it is set up ---


@pytest.mark.parametrize(
    ("address", "is_taken"),
    [
        ("", True),
        ("https://production.plaid.com", True),
        ("http://127.0.0.1:8490", True),
        ("https://stand-in.example", True),
        ("http://stand-in.example", False),
        ("production.plaid.com", False),
    ],
)
def test_the_secret_and_account_numbers_are_sent_in_private_alone(address, is_taken) -> None:
    if is_taken:
        check_address(address)
        return
    with pytest.raises(ConfigurationError, match="PLAID_BASE_URL"):
        check_address(address)


@pytest.mark.parametrize(
    ("address", "client_id", "chosen", "wrong"),
    [
        ("https://sandbox.plaid.com", "c", '{"ACH": {"inbound": "plaid"}}', None),
        ("https://production.plaid.com", "c", '{"ACH": {"inbound": "plaid", "outbound": "plaid"}}', None),
        ("https://production.plaid.com", "c", '{"ACH": {"inbound": "plaid"}}', "the simulator pays nothing"),
        ("https://production.plaid.com", "c", "{}", "the simulator pays nothing"),
        ("", "c", "{}", "missing: PLAID_BASE_URL"),
        ("https://sandbox.plaid.com", "", "{}", "missing: PLAID_CLIENT_ID"),
    ],
)
async def test_real_money_does_not_come_in_beside_a_simulator_that_pays_out(
    tmp_path, address, client_id, chosen, wrong
) -> None:
    file = tmp_path / "providers.json"
    file.write_text(f'{{"all_organizations": {chosen}}}')
    settings = ProviderSettings(
        sandbox_bank_url="http://127.0.0.1:9",
        sandbox_bank_webhook_secret=SecretStr(WEBHOOK_SECRET),
        plaid_base_url=address,
        plaid_client_id=client_id,
        plaid_secret=SecretStr(SECRET),
        payment_providers_file=file,
    )
    if wrong is None:
        async with open_providers(settings, None, None, VAULT) as providers:
            assert set(providers.orders) == {"sandbox", "plaid", "manual"}
        return
    with pytest.raises(ConfigurationError, match=wrong):
        async with open_providers(settings, None, None, VAULT):
            pass
