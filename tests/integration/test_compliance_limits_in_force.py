"""Limits on real PostgreSQL: the default, an organization's own, and what holds once it is removed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from realco.compliance.v1 import compliance_pb2 as pb

from services.chassis.calls.auth import acting_as
from services.chassis.values.etags import EtagMismatch, EtagRequired
from services.compliance.domain.refusals import (
    TransactionLimitIsDefault,
    TransactionLimitNotFound,
)
from tests.support.compliance import AUDITOR, LIMIT, MAKER, STRANGER, money_in
from tests.support.events import as_in_events


async def test_in_a_currency_without_limits_nothing_comes_in(compliance):
    await compliance.clear()
    [refused] = await compliance.evaluate(money_in(1, currency="EUR"))
    assert (refused.failure.code, refused.failure.metadata["limit_minor"]) == ("TRANSACTION_LIMIT_EXCEEDED", "0")
    limits = pb.TransactionLimit
    for limit_type in (limits.PER_TRANSACTION, limits.DAILY_DEPOSIT, limits.MONTHLY_DEPOSIT):
        await compliance.put_limit(5_00, limit_type, "EUR")
    [passed, too_much] = await compliance.evaluate(money_in(5_00, currency="EUR"), money_in(1, currency="EUR"))
    assert (passed.status, too_much.failure.code) == (pb.ComplianceCheck.PASSED, "TRANSACTION_LIMIT_EXCEEDED")


async def test_the_limit_put_last_is_in_force_whatever_the_clocks_said(compliance):
    await compliance.clear()
    await compliance.put_limit(30_00)
    await compliance.put_limit(20_00)  # in the same microsecond
    compliance.clock.advance(timedelta(seconds=-5))  # another machine's clock
    await compliance.put_limit(10_00)
    [refused] = await compliance.evaluate(money_in(10_01))
    assert refused.failure.metadata["limit_minor"] == "1000"


async def test_an_organization_sets_its_own_limit_and_the_others_keep_theirs(compliance):
    await compliance.clear()
    await compliance.put_limit(10_00)
    own, other = await compliance.list_limits(), await compliance.list_limits(STRANGER)
    assert {(limit.type, limit.amount.amount_minor, limit.set_by) for limit in own} == {
        (pb.TransactionLimit.PER_TRANSACTION, 250_000_00, ""),
        (pb.TransactionLimit.DAILY_DEPOSIT, 10_00, "admin-1"),
        (pb.TransactionLimit.MONTHLY_DEPOSIT, 500_000_00, ""),
    }
    assert all(limit.is_default for limit in other)
    [refused] = await compliance.evaluate(money_in(10_01))
    assert refused.failure.metadata["limit_minor"] == "1000"


async def test_who_changes_a_limit_says_which_one(compliance):
    default = await _find_daily(compliance)
    with pytest.raises(EtagRequired, match="There is such a limit"):
        await compliance.put_limit(30_00, etag="")
    first = await compliance.put_limit(30_00, etag=default.etag)
    with pytest.raises(EtagRequired):
        await compliance.put_limit(40_00, etag="")
    with pytest.raises(EtagMismatch):
        await compliance.put_limit(40_00, etag=default.etag)
    assert (await compliance.put_limit(40_00, etag=first.etag)).amount.amount_minor == 40_00


async def test_the_default_is_seen_and_says_what_it_is(compliance):
    default = await _find_daily(compliance)
    assert default.is_default
    assert not default.HasField("set_by")
    assert (await compliance.get_limit(default.transaction_limit_id)).etag == default.etag
    own = await compliance.put_limit(10_00)
    assert (own.transaction_limit_id, own.is_default, own.set_by) == (
        default.transaction_limit_id,
        False,
        MAKER.person,
    )
    assert await compliance.get_limit(own.transaction_limit_id) == own


async def test_once_an_organization_removes_its_own_limit_the_default_holds_again(compliance):
    await compliance.clear()
    default = await _find_daily(compliance)
    own = await compliance.put_limit(10_00)
    await compliance.delete_limit(own)
    again = await _find_daily(compliance)
    assert (again.transaction_limit_id, again.amount, again.is_default) == (
        default.transaction_limit_id,
        default.amount,
        True,
    )
    assert len({default.etag, own.etag, again.etag}) == 3  # what was decided on an earlier one is refused
    [passed] = await compliance.evaluate(money_in(10_01))
    assert passed.status == pb.ComplianceCheck.PASSED
    put, removed = (await compliance.list_events())[-3:-1]
    assert (type(put).__name__, put.transaction_limit) == ("TransactionLimitPut", as_in_events(own))
    assert (type(removed).__name__, removed.transaction_limit) == ("TransactionLimitDeleted", as_in_events(again))
    assert removed.meta.aggregate_id == put.meta.aggregate_id == own.transaction_limit_id
    assert removed.meta.aggregate_version == put.meta.aggregate_version + 1
    assert (await compliance.put_limit(20_00)).amount.amount_minor == 20_00


async def test_where_there_is_no_default_nothing_comes_in_after_a_removal(compliance):
    await compliance.clear()
    for limit_type in (LIMIT.PER_TRANSACTION, LIMIT.DAILY_DEPOSIT, LIMIT.MONTHLY_DEPOSIT):
        own = await compliance.put_limit(5_00, limit_type, "EUR")
    await compliance.delete_limit(own)
    removed = (await compliance.list_events())[-1]
    assert (removed.transaction_limit_id, removed.HasField("transaction_limit")) == (own.transaction_limit_id, False)
    with pytest.raises(TransactionLimitNotFound):
        await compliance.get_limit(own.transaction_limit_id)
    with pytest.raises(TransactionLimitNotFound):
        await compliance.delete_limit(own)
    assert len(await compliance.list_limits(currency_code=["EUR"])) == 2
    [refused] = await compliance.evaluate(money_in(1, currency="EUR"))
    assert refused.failure.metadata["limit_type"] == "MONTHLY_DEPOSIT"
    assert (await compliance.put_limit(5_00, LIMIT.MONTHLY_DEPOSIT, "EUR", etag="")).amount == own.amount


async def test_nobody_removes_the_default_nor_a_limit_that_was_changed_meanwhile(compliance):
    default = await _find_daily(compliance)
    with pytest.raises(TransactionLimitIsDefault):
        await compliance.delete_limit(default)
    own = await compliance.put_limit(10_00)
    for stale in (default, await _replace(compliance, own)):
        with pytest.raises(EtagMismatch):
            await compliance.delete_limit(stale)
    assert (await _find_daily(compliance)).amount.amount_minor == 20_00


async def test_another_organization_does_not_find_a_limit(compliance):
    own = await compliance.put_limit(10_00)
    with pytest.raises(TransactionLimitNotFound):
        await compliance.get_limit(own.transaction_limit_id, STRANGER)


async def test_who_reads_a_limit_is_told_what_it_may_do_with_it(compliance):
    default = await _find_daily(compliance)
    assert list((await compliance.get_limit(default.transaction_limit_id)).allowed_actions) == ["put"]
    own = await compliance.put_limit(10_00)
    assert list(own.allowed_actions) == ["put", "delete"]
    assert list((await compliance.get_limit(own.transaction_limit_id, AUDITOR)).allowed_actions) == []


async def test_limits_are_listed_page_by_page_the_last_set_first(compliance):
    euros = []
    for each in (LIMIT.PER_TRANSACTION, LIMIT.DAILY_DEPOSIT):
        euros.append(await compliance.put_limit(5_00, each, "EUR"))
        compliance.clock.advance(timedelta(seconds=1))
    with acting_as(MAKER):
        first = await compliance.servicer.ListTransactionLimits(pb.ListTransactionLimitsRequest(page_size=2), None)
        rest = pb.ListTransactionLimitsRequest(page_size=2, page_token=first.next_page_token)
        second = await compliance.servicer.ListTransactionLimits(rest, None)
    assert list(first.transaction_limits) == [_as_listed(each) for each in reversed(euros)]
    assert (len(second.transaction_limits), second.transaction_limits[0].is_default) == (2, True)
    assert (first.previous_page_token, second.previous_page_token != "") == ("", True)


async def test_limits_are_listed_by_currency_and_type_and_id_and_time(compliance):
    await compliance.put_limit(5_00, LIMIT.PER_TRANSACTION)
    euro = await compliance.put_limit(5_00, currency="EUR")
    daily = await compliance.list_limits(type=[LIMIT.DAILY_DEPOSIT])
    assert {limit.amount.currency_code for limit in daily} == {"USD", "EUR"}
    assert await compliance.list_limits(ids=[euro.transaction_limit_id]) == [_as_listed(euro)]
    assert len(await compliance.list_limits(from_time=euro.set_time)) == len(
        [limit for limit in await compliance.list_limits() if not limit.is_default]
    )
    euro = await compliance.put_limit(5_00, currency="EUR")
    assert await compliance.list_limits(currency_code=["EUR"]) == [_as_listed(euro)]
    assert len(await compliance.list_limits(currency_code=["USD"])) == 3
    assert len(await compliance.list_limits()) == 4
    assert await compliance.list_limits(currency_code=["JPY"]) == []


async def test_two_who_replace_one_limit_at_once_do_not_both_succeed(compliance):
    etag = (await _find_daily(compliance)).etag
    puts = [compliance.put_limit(minor, etag=etag) for minor in (10_00, 20_00, 30_00)]
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "EtagMismatch",
        "EtagMismatch",
        "TransactionLimit",
    ]


def _as_listed(limit):
    """A list does not work out what the caller may do."""
    listed = pb.TransactionLimit()
    listed.CopyFrom(limit)
    listed.ClearField("allowed_actions")
    return listed


async def _find_daily(compliance):
    return next(limit for limit in await compliance.list_limits() if limit.type == LIMIT.DAILY_DEPOSIT)


async def _replace(compliance, limit):
    """Puts another in its place; the one that was."""
    await compliance.put_limit(20_00, etag=limit.etag)
    return limit
