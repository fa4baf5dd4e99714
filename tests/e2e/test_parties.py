"""A person acts for an LLC and an IRA: invests through both, sees both, and nobody else's; over REST and over gRPC."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from realco.compliance.v1 import parties_pb2 as pty
from realco.compliance.v1 import parties_pb2_grpc as pty_grpc
from realco.distributions.v1 import offerings_pb2 as off
from realco.distributions.v1 import offerings_pb2_grpc as off_grpc
from realco.transactions.v1 import transactions_pb2 as txn
from realco.transactions.v1 import transactions_pb2_grpc as txn_grpc
from realco.type.v1 import money_pb2

from demo.harness.bank import AT_ONCE, ROUTING_NUMBER, account_number_of
from demo.harness.money import usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json, RestClient, new_key
from deploy.local.instance import Instance
from tests.e2e.organization import Organization, agree_to, metadata_of, open_client

AMOUNT_MINOR = 200_00


@dataclass(frozen=True)
class Stubs:
    """Plain gRPC stubs of what an investor uses."""

    parties: Any
    investments: Any
    transactions: Any


@pytest.fixture
def stubs(instance: Instance) -> Iterator[Stubs]:
    with (
        instance.open_channel("compliance") as compliance,
        instance.open_channel("distributions") as distributions,
        instance.open_channel("transactions") as transactions,
    ):
        yield Stubs(
            pty_grpc.PartiesServiceStub(compliance),
            off_grpc.InvestmentsServiceStub(distributions),
            txn_grpc.TransactionsServiceStub(transactions),
        )


def sign_in_person(org: Organization, *parties: str) -> RestClient:
    """A person who acts for the parties, under a name that large issuers of tokens really give."""
    person = f"auth0|{secrets.token_hex(12)}"
    for party in parties:
        org.add_person(party, person)
    return org.sign_in("investor", person)


def contribute(person: RestClient, org: Organization, offering: Json, party: str) -> Json:
    """The person's own way from a bank account to a contribution of the party."""
    account = person.post(
        "/bank-accounts",
        {
            "partyId": party,
            "accountHolderName": "Account of a party",
            "routingNumber": ROUTING_NUMBER,
            "accountNumber": account_number_of(AT_ONCE),
        },
    )
    body = agree_to(offering) | {"partyId": party, "amount": usd(AMOUNT_MINOR)}
    investment = person.post("/investments", body)
    return person.post("/transactions", org.build_contribution(offering, investment, account["bankAccountId"]))


def list_owners(person: RestClient, path: str, items: str) -> set[str]:
    return {one["partyId"] for one in person.get(path)[items]}


def list_all_owners(person: RestClient) -> list[set[str]]:
    """Whose investments, transactions and bank accounts the person sees."""
    lists = (("/investments", "investments"), ("/transactions", "transactions"), ("/bank-accounts", "bankAccounts"))
    return [list_owners(person, *each) for each in lists]


