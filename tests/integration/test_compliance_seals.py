"""What somebody with compliance's login writes about parties decides nothing, on real PostgreSQL."""

from __future__ import annotations

import asyncpg
import pytest
import sqlalchemy as sa
from realco.compliance.v1 import compliance_pb2, parties_pb2, persons_pb2

from services.chassis.calls.auth import acting_as
from services.chassis.data.seals import NotSealed
from services.chassis.process.telemetry import ROWS_NOT_SEALED
from services.chassis.values.ids import new_id
from services.chassis.values.second_person import BeneficiaryIsChecker
from tests.support import servers
from tests.support.api_key_desk import K, serving
from tests.support.compliance import CHECKER, MAKER, ORG, TRANSACTIONS, money_in


async def test_a_person_or_an_answer_that_the_database_was_told_alone_counts_for_nothing(compliance, postgres):
    await compliance.create()
    party_id = compliance.party_id
    await compliance.add("ann")
    for forgery in (
        (
            "INSERT INTO party_persons SELECT org_id, party_id, 'eve', title, version, created_by, created_at,"
            " updated_at, act_started_at, signed_in_at, api_key_id, seal FROM party_persons"
            f" WHERE party_id = '{party_id}' AND person_id = 'ann'"
        ),
        (
            "UPDATE compliance_checks SET status = 'PASSED', reviewed_by = 'admin-2', reviewed_at = now(),"
            " expires_at = now() + interval '1 year'"
        ),
    ):
        await servers.tamper(postgres.admin_dsn, compliance.database, forgery)
    with acting_as(TRANSACTIONS):
        request = persons_pb2.ListPartiesOfPersonRequest(person_id="eve")
        assert list((await compliance.persons.ListPartiesOfPerson(request, None)).party_ids) == []
    [decision] = await compliance.evaluate(money_in(1))
    assert decision.failure.code == "PARTY_NOT_CLEARED"


async def test_a_limit_that_sql_set_keeps_nobody_for_whom_none_holds(compliance):
    await compliance.clear(accreditation=parties_pb2.Party.ACCREDITED)
    forgery = (
        "INSERT INTO transaction_limits (org_id, limit_type, currency, amount_minor, set_by, set_at, seal)"
        f" VALUES ('{ORG}', 'DAILY_DEPOSIT', 'USD', 1, 'x', now(), 'made up')"
    )
    async with compliance.database.begin(ORG) as tx:
        await tx.execute(sa.text(forgery))
    [decision] = await compliance.evaluate(money_in(2))
    assert not decision.HasField("failure")


async def test_limits_that_sql_set_are_not_listed_and_hide_no_other(compliance):
    before = await compliance.list_limits()
    for limit_type, currency in (("MONTHLY_DEPOSIT", "ZZZ"), ("DAILY_DEPOSIT", "USD")):
        forgery = (
            "INSERT INTO transaction_limits (org_id, limit_type, currency, amount_minor, set_by, set_at, seal)"
            f" VALUES ('{ORG}', '{limit_type}', '{currency}', 1, 'x', now(), 'made up')"
        )
        async with compliance.database.begin(ORG) as tx:
            await tx.execute(sa.text(forgery))
    daily = compliance_pb2.TransactionLimit.DAILY_DEPOSIT
    assert await compliance.list_limits() == [each for each in before if each.type != daily]
    with acting_as(MAKER):
        me = await compliance.parties.GetMe(parties_pb2.GetMeRequest(), None)
    assert list(me.currency_codes) == ["USD"]
    assert {each.type for each in me.transaction_limits} == {each.type for each in before} - {daily}
    for each in before:
        with pytest.raises(NotSealed):
            await compliance.get_limit(each.transaction_limit_id)


_EXPLAINED = """explanation = '{"statement": "It is fine.", "rule": "X", "operands": [], "source": ""}'"""


