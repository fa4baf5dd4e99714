"""Whoever takes over one person, key or login takes no money with it: each is tried here as the attacker would.

docs/takeovers.md is the table of all of them, and names the tests of each part.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from realco.compliance.v1 import notary_pb2_grpc
from realco.compliance.v1.notary_pb2 import RecordApprovalRequest
from realco.escrow.v1 import postings_pb2 as postings
from realco.type.v1.money_pb2 import Money

from demo.harness.polling import wait_for
from demo.harness.rest import API, Json, new_key
from deploy.local.instance import Instance
from deploy.topology import NATS_USER_NAMES, SERVICE_NAMES, SUBSCRIBER, database_of
from services.chassis.events.subjects import COMMITTED_SUBJECT
from services.chassis.values.ids import new_id
from tests.e2e.organization import Organization
from tests.e2e.providers import signed
from tests.e2e.takeover_scene import (
    Picture,
    Scene,
    Waiting,
    ask_anew,
    ask_for_everything,
    open_scene,
    picture,
    read_log,
)
from tests.e2e.takeover_tables import CHECKERS, MADE_UP_EVENT, NOT_OF_THE_SESSION, SQL, list_attempts, sign_in
from tests.e2e.thief import PAYOUTS, Thief, connect_to_nats, connect_to_postgres, run_sql


@pytest.fixture(scope="module")
def scene(instance: Instance) -> Iterator[Scene]:
    org = Organization(instance)
    made = open_scene(org)
    made.waiting = ask_for_everything(made)
    yield made
    org.close()


@pytest.fixture(scope="module")
def before(scene: Scene) -> Picture:
    return picture(scene)


# --- a person --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", CHECKERS)
def test_what_one_admin_asked_for_is_done_by_nobody_who_is_no_second_person(
    scene: Scene, before: Picture, who: str
) -> None:
    log = read_log(scene.org.instance, "gateway")
    client = sign_in(scene, who)
    refused = {title: way.approve(client) for title, way in scene.waiting.items()}
    client.close()
    assert {title: code for title, code in refused.items() if not code.endswith(CHECKERS[who])} == {}
    assert picture(scene) == before
    told = [line for line in log() if line["event"] == "http" and line["status"] >= 400]
    assert len(told) >= len(refused)
    waiting = scene.org.second_admin.list_all("/approvals", "approvals", status="PENDING")
    assert {"admin-1"} == {maker for one in waiting for maker in one["makers"] if one["kind"] == "POST_JOURNAL_ENTRY"}
    assert len(waiting) >= len(refused) - 2, "all but the wires stand in the inbox of everybody else"


@pytest.mark.parametrize(
    ("who", "titles"),
    [
        (
            "an admin who is the sponsor",
            (
                "another account of the sponsor",
                "the proceeds",
                "cash of the issuer that never came",
                "cash out of nothing",
                "the end of a hold",
            ),
        ),
        (
            "an admin who is the investor",
            ("another account of the investor", "a refund of what was paid", "cash of the issuer that never came"),
        ),
    ],
    ids=["sponsor", "investor"],
)
def test_staff_who_is_also_the_party_that_gains_approves_nothing_of_it(
    scene: Scene, before: Picture, who: str, titles: tuple[str, ...]
) -> None:
    client = sign_in(scene, who)
    refused = {title: scene.waiting[title].approve(client) for title in titles}
    client.close()
    assert refused == dict.fromkeys(titles, "BENEFICIARY_IS_CHECKER")
    assert picture(scene) == before


def test_nobody_alone_moves_creates_redirects_or_hides_money(scene: Scene, before: Picture) -> None:
    log, wrong, attempts = read_log(scene.org.instance, "gateway"), [], list(list_attempts(scene))
    clients = {who: sign_in(scene, who) for who, *_ in attempts}
    for who, method, path, body, expected in attempts:
        client = clients[who]
        known = client.request("GET", path if method in ("PATCH", "DELETE") else path.rpartition("/")[0])
        etag = known.json().get("etag", "0") if known.is_success else "0"
        decided_on = method != "POST" or path.endswith(("/approve", "/confirm"))
        headers = {"Idempotency-Key": new_key()} | ({"If-Match": f'"{etag}"'} if decided_on else {})
        options: Json = {} if method == "DELETE" else {"json": body}
        answer = client.request(method, path, headers=headers, **options)
        code = "" if answer.is_success else answer.json()["code"]
        if code != expected:
            wrong.append(f"{who}, {method} {path} {body}: {code or 'done'} {answer.text[:200]}")
    for client in clients.values():
        client.close()
    assert wrong == []
    assert picture(scene) == before
    refused = [line for line in log() if line["event"] == "http" and line["status"] >= 400]
    assert len(refused) >= len(attempts)
    assert {line.get("principal") for line in refused} >= {who.replace(" ", "-") for who in clients}


# --- a key -----------------------------------------------------------------------------------------------------------


def test_the_secret_of_webhooks_has_us_ask_and_says_nothing(scene: Scene, before: Picture) -> None:
    org, paid = scene.org, scene.org.admin.get(f"/transactions/{scene.contribution['transactionId']}")
    payments = {"the one that settled": paid["providerReference"], "one that is none": "pay_of_nobody"}
    sent = set()
    for payment in payments.values():
        for kind in ("payment.returned", "payment.failed", "payment.settled"):
            event_id = f"evt_{secrets.token_hex(8)}"
            body = json.dumps({"id": event_id, "type": kind, "data": {"payment": {"id": payment}}}).encode()
            headers = {"Sandbox-Signature": signed(org.instance.identity.webhook_secret(), body)}
            url = f"{org.instance.base_url}{API}/webhooks/sandbox"
            answer = httpx.post(
                url, content=body, headers=headers | {"Content-Type": "application/json"}, trust_env=False
            )
            assert answer.status_code == 200, answer.text
            sent |= {answer.json()["webhookId"]} if payment == paid["providerReference"] else set()
    wait_for(
        "the webhooks to be applied, and shown to staff",
        lambda: org.admin.list_all("/webhooks", "webhooks", status="APPLIED"),
        lambda read: sent <= {one["webhookId"] for one in read},
    )
    assert org.admin.get(f"/transactions/{paid['transactionId']}")["status"] == paid["status"]
    assert picture(scene) == before


def list_orders(scene: Scene, thief: Thief) -> dict[str, Any]:
    """What each RPC between services that moves money answers to the key."""
    account, usd_minor = scene.closed["escrowAccountId"], Money(currency_code="USD", amount_minor=800_00)
    part = postings.PartyAmount(party_id=scene.sponsor, amount=usd_minor)
    known = {"idempotency_key": "f" * 64, "escrow_account_id": account}
    payout = postings.BatchBookPayoutsRequest.Item(
        idempotency_key=f"txn:{scene.proceeds}:1:submit",
        escrow_account_id=account,
        transaction_id=scene.proceeds,
        type="ESCROW_WITHDRAWAL",
        party_id=scene.sponsor,
        amount=usd_minor,
    )
    release = postings.ReleaseSubscriptionsRequest(
        **known, offering_id=scene.closed["offeringId"], subscriptions=[part]
    )
    declaration = postings.DeclareDistributionRequest(**known, distribution_id=new_id("dist"), payables=[part])
    return {
        "pay": thief.order("BatchBookPayouts", postings.BatchBookPayoutsRequest(items=[payout])),
        "declare": thief.order("DeclareDistribution", declaration),
        "release": thief.order("ReleaseSubscriptions", release),
    } | thief.pay(account, scene.sponsor, 800_00)


NO = "PERMISSION_DENIED"
# The key of -> what escrow answers to the orders that move money, and transactions to payouts; and what is said of it.
KEYS = {
    "transactions": ({"pay": "PAYOUT_NOT_KNOWN", "declare": NO, "release": NO}, NO, [("escrow", "payout_not_known")]),
    "escrow": ({"pay": NO, "declare": NO, "release": NO}, NO, []),
    "distributions": (
        {"pay": NO, "declare": "MOVEMENT_NOT_ORDERED", "release": "MOVEMENT_NOT_ORDERED"},
        "PAYOUT_NOT_ORDERED",
        [("compliance", "movement_not_decided"), ("transactions", "payout_not_ordered")],
    ),
    "compliance": ({"pay": NO, "declare": NO, "release": NO}, NO, []),
}


@pytest.mark.parametrize("service", KEYS)
def test_the_key_of_one_service_moves_no_money_and_its_refusals_are_told(
    scene: Scene, before: Picture, service: str
) -> None:
    instance = scene.org.instance
    logs = {name: read_log(instance, name) for name in SERVICE_NAMES}
    orders, payouts, said = KEYS[service]
    alone = list_orders(scene, Thief(scene.org, service, certificate="gateway"))
    assert set(alone.values()) == {"UNAUTHENTICATED"}
    assert list_orders(scene, Thief(scene.org, service)) == orders | dict.fromkeys(PAYOUTS, payouts)
    assert picture(scene) == before
    told = {(name, line["event"]) for name, read in logs.items() for line in read() if line["level"] != "info"}
    assert told >= {*said, *((callee, "token_of_another_process") for callee in ("escrow", "transactions"))}
    calls = [line for read in logs.values() for line in read() if line["event"] == "rpc" and line["code"] != "OK"]
    reasons = {line["reason"] for line in calls if line.get("principal") == f"service:{service}"}
    assert reasons == {*orders.values(), payouts}


def test_no_service_says_that_a_person_decided(scene: Scene, before: Picture) -> None:
    """The notary takes it from the person's own token."""
    asked = RecordApprovalRequest()
    for service in SERVICE_NAMES:
        answer = Thief(scene.org, service).call(
            "compliance", notary_pb2_grpc.NotaryServiceStub, "RecordApproval", asked
        )
        assert answer == NO, service
    assert picture(scene) == before