def test_a_person_invests_through_an_llc_and_an_ira_and_sees_both_and_nobody_elses(
    org: Organization, stubs: Stubs
) -> None:
    llc, ira = org.add_cleared_party(kind="LLC"), org.add_cleared_party(kind="IRA")
    strangers = org.add_cleared_party()
    offering = org.open_offering(10 * AMOUNT_MINOR)
    theirs = org.fund_investment(offering, strangers, AMOUNT_MINOR)
    ann = sign_in_person(org, llc, ira)

    me = ann.get("/me")
    assert (me["personId"], me["roles"], me["orgId"]) == (ann.user, ["INVESTOR"], org.org_id)
    assert {(one["partyId"], one["kind"], one["cleared"]) for one in me["parties"]} == {
        (llc, "LLC", True),
        (ira, "IRA", True),
    }
    paid = {party: contribute(ann, org, offering, party) for party in (llc, ira)}
    for party, contribution in paid.items():
        org.wait_for_transaction(contribution["transactionId"], "SETTLED", "COMPLETED")
        assert contribution["partyId"] == party

    both = {llc, ira}
    wait_for("every list to show both parties", lambda: list_all_owners(ann), lambda read: read == [both] * 3)
    assert {one["partyId"] for one in ann.get("/parties")["parties"]} == both
    assert {one["partyId"] for one in ann.get("/investments", partyId=llc)["investments"]} == {llc}
    assert ann.get(f"/transactions/{paid[ira]['transactionId']}")["partyId"] == ira

    # Nobody else's: neither to read, nor to pay for, nor by leaving out whom it is about.
    ann.expect_refusal(404, "PARTY_NOT_FOUND", "GET", f"/parties/{strangers}")
    ann.expect_refusal(404, "PARTY_NOT_FOUND", "GET", f"/investments?partyId={strangers}")
    ann.expect_refusal(404, "TRANSACTION_NOT_FOUND", "GET", f"/transactions/{theirs['transactionId']}")
    ann.expect_refusal(404, "INVESTMENT_NOT_FOUND", "POST", f"/investments/{theirs['investmentId']}/cancel")
    body: Json = agree_to(offering) | {"amount": usd(AMOUNT_MINOR)}
    ann.expect_refusal(404, "PARTY_NOT_FOUND", "POST", "/investments", body | {"partyId": strangers})
    unnamed = ann.expect_refusal(400, "INVALID_FIELD", "POST", "/investments", body)
    assert [fault["pointer"] for fault in unnamed.problem["errors"]] == ["/partyId"]

    check_the_same_over_grpc(stubs, metadata_of(ann), both, strangers, offering)


def check_the_same_over_grpc(
    stubs: Stubs, me: tuple[tuple[str, str], ...], both: set[str], strangers: str, offering: Json
) -> None:
    assert {one.party_id for one in stubs.parties.GetMe(pty.GetMeRequest(), metadata=me).parties} == both
    invested = stubs.investments.ListInvestments(off.ListInvestmentsRequest(), metadata=me)
    moved = stubs.transactions.ListTransactions(txn.ListTransactionsRequest(), metadata=me)
    assert {one.party_id for one in invested.investments} == {one.party_id for one in moved.transactions} == both
    wanted = off.CreateInvestmentRequest(
        idempotency_key=new_key(),
        offering_id=offering["offeringId"],
        terms_etag=offering["termsEtag"],
        party_id=sorted(both)[0],
        amount=money_pb2.Money(currency_code="USD", amount_minor=AMOUNT_MINOR),
    )
    assert stubs.investments.CreateInvestment(wanted, metadata=me).party_id == wanted.party_id
    wanted.party_id = strangers
    with pytest.raises(grpc.RpcError) as refused:
        stubs.investments.CreateInvestment(wanted, metadata=me)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_person_who_is_added_reaches_the_party_and_one_who_is_removed_moves_no_money_from_then_on(
    org: Organization, stubs: Stubs
) -> None:
    llc, ira = org.add_cleared_party(kind="LLC"), org.add_cleared_party(kind="IRA")
    offering = org.open_offering(10 * AMOUNT_MINOR)
    ann, bob = sign_in_person(org, llc, ira), sign_in_person(org, ira)
    contribute(ann, org, offering, llc)
    bob.expect_refusal(404, "PARTY_NOT_FOUND", "GET", f"/investments?partyId={llc}")

    org.add_person(llc, bob.user)
    bobs = contribute(bob, org, offering, llc)  # for money it is true at once
    wait_for(
        "the person who was added to see the party's transactions",
        lambda: list_owners(bob, "/transactions", "transactions"),
        lambda read: llc in read,
    )
    persons = {one["personId"]: one for one in org.auditor.get(f"/parties/{llc}/persons")["persons"]}
    assert {ann.user, bob.user} <= persons.keys()

    title = {"personId": bob.user, "title": "Manager"}
    manager = org.do_together(f"/parties/{llc}/persons", title, etag=persons[bob.user]["etag"])
    assert manager["title"] == "Manager"
    org.admin.post(f"/parties/{llc}/persons/remove", {"personId": bob.user}, etag=manager["etag"])
    assert bob.user not in {one["personId"] for one in org.auditor.get(f"/parties/{llc}/persons")["persons"]}
    body = agree_to(offering) | {"partyId": llc, "amount": usd(AMOUNT_MINOR)}
    bob.expect_refusal(404, "PARTY_NOT_FOUND", "POST", "/investments", body)
    bob.expect_refusal(404, "TRANSACTION_NOT_FOUND", "POST", f"/transactions/{bobs['transactionId']}/cancel")
    wanted = off.CreateInvestmentRequest(
        idempotency_key=new_key(),
        offering_id=offering["offeringId"],
        terms_etag=offering["termsEtag"],
        party_id=llc,
        amount=money_pb2.Money(currency_code="USD", amount_minor=AMOUNT_MINOR),
    )
    with pytest.raises(grpc.RpcError) as refused:
        stubs.investments.CreateInvestment(wanted, metadata=metadata_of(bob))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    wait_for(
        "the person who was removed to see nothing of the party",
        lambda: [read - {ira} for read in list_all_owners(bob)],
        lambda read: not any(read),
    )
    assert ann.get(f"/transactions/{bobs['transactionId']}")["partyId"] == llc
    assert {one["partyId"] for one in bob.get("/me")["parties"]} == {ira}