async def test_no_edit_goes_through_while_an_answer_that_it_would_end_is_altered(compliance, postgres):
    await compliance.clear()
    altered = "UPDATE compliance_checks SET note = note || '.'"
    await servers.put_right(postgres.admin_dsn, compliance.database, altered)
    with pytest.raises(NotSealed):
        await compliance.update(legal_name="Mallory Poe")
    assert (await compliance.get()).legal_name == "Ada Park"
    await servers.put_right(postgres.admin_dsn, compliance.database, altered.replace("note || '.'", "left(note, -1)"))
    await compliance.update(legal_name="Mallory Poe")
    [decision] = await compliance.evaluate(money_in(1))
    assert decision.failure.code == "PARTY_NOT_CLEARED"


@pytest.mark.parametrize("words", ["note = 'Passport seen by bob.'", _EXPLAINED])
async def test_words_that_sql_put_into_a_check_are_read_by_nobody_who_decides(compliance, words):
    await compliance.clear()
    await compliance.update(legal_name="Ada Poe")
    forgery = f"UPDATE compliance_checks SET {words}"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with compliance.database.begin(ORG) as tx:
            await tx.execute(sa.text(forgery))
    # A move that may be has room for words: no other can take them back.
    moving = f"{forgery}, status = 'EXPIRED' WHERE status IN ('PASSED', 'MANUAL_REVIEW') RETURNING compliance_check_id"
    async with compliance.database.begin(ORG) as tx:
        moved = set(await tx.scalars(sa.text(moving)))
    for check_id in moved:
        with pytest.raises(NotSealed):
            await compliance.get_check(check_id)
    assert moved
    assert moved.isdisjoint({check.compliance_check_id for check in await compliance.list_checks()})


async def test_the_database_itself_keeps_no_machine_and_no_other_spelling_as_a_person(compliance, postgres):
    await compliance.create()
    await compliance.add("ann")
    for name in ("service:escrow", "key:reporting", "Eve", " eve", ""):
        for forgery in (
            (
                f"INSERT INTO party_persons SELECT org_id, party_id, '{name}', title, version, created_by, created_at,"
                " updated_at, act_started_at, signed_in_at, api_key_id, seal FROM party_persons"
            ),
            f"INSERT INTO ended_sessions VALUES ('org-1', '{name}', now(), 'admin-1', 'x')",
        ):
            with pytest.raises(Exception, match="person_id_names_a_person"):
                await servers.tamper(postgres.admin_dsn, compliance.database, forgery)


async def test_the_latest_row_of_ours_says_who_acts_for_a_party_whatever_sql_adds(compliance, postgres):
    party = (await compliance.create()).party_id
    added = await compliance.add(CHECKER.person, title="Trustee")
    await compliance.add(CHECKER.person, title="Manager", etag=added.etag)
    await compliance.add("ann")
    await compliance.remove("ann")
    forgery = (
        "INSERT INTO party_persons SELECT org_id, party_id, person_id, 'forged', version + 100, created_by, created_at,"
        " updated_at, act_started_at, signed_in_at, api_key_id, seal FROM party_persons"
    )
    async with compliance.database.begin(ORG) as tx:
        await tx.execute(sa.text(forgery))
    for statement in ("DELETE FROM party_persons", "UPDATE party_persons SET version = version - 1"):
        with pytest.raises(Exception, match="keeps its rows"):
            await servers.tamper(postgres.admin_dsn, compliance.database, statement)
    assert await compliance.list_titles() == {CHECKER.person: "Manager"}
    [check, *_] = await compliance.waiting(party)
    with pytest.raises(BeneficiaryIsChecker):
        await compliance.review(check.compliance_check_id)
    await compliance.add("ann", title="Heir")
    assert await compliance.list_titles() == {CHECKER.person: "Manager", "ann": "Heir"}


