"""Nobody reaches what is another's: every RPC there is, named with what somebody has, times everybody who has nothing
to do with it, over gRPC and over REST.

Strangers are the staff and investors of another organization, and in the same organization an investor of another party
and one who acts for the party no longer. What is answered to them has nothing of it, and nothing changes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from realco.type.v1 import access_pb2

from demo.harness.bank import COMES_BACK_AS_R17
from demo.harness.money import usd
from demo.harness.rest import RestClient
from deploy.local.instance import Instance
from gateway import contracts
from services.chassis.calls import validation
from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.calls.serving import server_of
from services.chassis.data.database import Database
from services.chassis.data.seals import Seals
from services.chassis.spelling.descriptors import option
from services.chassis.values.ids import new_id
from services.transactions.domain.sweeps import Sweep
from services.transactions.store.sweeps import SWEEPS
from tests.e2e.bad_requests import Targets
from tests.e2e.digest import digest, digest_when_settled
from tests.e2e.organization import Organization
from tests.support.rest_requests import write_rest
from tests.support.sample_requests import SampleRequests

# Whom the contract lets in at all.
METHODS = [method for method in contracts.methods() if not option(method, access_pb2.access).public]
# Every investor of an organization may see what is offered, and where its money goes.
OFFERED = {"off", "esc"}
# The limits that hold where an organization set none are everybody's.
NOBODYS = {"lim"}


@dataclass(frozen=True)
class Stranger:
    """Somebody who has nothing to do with what is named.

    Args:
        secrets: The ids that must not be in an answer, whatever it is.
    """

    title: str
    client: RestClient
    secrets: Mapping[str, str]


@pytest.fixture(scope="module")
def ids(targets: Targets, instance: Instance) -> dict[str, str]:
    """Prefix of an id -> what one party, its raise and its staff have of it."""
    org, party = targets.org, targets.ids["investor"]
    investor = org.sign_in_investor(party)
    if org.admin.get("/compliance-checks", partyId=party, status="MANUAL_REVIEW")["complianceChecks"]:
        org.clear_party(party)  # other stories took so long that its checks are too old
    offering = org.admin.get(f"/offerings/{targets.ids['offering']}")
    investment = org.invest(offering, party, 10_00)
    body = org.build_contribution(offering, investment, targets.ids["bank_account"])
    contribution = investor.post("/transactions", body)
    escrow_account = targets.ids["other_escrow_account"]
    approval = org.admin.post(f"/escrow-accounts/{org.open_escrow_account()}/close")["approval"]
    ledger = org.admin.get(f"/escrow-accounts/{escrow_account}/journal-entries")["journalEntries"]
    distribution = targets.ids["distribution"]
    allocations = org.admin.get(f"/distributions/{distribution}/allocations")["allocations"]
    hold = org.admin.post(
        f"/escrow-accounts/{escrow_account}/holds",
        {"ledgerAccount": {"kind": "DISTRIBUTABLE"}, "amount": usd(1_00), "reason": "MANUAL"},
    )
    checks = org.admin.get("/compliance-checks", partyId=party)["complianceChecks"]
    webhooks = org.admin.get("/webhooks")["webhooks"]
    return {
        "alloc": allocations[0]["allocationId"],
        "apr": approval["approvalId"],
        "ba": targets.ids["bank_account"],
        "chk": checks[0]["complianceCheckId"],
        "dist": distribution,
        "esc": escrow_account,
        "exc": find_exception(org),
        "hold": hold["holdId"],
        "inv": investment["investmentId"],
        "lim": org.admin.get("/transaction-limits")["transactionLimits"][0]["transactionLimitId"],
        "je": ledger[0]["journalEntryId"],
        "key": org.make_api_key("ESCROW_READ")["apiKey"]["apiKeyId"],
        "off": targets.ids["closed_offering"],
        "pty": party,
        "swp": asyncio.run(keep_sweep(instance, org.org_id)),
        "txn": contribution["transactionId"],
        "whk": webhooks[0]["webhookId"],
    }


async def keep_sweep(instance: Instance, org_id: str) -> str:
    """As the service would: the sandbox bank sweeps nothing."""
    url, now = instance.database_url("transactions"), datetime.now(UTC)
    seals = Seals([bytes.fromhex(instance.identity.keys.data_key("transactions"))])
    sweep = Sweep(
        sweep_id=new_id("swp"),
        feed="stripe:acct_1",
        destination="ba_1",
        provider="stripe",
        provider_sweep_id="po_1",
        currency="USD",
        arrives_at=now,
        made_at=now,
        created_at=now,
        updated_at=now,
    )
    database = Database(url, url, "transactions", seals)
    with acting_as(service_principal("transactions", org_id)):
        async with database.begin() as tx:
            await SWEEPS.insert(tx, sweep)
    await database.dispose()
    return sweep.sweep_id


def find_exception(org: Organization) -> str:
    """Of a contribution that comes back for a reason that a person judges."""
    made = org.contribute(org.open_offering(10_000_00), org.add_cleared_party(), 100_00, COMES_BACK_AS_R17)
    org.wait_for_transaction(made["transactionId"], "PENDING_SETTLEMENT")
    org.move_clock(org.now() + timedelta(days=4))
    org.wait_for_transaction(made["transactionId"], "RETURNED")
    [found] = org.admin.get("/exceptions", transactionId=made["transactionId"])["paymentExceptions"]
    return str(found["paymentExceptionId"])


def strangers(targets: Targets, ids: Mapping[str, str]) -> list[Stranger]:
    org, foreign = targets.org, targets.foreign
    of_org = {prefix: one for prefix, one in ids.items() if prefix not in NOBODYS}
    of_party = {prefix: one for prefix, one in of_org.items() if prefix not in OFFERED}
    former = "once-for-the-party"
    org.add_person(ids["pty"], former)
    org.admin.post(f"/parties/{ids['pty']}/persons/remove", {"personId": former})
    return [
        Stranger("an admin elsewhere", foreign.admin, of_org),
        Stranger("a sponsor's staff elsewhere", foreign.sponsor, of_org),
        Stranger("an auditor elsewhere", foreign.auditor, of_org),
        Stranger("an investor elsewhere", foreign.sign_in_investor(targets.foreign_ids["investor"]), of_org),
        Stranger("another investor", org.sign_in_investor(targets.ids["stranger"]), of_party),
        Stranger("an investor of nothing", org.sign_in("investor", "nobodys-investor"), of_party),
        Stranger("who acted for the party", org.sign_in("investor", former), of_party),
    ]


def call_rest(client: RestClient, method: MethodDescriptor, request: Message) -> tuple[str, str]:
    """The code of the refusal, or nothing; and all that was answered."""
    asked = write_rest(method, request, changes={"metadata": {"stranger": "was here"}})
    url = client.http.base_url.copy_with(path=asked.path)
    answer = client.http.request(asked.http_method, url, headers=asked.headers, **asked.sent)
    return (answer.json()["code"] if answer.is_error else ""), answer.text


def call_grpc(
    channels: Mapping[str, grpc.Channel], client: RestClient, method: MethodDescriptor, request: Message
) -> tuple[str, str]:
    interface = method.containing_service
    call = channels[server_of(interface)].unary_unary(
        f"/{interface.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    try:
        return "", str(call(request, metadata=(("authorization", f"Bearer {client.token}"),)))
    except grpc.RpcError as error:
        return error.code().name, str(error.details())


@pytest.fixture
def channels(instance: Instance) -> Iterator[Mapping[str, grpc.Channel]]:
    opened = {service: instance.open_channel(service) for service in contracts.servers()}
    yield opened
    for channel in opened.values():
        channel.close()


def names_what_is_anothers(request: Message, secrets: Mapping[str, str]) -> bool:
    return any(secret in str(request) for secret in secrets.values())


def test_a_stranger_reaches_nothing_and_changes_nothing_by_any_call(
    instance: Instance, targets: Targets, ids: dict[str, str], channels: Mapping[str, grpc.Channel]
) -> None:
    people = strangers(targets, ids)
    samples = SampleRequests(ids, person_id="somebody", soon=targets.org.now() + timedelta(days=30))
    before = digest_when_settled(instance)

    leaks, unseen, cells = [], [], Counter[str]()
    for method in METHODS:
        for stranger in people:
            request = samples.make(method)
            validation.validate(request)
            naming = names_what_is_anothers(request, stranger.secrets)
            if not naming and not method.name.startswith(("Get", "List")):
                continue  # it makes something of its own
            for way, (code, answer) in (
                ("REST", call_rest(stranger.client, method, request)),
                ("gRPC", call_grpc(channels, stranger.client, method, request)),
            ):
                cells[way] += 1
                cell = f"{method.name}, {stranger.title}, {way}"
                told = [secret for prefix, secret in stranger.secrets.items() if secret in answer]
                if not code and told:
                    leaks.append(f"{cell}: {told}")
                elif code and not (code.endswith("NOT_FOUND") or code == "PERMISSION_DENIED"):
                    unseen.append(f"{cell}: {code} {answer[-250:]}")
    assert leaks == []
    assert unseen == [], "refused for another reason: whether it is there was not asked"
    assert digest(instance) == before
    assert cells["REST"] == cells["gRPC"] > 5 * len(METHODS)


def test_who_may_reaches_it_all_so_that_the_strangers_were_refused_for_what_they_are(
    targets: Targets, ids: dict[str, str], channels: Mapping[str, grpc.Channel]
) -> None:
    samples = SampleRequests(ids, person_id="somebody", soon=targets.org.now() + timedelta(days=30))
    reads = [method for method in METHODS if method.name.startswith(("Get", "List"))]
    refused = []
    for method in reads:
        request = samples.make(method)
        for code, answer in (
            call_rest(targets.org.admin, method, request),
            call_grpc(channels, targets.org.admin, method, request),
        ):
            refused += [f"{method.name}: {code} {answer[:200]}"] if code else []
    assert refused == []