def test_who_is_named_for_a_party_by_somebody_else_reaches_it_once_another_person_passed_kyc(org: Organization) -> None:
    ira = org.add_cleared_party(kind="IRA")
    offering = org.open_offering(10 * AMOUNT_MINOR)
    bob = sign_in_person(org, ira)
    body = agree_to(offering) | {"amount": usd(AMOUNT_MINOR)}
    facts = {"kind": "LLC", "legalName": "Oak LLC", "persons": [{"personId": bob.user}]}
    llc = str(org.admin.post("/parties", facts)["partyId"])
    bob.expect_refusal(404, "PARTY_NOT_FOUND", "POST", "/investments", body | {"partyId": llc})
    bob.expect_refusal(404, "PARTY_NOT_FOUND", "GET", f"/investments?partyId={llc}")
    assert bob.post("/investments", body)["partyId"] == ira, "whom he acts for is as plain as it was"

    org.clear_party(llc)
    assert bob.post("/investments", body | {"partyId": llc})["partyId"] == llc
    wait_for(
        "the person who was named to see the party's investments",
        lambda: list_owners(bob, "/investments", "investments"),
        lambda read: llc in read,
    )


def test_whose_sessions_were_ended_moves_no_money_from_then_on_and_signs_in_again(instance: Instance) -> None:
    org = Organization(instance)  # whose second admin is signed out
    party = org.add_cleared_party()
    offering = org.open_offering(10 * AMOUNT_MINOR)
    ann = sign_in_person(org, party)
    ordered = contribute(ann, org, offering, party)
    account = f"/escrow-accounts/{org.open_escrow_account()}"
    asked = org.admin.decide(account, "close")["approval"]
    read = org.second_admin.get(f"/approvals/{asked['approvalId']}")
    approve = f"/approvals/{asked['approvalId']}/approve", {"contentHash": read["contentHash"]}

    for user in (ann.user, org.second_admin.user):
        assert org.admin.post("/sessions/end", {"personId": user})["personId"] == user
    ended = 401, "SESSION_ENDED", "POST"
    body = agree_to(offering) | {"partyId": party, "amount": usd(AMOUNT_MINOR)}
    ann.expect_refusal(*ended, "/investments", body)
    ann.expect_refusal(*ended, f"/transactions/{ordered['transactionId']}/cancel")
    org.second_admin.expect_refusal(*ended, *approve, etag=read["etag"])
    bank = {"partyId": party, "accountHolderName": "Eve", "routingNumber": "021000021", "accountNumber": "123456789"}
    # Nor does staff ask for anything, or take anything away, in any service.
    for path, asks in (
        (f"{account}/freeze", {"note": "a whim"}),
        ("/bank-accounts", bank),
        (f"/offerings/{offering['offeringId']}/refund", {"note": "a whim"}),
        ("/sessions/end", {"personId": org.admin.user}),
    ):
        org.second_admin.expect_refusal(*ended, path, asks)

    def send_again(role: str, user: str, path: str, body: Json, etag: str = "") -> int:
        """With the token of a new sign-in; answers the status."""
        client = open_client(org.instance, user, org.instance.issue_token(role, user, org.org_id))
        headers = {"Idempotency-Key": f"{user}-again"} | ({"If-Match": f'"{etag}"'} if etag else {})
        answer = client.request("POST", path, json=body, headers=headers)
        client.close()
        return answer.status_code

    # Tokens tell the time in whole seconds: the sign-in may be of the second in which the sessions were ended.
    for send in (
        lambda: send_again("investor", ann.user, "/investments", body),
        lambda: send_again("admin", org.second_admin.user, *approve, etag=read["etag"]),
    ):
        assert wait_for("the new sign-in to count", send, lambda status: status != 401) in (200, 201)
    org.close()