# --- a user of NATS --------------------------------------------------------------------------------------------------

FORGED = {
    # The user of -> an event of its own area that would give money or power, and who hears it.
    "transactions": ("TransactionSettled", "escrow"),
    "compliance": ("PartyPersonAdded", "distributions"),
}


async def forge(scene: Scene, service: str, event: str) -> None:
    """The last such event once more, under another id, with the signature of the genuine one."""
    subject = f"realco.{service}.v1.{event}.{scene.org.org_id}.>"
    async with (
        connect_to_nats(scene.org.instance, SUBSCRIBER) as reader,
        connect_to_nats(scene.org.instance, service) as thief,
    ):
        last = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.LAST)
        pull = await reader.jetstream().pull_subscribe(subject, stream=service.upper(), config=last)
        [genuine] = await pull.fetch(1, timeout=10)
        event_id = secrets.token_hex(16)
        headers = dict(genuine.headers or {}) | {"ce-id": event_id, "Nats-Msg-Id": event_id}
        await thief.jetstream().publish(genuine.subject, genuine.data, headers=headers)


@pytest.mark.parametrize("service", FORGED)
async def test_an_event_with_a_copied_signature_books_nothing_and_is_set_aside(
    scene: Scene, before: Picture, service: str
) -> None:
    event, hearer = FORGED[service]
    log = read_log(scene.org.instance, hearer)
    await forge(scene, service, event)
    wait_for(
        "the event to be set aside",
        lambda: [line for line in log() if line["event"] == "dead_letter"],
        lambda lines: any(scene.org.org_id in line["subject"] and "NotProven" in line["cause"] for line in lines),
    )
    assert await asyncio.to_thread(picture, scene) == before
    consumer = f"{hearer}-on-{service}"
    reminders = wait_for(
        "somebody to be told what waits",
        lambda: [line for line in log() if (line["event"], line.get("consumer")) == ("dead_letters_wait", consumer)],
        bool,
    )
    ready = await asyncio.to_thread(httpx.get, f"{scene.org.instance.base_url}/readyz", trust_env=False)
    alarms = ready.json()["alarms"].get(hearer, [])
    is_alarm = any(f"dead letters of {consumer}:" in alarm for alarm in alarms)
    assert (ready.status_code, is_alarm) == (200, hearer == "escrow"), "it is about money, and stops none"
    assert reminders[-1]["about_money"] == is_alarm


