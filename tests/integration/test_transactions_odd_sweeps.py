"""Whatever a provider says of its sweeps: it is one, or is not known, and no fault of ours; and no list has no end."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from services.transactions.domain.sweeps import ProviderLine, ProviderSweep, SweepList
from services.transactions.providers.plaid import sweeps as plaid_sweeps
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.providers.stripe import sweeps as stripe_sweeps
from services.transactions.providers.stripe.payments import StripePayments
from tests.integration.plaid_desk import CLIENT_ID, SECRET
from tests.integration.stripe_desk import API_KEY, VAULT, post
from tests.integration.test_transactions_odd_answers import ODD, list_paths, pay_by_debit, pay_on_page, replace_at
from tests.support.strangers import Stranger, answering

pytest_plugins = ("tests.integration.stripe_desk", "tests.integration.plaid_desk")

SINCE = datetime(2020, 1, 1, tzinfo=UTC)


async def fetch(url: str, path: str, **params: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        found: dict[str, Any] = (await client.get(f"/v1/{path}", params=params)).raise_for_status().json()
        return found


async def ask(asked: Callable[[], Awaitable[Any]], stranger: Stranger, path: str, document: Any) -> None:
    """It is what it should be, or not known; all else is raised."""
    stranger.bodies[path] = json.dumps(document).encode()
    try:
        found = await asked()
    except OutcomeUnknown:
        return
    if isinstance(found, SweepList):
        assert all(isinstance(each, ProviderSweep) for each in found.sweeps)
    else:
        assert all(isinstance(each, ProviderLine) for each in found)


async def test_one_odd_value_anywhere_in_what_stripe_says_of_its_payouts_is_no_fault_of_ours(stripe, url) -> None:
    await pay_by_debit(stripe, url)
    await pay_on_page(stripe, url)
    payout = await post(url, "payouts/now")
    listed = await fetch(url, "payouts")
    moved = await fetch(url, "balance_transactions", payout=payout["id"], **{"expand[]": "data.source"})
    with answering(200, b"{}") as stranger:
        stranger.bodies |= {"/v1/payouts": json.dumps(listed).encode(), "/v1/balance": json.dumps(moved).encode()}
        stranger.bodies["/v1/checkout"] = json.dumps({"object": "list", "data": [], "has_more": False}).encode()
        adapter = StripePayments(API_KEY, stranger.url, VAULT).sweeps
        [sweep] = [each for each in (await adapter.list_sweeps(SINCE)).sweeps if each.sweep_id == payout["id"]]
        lines = await adapter.list_lines(sweep)
        assert sum(each.net_minor for each in lines) == payout["amount"], "as they are, they are what they should be"
        for place in list_paths(listed):
            for odd in ODD:
                await ask(lambda: adapter.list_sweeps(SINCE), stranger, "/v1/payouts", replace_at(listed, place, odd))
        for place in list_paths(moved):
            for odd in ODD:
                await ask(lambda: adapter.list_lines(sweep), stranger, "/v1/balance", replace_at(moved, place, odd))
    assert len(stranger.asked) > 100


async def test_a_list_of_stripe_without_an_end_is_not_read_for_ever(stripe, url, monkeypatch) -> None:
    monkeypatch.setattr(stripe_sweeps, "_PAGES_MAX", 20)
    await pay_by_debit(stripe, url)
    await post(url, "payouts/now")
    listed = await fetch(url, "payouts")
    with answering(200, json.dumps(listed | {"has_more": True}).encode()) as stranger:
        adapter = StripePayments(API_KEY, stranger.url, VAULT).sweeps
        with pytest.raises(OutcomeUnknown, match="no end"):
            await adapter.list_sweeps(SINCE)
    assert len(stranger.asked) == 2, "the second page brought nothing new"


_SWEEP = {
    "id": "sweep-1",
    "funding_account_id": "account-1",
    "created": "2026-01-05T10:00:00Z",
    "amount": "-12.34",
    "iso_currency_code": "USD",
    "settled": "2026-01-06",
    "status": "settled",
    "trigger": "automatic_aggregate",
    "failure_reason": None,
}
_EVENT = {
    "event_id": 1,
    "timestamp": "2026-01-05T10:00:00Z",
    "event_type": "swept",
    "transfer_id": "transfer-1",
    "transfer_type": "credit",
    "transfer_amount": "12.34",
    "account_id": "account-2",
    "sweep_id": "sweep-1",
    "sweep_amount": "-12.34",
    "failure_reason": None,
    **dict.fromkeys(("funding_account_id", "refund_id", "originator_client_id", "origination_account_id")),
}


def open_plaid(url: str) -> plaid_sweeps.PlaidSweeps:
    nothing: Any = None  # no transfer is asked for
    return PlaidTransfers(url, CLIENT_ID, SECRET, nothing, nothing, VAULT).sweeps


async def test_one_odd_value_anywhere_in_what_plaid_says_of_its_sweeps_is_no_fault_of_ours() -> None:
    listed: dict[str, Any] = {"sweeps": [_SWEEP], "request_id": "x"}
    told: dict[str, Any] = {"transfer_events": [_EVENT], "has_more": False, "request_id": "x"}
    with answering(200, b"{}") as stranger:
        stranger.bodies |= {"/sweep/list": json.dumps(listed).encode(), "/event/list": json.dumps(told).encode()}
        adapter = open_plaid(stranger.url)
        [sweep] = (await adapter.list_sweeps(SINCE)).sweeps
        [line] = await adapter.list_lines(sweep)
        assert (sweep.amount.amount_minor, line.net_minor, line.payment_ids) == (-12_34, -12_34, ("transfer-1",))
        assert (sweep.arrives_at, sweep.destination) == (datetime(2026, 1, 6, tzinfo=UTC), "account-1")
        for place in list_paths(listed):
            for odd in ODD:
                await ask(lambda: adapter.list_sweeps(SINCE), stranger, "/sweep/list", replace_at(listed, place, odd))
        for place in list_paths(told):
            for odd in ODD:
                await ask(lambda: adapter.list_lines(sweep), stranger, "/event/list", replace_at(told, place, odd))
    assert len(stranger.asked) > 100


async def test_a_list_of_plaid_without_an_end_is_not_read_for_ever() -> None:
    sweeps = [_SWEEP | {"id": f"sweep-{number}"} for number in range(25)]
    with answering(200, json.dumps({"sweeps": sweeps, "request_id": "x"}).encode()) as stranger:
        adapter = open_plaid(stranger.url)
        with pytest.raises(OutcomeUnknown, match="no end"):
            await adapter.list_sweeps(SINCE)
        stranger.body = json.dumps({"transfer_events": [_EVENT], "has_more": True, "request_id": "x"}).encode()
        [sweep] = [plaid_sweeps._read_sweep(_SWEEP | {"created": SINCE, "settled": SINCE.date()})]
        with pytest.raises(OutcomeUnknown, match="no end"):
            await adapter.list_lines(sweep)
    assert len(stranger.asked) == 4