@pytest.fixture(scope="module")
def party(org: Organization) -> str:
    return org.add_cleared_party()


@pytest.mark.parametrize(
    "person",
    [
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "ann@example.org",
        "https://issuer.example/users/7",
        "CORP\\ann",
        "Ann Marie Ødegård",
        "a" * 255,
    ],
)
def test_whoever_an_issuer_names_can_act_for_a_party(org: Organization, party: str, person: str) -> None:
    org.add_person(party, person)
    me = org.sign_in("investor", person).get("/me")
    assert (me["personId"], [one["partyId"] for one in me["parties"]]) == (person.casefold(), [party])
    assert org.admin.post(f"/parties/{party}/persons/remove", {"personId": person})["partyId"] == party
    left = org.auditor.get(f"/parties/{party}/persons")["persons"]
    assert person.casefold() not in {one["personId"] for one in left}


def test_a_change_of_a_party_names_what_it_was_decided_on_and_leaves_the_rest(org: Organization) -> None:
    party = org.add_cleared_party()
    read = org.admin.request("GET", f"/parties/{party}")
    etag, before = read.headers["ETag"], read.json()
    assert before["allowedActions"] == ["update", "add_person", "remove_person"]

    unconditional = org.admin.request("PATCH", f"/parties/{party}", json={"externalId": "crm-7"})
    assert unconditional.status_code == 428
    patch: Json = {"externalId": "crm-7", "metadata": {"source": "crm"}}
    changed = org.admin.request("PATCH", f"/parties/{party}", json=patch, headers={"If-Match": etag})
    assert changed.status_code == 200
    same = before.keys() - {"externalId", "metadata", "etag", "updateTime", "aggregateVersion"}
    assert {name: changed.json()[name] for name in same} == {name: before[name] for name in same}
    assert {name: changed.json()[name] for name in patch} == patch
    assert [one["partyId"] for one in org.admin.get("/parties", externalId="crm-7")["parties"]] == [party]
    again = org.admin.request("PATCH", f"/parties/{party}", json=patch, headers={"If-Match": etag})
    assert (again.status_code, again.json()["code"]) == (412, "ETAG_MISMATCH")


def test_a_party_that_is_not_there_is_refused_wherever_staff_names_it(org: Organization) -> None:
    investor, nobody = org.add_cleared_party(), f"pty_{'0' * 26}"
    offering = org.open_offering(10 * AMOUNT_MINOR)
    investment = org.invest(offering, investor, AMOUNT_MINOR)
    contribution = org.build_contribution(offering, investment, org.add_bank_account(investor))
    account = {
        "accountHolderName": "Nobody",
        "routingNumber": ROUTING_NUMBER,
        "accountNumber": account_number_of(AT_ONCE),
    }
    opening = {
        "displayName": "Nobody's",
        "escrowAccountId": offering["escrowAccountId"],
        "exemption": "REG_CF",
        "targetAmount": usd(AMOUNT_MINOR),
        "deadlineTime": (org.now() + timedelta(days=60)).isoformat(),
    }
    committed = agree_to(offering) | {"amount": usd(AMOUNT_MINOR)}
    for path, body, field in (
        ("/bank-accounts", account, "partyId"),
        ("/investments", committed, "partyId"),
        ("/transactions", contribution, "partyId"),
        ("/offerings", opening, "sponsorPartyId"),
    ):
        refusal = org.admin.expect_refusal(404, "PARTY_NOT_FOUND", "POST", path, body | {field: nobody})
        assert [(fault["in"], fault["pointer"]) for fault in refusal.problem["errors"]] == [("body", f"/{field}")], path
