"""What the provisioner wants of JetStream, derived from the subscriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from realco.escrow.v1 import events_pb2 as escrow
from realco.transactions.v1 import events_pb2 as transactions

from deploy.provision import consumers_of, durables_of, find_differences, stream_configurations, team_consumers
from deploy.teams import Durable, InvalidTeams, Team, parse_teams
from services.chassis.events.consumer import Subscription


async def handle(tx: object, event: object, meta: object) -> None:
    pass


SUBSCRIPTION = Subscription(
    "compliance_audit",
    {escrow.JournalEntriesPosted: handle, transactions.TransactionSettled: handle},
)


def test_a_subscription_to_two_areas_has_a_consumer_on_each_stream_and_one_over_its_dead_letters() -> None:
    made = {consumer.stream: consumer for consumer in consumers_of("compliance", SUBSCRIPTION)}
    assert {stream: consumer.subjects for stream, consumer in made.items()} == {
        "ESCROW": ("realco.escrow.v1.JournalEntriesPosted.>",),
        "TRANSACTIONS": ("realco.transactions.v1.TransactionSettled.>",),
        "DEAD_LETTERS": ("realco.dead_letters.compliance_audit",),
    }
    assert {consumer.name for consumer in made.values()} == {"compliance_audit"}
    assert durables_of(list(made.values()))["compliance"] == ["compliance_audit"]


def test_a_durable_of_a_team_hears_the_team_s_organizations_only() -> None:
    held = Durable(name="lender_holds", events=("escrow.HoldPlaced", "transactions.*"), scope="esc_1")
    made = team_consumers(Team(name="lender", organizations=("acme", "birch"), durables=(held,)))
    assert {consumer.stream: consumer.subjects for consumer in made} == {
        "ESCROW": ("realco.escrow.v1.HoldPlaced.acme.esc_1", "realco.escrow.v1.HoldPlaced.birch.esc_1"),
        "TRANSACTIONS": ("realco.transactions.v1.*.acme.esc_1", "realco.transactions.v1.*.birch.esc_1"),
    }
    assert durables_of(made)["lender"] == ["lender_holds"]


TEAM = """
[lender]
organizations = ["acme"]
"""


def test_a_team_is_a_few_lines() -> None:
    assert parse_teams(TEAM) == (Team(name="lender", organizations=("acme",)),)
    [team] = parse_teams(TEAM + '[[lender.durables]]\nname = "lender_all"\nevents = ["escrow.*"]')
    assert team.durables == (Durable(name="lender_all", events=("escrow.*",)),)


@pytest.mark.parametrize(
    ("written", "refusal"),
    [
        ("[lender]", "organizations: Field required"),
        ("[lender]\norganizations = []", "organizations"),
        ('[lender]\norganizations = ["*", "acme"]', "stands alone"),
        ('[lender]\norganizations = ["acme.>"]', "organizations.0"),
        ('[escrow]\norganizations = ["acme"]', "another user of NATS"),
        ('[subscriber]\norganizations = ["acme"]', "another user of NATS"),
        ('["a.b"]\norganizations = ["acme"]', "name"),
        (f'{TEAM}events = ["escrow.>"]', "events.0"),
        (f'{TEAM}events = ["ledger.*"]', "events.0"),
        (f'{TEAM}events = ["escrow.*", "escrow.HoldPlaced"]', "named twice"),
        (f'{TEAM}organisations = ["other"]', "organisations"),
        (f'{TEAM}[[lender.durables]]\nname = "escrow_money"\nevents = ["escrow.*"]', "begin with lender_"),
        (f'{TEAM}[[lender.durables]]\nname = "lender_a"\nevents = ["escrow.*"]\nscope = ">"', "scope"),
        (
            f'{TEAM}events = ["escrow.HoldPlaced"]\n[[lender.durables]]\nname = "lender_a"\nevents = ["escrow.*"]',
            "may not hear",
        ),
        ("lender = 1", "lender is a table"),
        ("[lender", "Expected"),
    ],
)
def test_a_teams_file_that_cannot_be_followed_says_why(written: str, refusal: str) -> None:
    with pytest.raises(InvalidTeams) as refused:
        parse_teams(written)
    assert refusal in str(refused.value)


def test_events_stay_in_order_and_dead_letters_do_not_wait_for_each_other() -> None:
    pending = {
        consumer.stream: consumer.configuration().max_ack_pending
        for consumer in consumers_of("compliance", SUBSCRIPTION)
    }
    assert pending == {"ESCROW": 1, "TRANSACTIONS": 1, "DEAD_LETTERS": 1000}


@pytest.mark.parametrize("stream", stream_configurations(), ids=lambda stream: stream.name)
def test_every_stream_keeps_what_it_acknowledged(stream: StreamConfig) -> None:
    assert (stream.storage, stream.discard, stream.max_age) == (StorageType.FILE, DiscardPolicy.NEW, 0)
    assert (stream.deny_delete, stream.deny_purge) == (True, True)
    assert stream.duplicate_window == 2 * 3600


@pytest.mark.parametrize(
    ("wanted", "actual", "count"),
    [
        ({"max_age": 0, "allow_atomic": True}, {"allow_atomic": True, "num_replicas": 1}, 0),  # zero is left out
        ({"subjects": ["a"]}, {"subjects": ["a"]}, 0),
        ({"subjects": ["a"]}, {"subjects": ["a", "b"]}, 1),
        ({"deny_delete": True}, {}, 1),
        ({"duplicate_window": 5, "max_msgs": -1}, {"duplicate_window": 30, "max_msgs": 3}, 2),
    ],
)
def test_drift_is_found_field_by_field(wanted: dict[str, Any], actual: dict[str, Any], count: int) -> None:
    # Both are of one kind: what a configuration does not name is not compared.
    assert len(find_differences(StreamConfig(**wanted), StreamConfig(**actual))) == count


def test_the_team_of_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "subscribing.md").read_text()
    [team] = parse_teams(page.split("```toml\n")[1].split("```")[0])
    assert [durable.name for durable in team.durables] == ["lender_postings"]
