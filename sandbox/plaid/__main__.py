"""Starts the stand-in for Plaid: `python -m sandbox.plaid`. The only wiring."""

from __future__ import annotations

from sandbox.plaid.api import Api
from sandbox.plaid.books import OBJECTS, Books
from sandbox.plaid.desk import Desk, Lifetimes
from sandbox.plaid.keys import KEYS, SigningKey
from sandbox.plaid.links import Links
from sandbox.plaid.settings import Settings
from sandbox.plaid.sweeps import SweepDesk
from sandbox.serving import build_server, move_payments, run, serve
from sandbox.store import Store
from sandbox.webhooks import Deliveries

SIGNATURE_HEADER = "Plaid-Verification"


async def main(settings: Settings) -> None:
    store = Store(settings.sandbox_plaid_database, OBJECTS + KEYS)
    key = SigningKey(store)
    lifetimes = Lifetimes(
        settings.sandbox_plaid_settle_ms,
        settings.sandbox_plaid_authorization_minutes * 60_000,
        settings.sandbox_plaid_key_lifetime_hours * 3_600_000,
    )
    books = Books(store)
    sweeps = SweepDesk(books, status_ms=settings.sandbox_plaid_settle_ms, sweep_ms=settings.sandbox_plaid_sweep_ms)
    sweeps.begin()
    desk = Desk(books, lifetimes, sweeps, tells=settings.sandbox_plaid_webhook_url is not None)
    secret = settings.sandbox_plaid_secret.get_secret_value()
    application = Api(desk, sweeps, Links(books), key, settings.sandbox_plaid_client_id, secret).application()
    loops = [move_payments(desk, store.listen())]
    if settings.sandbox_plaid_webhook_url:
        loops.append(Deliveries(store, str(settings.sandbox_plaid_webhook_url), SIGNATURE_HEADER, key.sign).run())
    try:
        await serve(build_server(application, settings.bind_host, settings.sandbox_plaid_port), loops)
    finally:
        store.close()


if __name__ == "__main__":
    run("sandbox.plaid", Settings.load, main)