@pytest.mark.parametrize(
    "seal",
    ["'made up'", "(SELECT seal FROM former_persons WHERE person_id = 'ben')"],
    ids=["made up", "another's"],
)
async def test_nobody_ends_with_sql_that_a_person_acts_for_a_party_or_gains_from_it(compliance, seal):
    party = (await compliance.create()).party_id
    for person in ("ann", "ben", CHECKER.person):
        await compliance.add(person)
    await compliance.remove("ben")
    forgery = (
        "INSERT INTO former_persons (org_id, person_id, party_id, ended_at, version, ended_by, has_acted, seal)"
        f" VALUES (:org, :person, :party, '2020-01-01', 1000000, 'x', false, {seal})"
    )
    async with compliance.database.begin(ORG) as tx:
        for person in ("ann", CHECKER.person):
            await tx.execute(sa.text(forgery), {"org": ORG, "person": person, "party": party})
    assert await compliance.list_persons() == [CHECKER.person, "ann"]
    assert await compliance.list_names(person_id=["ann"]) == ["Ada Park"]
    with acting_as(TRANSACTIONS):
        request = persons_pb2.ListPartiesOfPersonRequest(person_id="ann")
        assert list((await compliance.persons.ListPartiesOfPerson(request, None)).party_ids) == [party]
    [check, *_] = await compliance.waiting(party)
    with pytest.raises(BeneficiaryIsChecker):
        await compliance.review(check.compliance_check_id)


async def test_who_writes_ahead_of_the_service_where_it_will_write_is_found_out_and_named(compliance):
    """Else it were a bug to whoever calls, and nobody would look into the table."""
    party = (await compliance.create()).party_id
    await compliance.add("ann")
    forgery = (
        "INSERT INTO party_persons SELECT org_id, party_id, 'zoe', title, version + ahead, created_by, created_at,"
        " updated_at, act_started_at, signed_in_at, api_key_id, seal FROM party_persons, generate_series(0, 4) ahead"
    )
    async with compliance.database.begin(ORG) as tx:
        await tx.execute(sa.text(forgery))
    with pytest.raises(NotSealed, match=f"party_persons {ORG} {party} zoe"):
        await compliance.add("zoe")
    await compliance.add("ben")
    assert await compliance.list_persons() == ["ann", "ben"]


async def test_what_sql_says_that_a_transaction_used_of_a_limit_keeps_that_one_transaction_alone(compliance):
    await compliance.clear()
    await compliance.put_limit(100_00)
    taken, free = money_in(1), money_in(1)
    forgery = (
        "INSERT INTO limit_usage (org_id, transaction_id, party_id, amount_minor, currency, counted, version,"
        " counted_at, seal) VALUES (:org, :transaction, :party, 1, 'USD', true, 0, now(), 'made up')"
    )
    async with compliance.database.begin(ORG) as tx:
        values = {"org": ORG, "transaction": taken.transaction_id, "party": new_id("pty")}
        await tx.execute(sa.text(forgery), values)
    with pytest.raises(NotSealed, match=f"limit_usage {ORG} {taken.transaction_id}"):
        await compliance.evaluate(taken)
    [decision] = await compliance.evaluate(free)
    assert not decision.HasField("failure")


async def test_sessions_that_sql_ended_go_on(compliance):
    async def read_end():
        with acting_as(TRANSACTIONS):
            request = persons_pb2.ListPartiesOfPersonRequest(person_id="ann")
            answer = await compliance.persons.ListPartiesOfPerson(request, None)
        return answer.sessions_end_time if answer.HasField("sessions_end_time") else None

    async def forge(seal):
        row = f"INSERT INTO ended_sessions SELECT '{ORG}', 'ann', now(), 'admin-1', {seal}"
        async with compliance.database.begin(ORG) as tx:
            await tx.execute(sa.text(row))

    await forge("'made up'")
    assert await read_end() is None
    request = parties_pb2.EndSessionsRequest(idempotency_key="ended", person_id="ann")
    with acting_as(MAKER):
        ended = await compliance.parties.EndSessions(request, None)
    await forge("seal FROM ended_sessions ORDER BY ended_at DESC LIMIT 1")
    assert await read_end() == ended.end_time
    for _ in range(120):  # more than are read at once
        await forge("'made up'")
    assert await read_end() == ended.end_time
    request = parties_pb2.EndSessionsRequest(idempotency_key="ended-anew", person_id="ann")
    with acting_as(MAKER):
        ended_anew = await compliance.parties.EndSessions(request, None)
    counted = ROWS_NOT_SEALED.labels("ended_sessions")._value.get()
    assert await read_end() == ended_anew.end_time
    refused = ROWS_NOT_SEALED.labels("ended_sessions")._value.get() - counted
    assert refused < 100, "no more than a page is read once they are ended anew"


