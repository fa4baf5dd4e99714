"""Starts the stand-in for Stripe: `python -m sandbox.stripe`. The only wiring."""

from __future__ import annotations

from sandbox.serving import build_server, move_payments, run, serve
from sandbox.signature import build_signer
from sandbox.store import Store
from sandbox.stripe.answers import ANSWERS, Answers
from sandbox.stripe.api import Api
from sandbox.stripe.books import OBJECTS, Books
from sandbox.stripe.card_desk import CardDesk
from sandbox.stripe.clock import Clock
from sandbox.stripe.desk import Desk
from sandbox.stripe.fees import Balance
from sandbox.stripe.payouts import PayoutDesk
from sandbox.stripe.settings import Settings
from sandbox.stripe.setup_desk import SetupDesk
from sandbox.webhooks import Deliveries

SIGNATURE_HEADER = "Stripe-Signature"


async def main(settings: Settings) -> None:
    store = Store(settings.sandbox_stripe_database, OBJECTS + ANSWERS)
    base_url = f"http://{settings.bind_host}:{settings.sandbox_stripe_port}"
    key_lifetime_ms = settings.sandbox_stripe_key_lifetime_hours * 3_600_000
    books, settle_ms = Books(store), settings.sandbox_stripe_settle_ms
    balance = Balance(books, is_billed=settings.sandbox_stripe_fees == "billed")
    setups = SetupDesk(books, base_url)
    desk = Desk(books, balance, setups, base_url, settle_ms)
    cards = CardDesk(books, balance, base_url, settle_ms)
    payouts = PayoutDesk(books, balance, settle_ms, settings.sandbox_stripe_payout_ms)
    payouts.begin()
    api_key = settings.sandbox_stripe_api_key.get_secret_value()
    application = Api(books, desk, setups, cards, payouts, Answers(store, key_lifetime_ms), api_key).application()
    loops = [move_payments(Clock(books, desk, cards, payouts), store.listen())]
    if settings.sandbox_stripe_webhook_url:
        secret = settings.sandbox_stripe_webhook_secret.get_secret_value()
        url = str(settings.sandbox_stripe_webhook_url)
        loops.append(Deliveries(store, url, SIGNATURE_HEADER, build_signer(secret)).run())
    try:
        await serve(build_server(application, settings.bind_host, settings.sandbox_stripe_port), loops)
    finally:
        store.close()


if __name__ == "__main__":
    run("sandbox.stripe", Settings.load, main)
