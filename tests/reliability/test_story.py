"""`make demo`, the main job from end to end, with kill -9 of each kind of process at some moment of it: it ends the
same, with the same books, and what its events tell is what REST answers, resource by resource, field by field.

All are killed in one run, each once; a kill that did not happen fails the run. `make chaos` kills at many more moments.
"""

from __future__ import annotations

import asyncio
import io
import random
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest

from demo.__main__ import open_run, perform_story
from demo.books import wait_until_settled
from demo.harness.money import usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json, RestClient
from demo.narrator import Narrator
from demo.run import DemoRun
from deploy.local.identity import ORGANIZATION
from deploy.topology import PROCESS_NAMES
from tests.support.read_model import ABOUT, IDS, ReadModel, list_differences, read_balances, read_events, read_rest

PRINTED = (
    "TRANSACTION_LIMIT_EXCEEDED",
    "CLOSING_GATES_NOT_MET",
    "MAKER_IS_CHECKER",
    "R01",
    "R03",
    "inv-001 121,000.00, inv-002 67,222.21, inv-003 53,777.79, sponsor-oak 18,000.00",
    "Trial balance",
    "Escrow ledger",
    "Waterfall by tier",
    "Payouts",
    "Events seen by the NATS subscriber",
    "everything ties out",
)


class Played(NamedTuple):
    run: DemoRun
    ties_out: bool
    printed: str


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The story on an instance of its own: it begins in 2024."""
    printed, seed = io.StringIO(), random.randrange(1_000_000)
    narrator = Narrator(printed)
    with open_run(tmp_path_factory.mktemp("story"), narrator) as run:
        try:
            yield Played(run, perform_story(run, PROCESS_NAMES, seed, narrator), printed.getvalue())
        finally:
            print(printed.getvalue())  # where it did not come to its end


@pytest.fixture(scope="module")
def run(played: Played) -> DemoRun:
    """After the story, and what it leaves out."""
    set_limits(played.run)
    make_key(played.run.admin)
    ask_for_an_entry(played.run.admin)
    wait_until_settled(played.run)
    return played.run


def test_the_story_outlives_the_sudden_death_of_each_kind_of_process(played: Played) -> None:
    assert played.ties_out, played.printed
    for line in (*PRINTED, *(f"kill -9: {process} " for process in PROCESS_NAMES)):
        assert line in played.printed, f"{line} is not in:\n{played.printed}"


def set_limits(run: DemoRun) -> None:
    """What the story leaves out: one that is set stays, and two are removed, with a default behind one of them."""
    path = "/transaction-limits"

    def approve(answer: Json) -> str:
        """Where the limit is read."""
        asked = answer["approval"]
        decision = {"contentHash": asked["contentHash"]}
        run.officer.post(f"/approvals/{asked['approvalId']}/approve", decision, etag=asked["etag"])
        return f"{path}/{asked['resourceId']}"

    defaults = {one["type"]: one["etag"] for one in run.admin.get(path)["transactionLimits"]}
    daily = {"type": "DAILY_DEPOSIT", "amount": usd(5)}
    approve(run.admin.put(path, daily, etag=defaults["DAILY_DEPOSIT"]))
    monthly = {"type": "MONTHLY_DEPOSIT", "amount": usd(7)}
    euros = {"type": "MONTHLY_DEPOSIT", "amount": {"currencyCode": "EUR", "amountMinor": "7"}}
    for asked in (run.admin.put(path, monthly, etag=defaults["MONTHLY_DEPOSIT"]), run.admin.put(path, euros)):
        limit = approve(asked)
        approve(run.admin.delete(limit, etag=run.admin.get(limit)["etag"]))


def make_key(admin: RestClient) -> None:
    """One of a program, which waits and is given up."""
    until = datetime.fromisoformat(admin.get("/me")["businessTime"]) + timedelta(days=30)
    body = {"displayName": "ERP", "scopes": ["ESCROW_READ"], "expireTime": until.isoformat()}
    key = admin.post("/api-keys", body)["apiKey"]
    admin.post(f"/api-keys/{key['apiKeyId']}/revoke", etag=key["etag"])


def ask_for_an_entry(admin: RestClient) -> None:
    """It waits for a second person, for whom there is a question."""
    account = admin.list_all("/escrow-accounts", "escrowAccounts")[0]["escrowAccountId"]
    legs = [
        {"ledgerAccount": {"kind": kind}, "direction": direction, "amount": usd(5)}
        for kind, direction in (("CASH", "DEBIT"), ("SUSPENSE", "CREDIT"))
    ]
    entry = {"type": "ADJUSTMENT", "description": "Found money", "legs": legs}
    asked = admin.post(f"/escrow-accounts/{account}/journal-entries", {"journalEntry": entry})["approval"]
    admin.post(f"/approvals/{asked['approvalId']}/comment", {"text": "Who knows where it comes from?"})


@pytest.fixture(scope="module")
def model(run: DemoRun) -> ReadModel:
    """Once nothing is on its way any more."""

    def read() -> tuple[ReadModel, list[str]]:
        model = asyncio.run(read_events(run.instance.nats_url(), ORGANIZATION))
        return model, list_differences(model.state, read_rest(run.auditor))

    seen, _ = wait_for("events and REST to say the same", read, lambda read: read[1] == [], lambda read: f"{read[1]}")
    return seen


def test_every_kind_of_resource_is_told_of(model: ReadModel) -> None:
    assert {kind for kind, _ in model.state} == IDS.keys() | {"Persons"}


def test_numbers_have_no_gaps_one_incarnation_speaks_and_nothing_personal_is_said(model: ReadModel) -> None:
    assert model.faults == []
    assert {area: len(incarnations) for area, incarnations in model.incarnations.items()} == dict.fromkeys(
        model.incarnations, 1
    )


def test_a_reader_that_begins_at_a_get_goes_on_with_the_event_after_its_version(run: DemoRun) -> None:
    """Of each resource, in lists as alone, once nothing is on its way: the last event is the one that it says."""

    def read() -> tuple[dict[str, int], dict[str, int | None]]:
        said: dict[str, int] = {}
        read_rest(run.auditor, said)
        told = asyncio.run(read_events(run.instance.nats_url(), ORGANIZATION)).versions
        return said, {about: told.get(about) for about in said}

    assert ABOUT.keys() == IDS.keys() - {"JournalEntry"}
    # A webhook that came late, about what a look-up had found, tells of itself.
    said, _ = wait_for("events and REST to say the same versions", read, lambda read: read[0] == read[1])
    assert said


def test_the_book_s_balances_are_the_sums_of_the_legs_told(run: DemoRun, model: ReadModel) -> None:
    assert model.sum_balances() == read_balances(run.auditor)


def test_money_that_is_told_in_words_stands_beside_them(model: ReadModel) -> None:
    spelled = [one for one in find_operands(list(model.state.values())) if re.search(r"\d [A-Z]{3}$", one["value"])]
    assert spelled
    assert [one for one in spelled if "amount" not in one] == []


def find_operands(value: Any) -> Iterator[Json]:
    """Those of every explanation in it."""
    if isinstance(value, dict):
        yield from value.get("operands", ())
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from find_operands(part)