async def test_a_key_that_sql_altered_while_its_holders_sessions_end_works_no_more_once_it_is_put_right(
    service_database, tmp_path, postgres
):
    """Nor does what SQL made up beside it keep them from ending."""
    made_up = (
        "INSERT INTO api_keys (org_id, api_key_id, display_name, scopes, status, expires_at, created_by, next_digest,"
        " next_made_at, next_grace_seconds, metadata, version, created_at, updated_at) SELECT org_id, api_key_id || n,"
        " display_name, '{ANY_OTHER_WORD}', 'PENDING_APPROVAL', expires_at, created_by, 'x', now(), 0, '{}', 1,"
        " created_at, updated_at FROM api_keys, generate_series(1, 50) n"
    )
    async with serving(await service_database("compliance"), tmp_path) as desk:
        alters, altered_secret = await desk.open_key()
        works, _ = await desk.open_key()
        database, altering = desk.harness.database, "UPDATE api_keys SET approved_by = {}, version = version {} 1"
        where = f" WHERE api_key_id = '{alters.api_key_id}'"
        async with database.begin(ORG) as tx:
            await tx.execute(sa.text(altering.format("approved_by || 'x'", "+") + where))
            await tx.execute(sa.text(made_up))
        await desk.end_sessions()
        assert (await desk.read(alters))[0] == "ROW_NOT_SEALED"
        await servers.put_right(postgres.admin_dsn, database, altering.format("left(approved_by, -1)", "-") + where)
        assert [(await desk.read(each)).status for each in (alters, works)] == [K.ACTIVE, K.REVOKED]
        assert (await desk.exchange(alters, altered_secret))[0] == "UNAUTHENTICATED"


@pytest.mark.parametrize("first_to_go", ["later", "earlier"])
async def test_no_secret_works_that_somebody_rejected_whichever_approval_sql_had_hidden_until_it_was_put_right(
    service_database, tmp_path, first_to_go, postgres
):
    async with serving(await service_database("compliance"), tmp_path) as desk:

        async def hide(number: int) -> None:
            waiting = f"(SELECT approval_id FROM approvals WHERE status = 'PENDING' ORDER BY 1 OFFSET {number} LIMIT 1)"
            hidden = f"UPDATE approvals SET note = 'x', version = version + 1 WHERE approval_id = {waiting}"
            async with desk.harness.database.begin(ORG) as tx:
                await tx.execute(sa.text(hidden))

        async def put_right() -> None:
            right = "UPDATE approvals SET note = NULL, version = version - 1 WHERE note = 'x'"
            await servers.put_right(postgres.admin_dsn, desk.harness.database, right)

        key, _ = await desk.open_key()
        earlier = (await desk.rotate(key)).secret
        await hide(0)
        later = (await desk.rotate(key)).secret
        await put_right()
        if first_to_go == "earlier":
            await hide(1)
        # The inbox shows the newest first, and nothing that cannot be read.
        await desk.decide(key, "Reject", note="no")
        if first_to_go == "earlier":
            await put_right()
            assert (await desk.decide(key))[0] == "CONTENT_OUTDATED"
        else:
            async with desk.harness.database.begin(ORG) as tx:
                assert not await tx.scalar(sa.text("SELECT count(*) FROM approvals WHERE status = 'PENDING'"))
        refusals = [await desk.exchange(key, secret) for secret in (earlier, later)]
        assert [reason for reason, _ in refusals] == ["UNAUTHENTICATED"] * 2


async def test_the_sessions_and_keys_of_a_person_end_whatever_sql_made_of_approvals_about_them(
    service_database, tmp_path
):
    async with serving(await service_database("compliance"), tmp_path) as desk:
        works, _ = await desk.open_key()
        waits = (await desk.create()).api_key
        async with desk.harness.database.begin(ORG) as tx:
            await tx.execute(sa.text("UPDATE approvals SET note = 'x', version = version + 1"))
        await desk.end_sessions()
        assert [(await desk.read(key)).status for key in (works, waits)] == [K.REVOKED] * 2
