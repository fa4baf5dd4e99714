"""What the provisioner wants of JetStream, derived from the topology."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from deploy.provision import stream_configurations
from deploy.teams import Copy, InvalidTeams, Team, parse_teams
from deploy.topology import SERVICES, STREAMS, Service
from services.chassis.data.housekeeping import FORGOTTEN_AFTER_DAYS
from services.chassis.data.retention import EVENT_AGE_DAYS_MAX, EVENTS_KEPT_DAYS
from services.chassis.events.configurations import find_differences
from services.chassis.events.consumer import list_streams
from services.chassis.events.stored import stream_of_area


def test_an_event_is_remembered_for_longer_than_it_can_come_again() -> None:
    kept = max(stream.kept_days for stream in STREAMS)
    (_, told), (_, remembered) = FORGOTTEN_AFTER_DAYS["outbox"], FORGOTTEN_AFTER_DAYS["handled_events"]
    assert kept + told <= EVENT_AGE_DAYS_MAX < remembered


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_the_topology_says_which_areas_a_service_hears(service: Service) -> None:
    subscriptions = import_module(f"services.{service.name}.subscribers").SUBSCRIPTIONS
    used = {stream.name for stream in list_streams(service.name, subscriptions)}
    assert {stream_of_area(area).name for area in service.hears} == used - {service.stream.name}


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


@pytest.mark.parametrize("stream", stream_configurations(), ids=lambda stream: stream.name)
def test_every_stream_keeps_what_it_acknowledged_and_events_as_long_as_is_promised(stream: StreamConfig) -> None:
    assert (stream.storage, stream.discard) == (StorageType.FILE, DiscardPolicy.NEW)
    assert (stream.max_age, stream.max_msgs_per_subject) == (EVENTS_KEPT_DAYS * 24 * 3600, -1)
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
