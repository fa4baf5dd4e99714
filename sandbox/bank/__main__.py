"""Starts the bank: `python -m sandbox.bank`. The only wiring."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.bank.api import Api
from sandbox.bank.bank import Bank
from sandbox.bank.clock import Clock, FileClock
from sandbox.bank.settings import Settings
from sandbox.bank.tables import SCHEMA
from sandbox.serving import build_server, run, serve
from sandbox.signature import SIGNATURE_HEADER, build_signer
from sandbox.store import Store
from sandbox.webhooks import Deliveries, wait_for_change

# How soon it is noticed that the clock has jumped to where something is due. Where it comes by itself is known.
TICK_SECONDS = 0.25


async def keep_time(bank: Bank, clock: Clock, changed: asyncio.Event) -> None:
    while True:
        changed.clear()
        if bank.advance():
            await asyncio.sleep(0)  # a jump of the clock may make much due: answer requests in between
            continue
        due = bank.find_next_due()
        while not changed.is_set() and (due is None or clock.now() < due):
            left = None if due is None else min(TICK_SECONDS, max(0.0, (due - clock.now()).total_seconds()))
            await wait_for_change(changed, left)


async def main(settings: Settings) -> None:
    store = Store(settings.sandbox_bank_database, SCHEMA)
    clock = FileClock(settings.clock_file)
    bank = Bank(store, clock, timedelta(hours=settings.sandbox_bank_key_lifetime_hours))

    def hang_up(request: Request) -> None:
        for connection in list(server.server_state.connections):
            if isinstance(connection, H11Protocol) and connection.client == request.scope["client"]:
                connection.transport.abort()

    server = build_server(Api(bank, hang_up).application(), settings.bind_host, settings.sandbox_bank_port)
    loops = [keep_time(bank, clock, store.listen())]
    if settings.sandbox_bank_webhook_url:
        secret, url = settings.sandbox_bank_webhook_secret.get_secret_value(), str(settings.sandbox_bank_webhook_url)
        loops.append(Deliveries(store, url, SIGNATURE_HEADER, build_signer(secret)).run())
    try:
        await serve(server, loops)
    finally:
        store.close()


if __name__ == "__main__":
    run("sandbox.bank", Settings.load, main)
