"""Starts the bank: `python -m sandbox.bank`. The only wiring; ends with status 0 on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from datetime import timedelta

import uvicorn
from pydantic import ValidationError
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.bank.api import Api
from sandbox.bank.bank import Bank
from sandbox.bank.clock import Clock, FileClock
from sandbox.bank.settings import Settings
from sandbox.bank.tables import SCHEMA
from sandbox.signature import SIGNATURE_HEADER
from sandbox.store import Store
from sandbox.webhooks import Deliveries, wait_for_change

# How soon it is noticed that the clock has come to where something is due, or jumped there.
TICK_SECONDS = 0.1


async def keep_time(bank: Bank, clock: Clock, changed: asyncio.Event) -> None:
    while True:
        changed.clear()
        if bank.advance():
            await asyncio.sleep(0)  # a jump of the clock may make much due: answer requests in between
            continue
        due = bank.find_next_due()
        while not changed.is_set() and (due is None or clock.now() < due):
            await wait_for_change(changed, TICK_SECONDS if due is not None else None)


async def serve(settings: Settings) -> None:
    store = Store(settings.sandbox_bank_database, SCHEMA)
    clock = FileClock(settings.clock_file)
    bank = Bank(store, clock, timedelta(hours=settings.sandbox_bank_key_lifetime_hours))

    def hang_up(request: Request) -> None:
        for connection in list(server.server_state.connections):
            if isinstance(connection, H11Protocol) and connection.client == request.scope["client"]:
                connection.transport.abort()

    server = uvicorn.Server(
        uvicorn.Config(
            Api(bank, hang_up).application(),
            host=settings.bind_host,
            port=settings.sandbox_bank_port,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )
    try:
        # Should a loop die, the group takes the server down with it and the process ends with an error.
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(keep_time(bank, clock, store.listen()))]
            if settings.sandbox_bank_webhook_url:
                secret = settings.sandbox_bank_webhook_secret.get_secret_value()
                url = str(settings.sandbox_bank_webhook_url)
                deliveries = Deliveries(store, url, SIGNATURE_HEADER, secret)
                loops.append(tasks.create_task(deliveries.run()))
            # uvicorn raises its signal again once it has stopped: without these the process would end by it.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
            await server.serve()
            for loop in loops:
                loop.cancel()
    finally:
        store.close()


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = Settings.load()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_context=False, include_url=False):
            name = ".".join(map(str, problem["loc"])).upper() or "settings"
            print(f"sandbox.bank: {name}: {problem['msg']}", file=sys.stderr)
        raise SystemExit(2) from None
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