@pytest.mark.parametrize("user", NATS_USER_NAMES)
async def test_no_user_of_nats_says_what_is_anothers_and_the_server_s_log_names_it(
    scene: Scene, before: Picture, user: str
) -> None:
    log, refused = scene.org.instance.data_dir / "logs" / "nats.log", list[str]()
    subjects = [
        f"realco.{name}.v1.TransactionSettled.{scene.org.org_id}._" for name in SERVICE_NAMES if name != user
    ] + ["$JS.API.STREAM.PURGE.TRANSACTIONS", "$JS.EVENTS.API.STREAM.DELETE.ESCROW", "realco.told.mine"]
    size = log.stat().st_size
    async with connect_to_nats(scene.org.instance, user, refused) as client:
        for subject in subjects:
            await client.publish(subject, b"{}")
        await client.flush()
        await asyncio.to_thread(wait_for, "the refusals", lambda: len(refused), lambda found: found >= len(subjects))
    said = log.read_bytes()[size:].decode()
    assert [subject for subject in subjects if f'Subject "{subject}"' not in said or user not in said] == []
    assert await asyncio.to_thread(picture, scene) == before


# --- a login of PostgreSQL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SQL)
async def test_neither_login_of_a_service_writes_by_itself(scene: Scene, before: Picture, service: str) -> None:
    instance, known = scene.org.instance, database_of(service)
    signed_in = instance.data_dir / "logs" / "postgres.log"
    size = signed_in.stat().st_size
    for role in (known.app_role, known.worker_role):
        connection = await connect_to_postgres(scene.org, service, role)
        assert {await run_sql(connection, statement) for statement in SQL[service]} <= {"42501", "58000"}
        with pytest.raises(asyncpg.PostgresSystemError, match="outbox is written by its service alone"):
            await connection.execute(MADE_UP_EVENT, scene.org.org_id, uuid.uuid4(), f"realco.{service}.v1.Mine")
        await connection.close()
        assert f"connection authorized: user={role} " in signed_in.read_bytes()[size:].decode()
    assert await asyncio.to_thread(picture, scene) == before


