"""The demo's story, played: what its events tell is what REST answers, resource by resource, field by field."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from demo import cast
from demo.books import wait_until_settled
from demo.harness.money import usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json, RestClient
from demo.run import DemoRun
from demo.story import STEPS
from deploy.local.identity import ORGANIZATION
from deploy.local.instance import Instance
from tests.e2e.read_model import ABOUT, IDS, ReadModel, list_differences, read_balances, read_events, read_rest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun]:
    """The story on an instance of its own: it begins in 2024."""
    instance = Instance(tmp_path_factory.mktemp("story"))
    instance.set_clock(cast.OPENING)
    with instance:
        run = DemoRun(instance)
        for step in STEPS:
            step.play(run)
        set_limits(run)
        make_key(run.admin)
        ask_for_an_entry(run.admin)
        wait_until_settled(run)
        yield run
        run.close()


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


def test_a_reader_that_begins_at_a_get_goes_on_with_the_event_after_its_version(run: DemoRun, model: ReadModel) -> None:
    """Of each resource, in lists as alone, once nothing is on its way: the last event is the one that it says."""
    said: dict[str, int] = {}
    read_rest(run.auditor, said)
    assert ABOUT.keys() == IDS.keys() - {"JournalEntry"}
    assert said == {about: model.versions[about] for about in said}


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
