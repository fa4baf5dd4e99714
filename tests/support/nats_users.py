"""A NATS server with everybody on it: the services, the provisioner, and three teams outside."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import nats
from nats.aio.client import Client

from deploy.local.nats import Nats
from deploy.local.programs import wait_until_ready
from deploy.nats_accounts import inbox_prefix
from deploy.provision import provision
from deploy.teams import DOCUMENTED, Team, list_copies
from deploy.topology import PROVISIONER

LENDER = Team(name="lender", organizations=("org_1",), events=("escrow.*",))
BROKER = Team(name="broker", organizations=("org_2",), events=("escrow.*", "transactions.*"))
TEAMS = (DOCUMENTED, LENDER, BROKER)
COPIES = list_copies(TEAMS)

_REFUSED = re.compile(r"permissions violation for (.*)")


@contextmanager
def run_everybody(folder: Path, *, everything: bool = False) -> Iterator[Nats]:
    """The server, provisioned."""
    with Nats(folder, TEAMS, everything=everything) as server:
        asyncio.run(_provision(server))
        yield server


async def _provision(server: Nats) -> None:
    async with user(server, PROVISIONER) as (client, _):
        assert (await provision(client, COPIES)).drift == []


@contextmanager
def run_accounts_alone(folder: Path) -> Iterator[Nats]:
    """The same without any list of what a user may say: what is kept apart is so by accounts."""
    server = Nats(folder, TEAMS)
    server.prepare()
    file = folder / "nats" / "nats.conf"
    configuration = json.loads(file.read_text())
    for account in configuration["accounts"].values():
        for known in account.get("users", ()):
            del known["permissions"]
    file.write_text(json.dumps(configuration))
    server.program.start()
    try:
        wait_until_ready(server.program, server.is_ready, 30)
        asyncio.run(_provision(server))
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def user(server: Nats, name: str) -> AsyncIterator[tuple[Client, set[str]]]:
    """A connection, and what the server refused to it, in its words and in small letters."""
    refused: set[str] = set()

    async def on_error(error: Exception) -> None:
        if found := _REFUSED.search(str(error)):
            refused.add(found.group(1).lower())

    client = await nats.connect(
        server.url(name), inbox_prefix=inbox_prefix(name), error_cb=on_error, allow_reconnect=False
    )
    try:
        yield client, refused
    finally:
        await client.close()