@pytest.mark.parametrize("service", SQL)
async def test_neither_login_of_a_service_edits_money_and_an_event_that_it_makes_up_is_told_to_nobody(
    scene: Scene, before: Picture, service: str
) -> None:
    instance, known = scene.org.instance, database_of(service)
    log = read_log(instance, service)
    for tries, role in enumerate((known.app_role, known.worker_role), start=1):
        connection = await connect_to_postgres(scene.org, service, role, with_proof=True)
        assert {statement: await run_sql(connection, statement) for statement in SQL[service]} == SQL[service]
        await connection.execute(MADE_UP_EVENT, scene.org.org_id, uuid.uuid4(), f"realco.{service}.v1.Mine")
        await connection.close()
        async with connect_to_nats(instance, service) as thief:  # who has the login of both hurries it
            await thief.publish(COMMITTED_SUBJECT)
            await thief.flush()
        await asyncio.to_thread(
            wait_for,
            "the event to be refused",
            lambda: [line for line in log() if (line["event"], line.get("place")) == ("row_not_sealed", "outbox")],
            lambda lines, tries=tries: len(lines) == tries,
        )
    assert await asyncio.to_thread(picture, scene) == before


async def test_a_payout_that_sql_approved_is_not_paid(scene: Scene, before: Picture) -> None:
    instance = scene.org.instance
    log, role = read_log(instance, "transactions"), database_of("transactions").app_role
    connection = await connect_to_postgres(scene.org, "transactions", role, with_proof=True)
    for step in ("status = 'APPROVED', approved_by = 'admin-2'", "status = 'QUEUED'"):
        done = await connection.execute(
            f"UPDATE transactions SET {step}, previous_status = status, version = version + 1, due_at = now(),"
            f" epoch = epoch + 1 WHERE transaction_id = '{scene.proceeds}'"
        )
        assert done == "UPDATE 1"
    await connection.close()
    await asyncio.to_thread(
        wait_for,
        "the row to be found out",
        lambda: [line for line in log() if line["event"] == "row_not_sealed"],
        lambda lines: any(scene.proceeds in line["row"] for line in lines),
    )
    assert await asyncio.to_thread(picture, scene) == before


