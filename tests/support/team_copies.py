"""A NATS server with a team beside the documented one, which is granted the events of escrow of one organization."""

from __future__ import annotations

from collections.abc import Sequence

from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from deploy.local.nats import Nats
from deploy.provision import provision
from deploy.teams import DOCUMENTED, Team, list_copies
from tests.support.chassis import until
from tests.support.nats_users import LENDER, user

POSTED = "realco.escrow.v1.JournalEntriesPosted.org_1.esc_1"
POSTED_ELSEWHERE = "realco.escrow.v1.JournalEntriesPosted.org_2.esc_2"
TEAMS = (DOCUMENTED, LENDER)
COPIES = list_copies(TEAMS)


async def provision_once(server: Nats, teams: Sequence[Team] = TEAMS) -> None:
    async with user(server, "provisioner") as (client, _):
        assert (await provision(client, list_copies(teams))).drift == []


async def read_all(client: Client, subject: str) -> list[str]:
    """Through a pull consumer of the client's own."""
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)
    pull = await client.jetstream(timeout=1).pull_subscribe(subject, stream="ESCROW", config=config)
    count = (await pull.consumer_info()).num_pending or 0
    return [one.subject for one in await pull.fetch(count, timeout=5)] if count else []


async def publish(server: Nats, *subjects: str) -> None:
    async with user(server, "escrow") as (client, _):
        for subject in subjects:
            await client.jetstream().publish(subject, subject.encode(), stream="ESCROW")


async def copied(client: Client, count: int) -> None:
    """Waits until the team's copy has as many messages."""

    async def there() -> bool:
        return (await client.jetstream().stream_info("ESCROW")).state.messages >= count

    await until(there)
