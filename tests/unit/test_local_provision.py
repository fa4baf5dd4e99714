"""What the provisioner wants of JetStream, derived from the subscriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from realco.escrow.v1 import events_pb2 as escrow
from realco.transactions.v1 import events_pb2 as transactions

from deploy.consumers import consumers_of
from deploy.provision import stream_configurations
from deploy.teams import Copy, InvalidTeams, Team, parse_teams
from deploy.topology import STREAMS
from services.chassis.data.housekeeping import FORGOTTEN_AFTER_DAYS
from services.chassis.data.retention import EVENT_AGE_DAYS_MAX, EVENTS_KEPT_DAYS
from services.chassis.events.configurations import find_differences
from services.chassis.events.consumer import Subscription
from services.chassis.events.stored import POSITIONS


async def handle(tx: object, event: object, meta: object) -> None:
    pass


SUBSCRIPTION = Subscription(
    "compliance_audit",
    {escrow.JournalEntriesPosted: handle, transactions.TransactionSettled: handle},
    is_about_money=True,
)


def test_an_event_is_remembered_for_longer_than_it_can_come_again() -> None:
    kept = max(stream.kept_days or 0 for stream in STREAMS)
    (_, told), (_, remembered) = FORGOTTEN_AFTER_DAYS["outbox"], FORGOTTEN_AFTER_DAYS["handled_events"]
    assert kept + told <= EVENT_AGE_DAYS_MAX < remembered


def test_a_subscription_to_two_areas_has_a_consumer_on_each_stream() -> None:
    made = {consumer.stream: consumer for consumer in consumers_of("compliance", SUBSCRIPTION)}
    assert {stream: consumer.subjects for stream, consumer in made.items()} == {
        "ESCROW": ("realco.escrow.v1.JournalEntriesPosted.>",),
        "TRANSACTIONS": ("realco.transactions.v1.TransactionSettled.>",),
    }
    assert {consumer.name for consumer in made.values()} == {"compliance_audit"}


def test_a_team_s_copies_hold_the_events_and_organizations_it_was_granted() -> None:
    team = Team(name="lender", organizations=("acme", "birch"), events=("escrow.HoldPlaced", "transactions.*"))
    assert team.copies() == [
        Copy("lender", "ESCROW", ("realco.escrow.v1.HoldPlaced.acme.>", "realco.escrow.v1.HoldPlaced.birch.>")),
        Copy("lender", "TRANSACTIONS", ("realco.transactions.v1.*.acme.>", "realco.transactions.v1.*.birch.>")),
    ]


TEAM = """
[lender]
organizations = ["acme"]
"""


def test_a_team_is_a_few_lines() -> None:
    assert parse_teams(TEAM) == (Team(name="lender", organizations=("acme",)),)


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
        ('[lender]\norganizations = ["acme", "acme"]', "named twice"),
        ("lender = 1", "lender is a table"),
        ("[lender", "Expected"),
    ],
)
def test_a_teams_file_that_cannot_be_followed_says_why(written: str, refusal: str) -> None:
    with pytest.raises(InvalidTeams) as refused:
        parse_teams(written)
    assert refusal in str(refused.value)


def test_events_stay_in_order() -> None:
    pending = {
        consumer.stream: consumer.configuration().max_ack_pending
        for consumer in consumers_of("compliance", SUBSCRIPTION)
    }
    assert pending == {"ESCROW": 1, "TRANSACTIONS": 1}


@pytest.mark.parametrize("stream", stream_configurations(), ids=lambda stream: stream.name)
def test_every_stream_keeps_what_it_acknowledged_and_events_as_long_as_is_promised(stream: StreamConfig) -> None:
    last_word = stream.name == POSITIONS.name
    discards = DiscardPolicy.OLD if last_word else DiscardPolicy.NEW
    days = 0 if last_word else EVENTS_KEPT_DAYS
    assert (stream.storage, stream.discard, stream.max_age) == (StorageType.FILE, discards, days * 24 * 3600)
    assert stream.max_msgs_per_subject == (1 if last_word else -1)
    assert (stream.deny_delete, stream.deny_purge) == (True, True)
    assert stream.duplicate_window == 2 * 3600


def test_the_documentation_promises_the_days_that_events_are_kept() -> None:
    page = (Path(__file__).parents[2] / "docs" / "subscribing.md").read_text()
    assert f"- **For {EVENTS_KEPT_DAYS} days.**" in page


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({"name": "S", "max_age": 0, "mirror_direct": False, "consumer_limits": {}}, []),  # it says nothing
        ({"name": "S", "subjects": ["a"], "metadata": {"_nats.ver": "2.15.1"}}, []),
        ({"name": "S", "subjects": ["a", "b"]}, ['subjects is ["a", "b"], wanted ["a"]']),
        ({"name": "S", "deny_delete": False}, ["deny_delete is not set, wanted true"]),
        ({"name": "S", "republish": {"dest": "x"}}, ['republish is {"dest": "x"}, wanted not set']),
        ({"name": "S", "of_a_later_server": 1, "metadata": {"a": "b"}},
         ['metadata is {"a": "b"}, wanted not set', "of_a_later_server is 1, wanted not set"]),
    ],
)  # fmt: skip
def test_every_setting_that_the_server_says_is_compared_whether_we_know_it_or_not(
    there: dict[str, Any], found: list[str]
) -> None:
    wanted = StreamConfig(name="S", subjects=["a"], deny_delete=True)
    said = wanted.as_dict() | {"retention": "limits"} | there
    assert find_differences(wanted.evolve(retention=RetentionPolicy.LIMITS), said) == found


def test_the_team_of_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "subscribing.md").read_text()
    [team] = parse_teams(page.split("```toml\n")[1].split("```")[0])
    assert (team.name, team.organizations) == ("lender", ("org-demo",))