def test_the_yes_of_a_second_person_is_what_all_of_them_lacked(scene: Scene, before: Picture) -> None:
    assert scene.waiting["the end of a hold"].approve(scene.org.second_admin) == ""
    assert {name for name, seen in picture(scene).items() if seen != before[name]} == {"held"}


def test_what_a_thief_asked_for_is_approved_by_nobody_once_the_thief_is_locked_out(scene: Scene) -> None:
    """With the token that asked for all of it nobody writes any more."""
    before = picture(scene)
    org, stolen = scene.org, {title: way for title, way in scene.waiting.items() if title not in NOT_OF_THE_SESSION}
    assert org.second_admin.post("/sessions/end", {"personId": org.admin.user})["personId"] == org.admin.user
    checker = org.sign_in("admin", "admin-3")
    refused = {title: way.approve(checker) for title, way in stolen.items()}
    # With the sessions of its holder the API key was revoked.
    assert refused == dict.fromkeys(stolen, "MAKER_SESSION_ENDED") | {"an API key": "ETAG_MISMATCH"}
    assert picture(scene) == before
    path = stolen["the end of an account"].path.removesuffix("/approve")
    read = org.second_admin.get(path)
    assert "MAKER_SESSION_ENDED" in {each["rule"] for each in read["explanations"]}
    assert read["allowedActions"] == ["reject", "comment"]
    assert org.second_admin.post(f"{path}/reject", {"note": "Not hers."}, etag=read["etag"])["status"] == "REJECTED"
    asked = wait_for("the new sign-in to count", lambda: ask_anew(scene), lambda answer: "approval" in answer)
    assert org.approve(asked)["status"] == "EXECUTED"


def read_its_end(org: Organization, way: Waiting) -> Waiting:
    """As it is once its end is written down: who decides on an earlier version is told that it changed."""
    path = way.path.removesuffix("/approve")
    read = wait_for("its end", lambda: org.second_admin.get(path), lambda read: read["status"] == "EXPIRED")
    return replace(way, etag=read["etag"])


def test_what_nobody_decided_in_a_week_is_done_by_no_second_person_either(scene: Scene, before: Picture) -> None:
    org = scene.org
    org.move_clock(org.now() + timedelta(days=7, minutes=1))
    ways = {title: way for title, way in scene.waiting.items() if title in ("cash out of nothing", "a higher limit")}
    assert {title: read_its_end(org, way).approve(org.second_admin) for title, way in ways.items()} == dict.fromkeys(
        ways, "APPROVAL_EXPIRED"
    )
    after = picture(scene)
    assert {name: after[name] for name in ("book", "bank", "limits", "persons")} == {
        name: before[name] for name in ("book", "bank", "limits", "persons")
    }
