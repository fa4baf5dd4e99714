"""What the stories have in common: people who sign in, one organization of their own each, and the steps they share.

- A `World` is one organization: its ids are fresh, so stories share an instance without meeting.
- Nothing here waits by sleeping for long: `until` polls a condition and says what it last saw.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

import grpc
import httpx

from deploy.local.clock import business_time
from deploy.local.instance import Instance
from deploy.local.state import State
from tests.e2e import described

T = TypeVar("T")
Json = dict[str, Any]

API = "/api/v1"
ROUTING_NUMBER = "021000021"
# Of a machine that does other things meanwhile; on one that does not, nothing takes a tenth of it.
LIMIT_SECONDS = 60.0
# docs/sandbox.md: what the bank does with the account of these last two digits.
AT_ONCE, TWO_DAYS_LATER, LATE_R10, COMES_BACK_AS_R02, DECLINES = 1, 2, 10, 61, 93
ERROR_AFTER_EFFECT, SILENCE, TOO_MANY_REQUESTS, AWAY_ONCE = 90, 91, 92, 94
TWICE_OUT_OF_ORDER, JUNK_ANSWER, WRONG_AMOUNT = 95, 96, 97


def until(
    read: Callable[[], T], wanted: Callable[[T], object], limit_seconds: float = LIMIT_SECONDS, what: str = ""
) -> T:
    """What `read` gives once it is as wanted. Raises: AssertionError with what it gave last."""
    deadline = time.monotonic() + limit_seconds
    pause = 0.02
    while not wanted(last := read()):
        assert time.monotonic() < deadline, f"not within {limit_seconds:g} s: {what}; the last seen: {last}"
        time.sleep(pause)
        pause = min(pause * 1.4, 0.2)
    return last


def usd(minor: int) -> Json:
    return {"currencyCode": "USD", "amountMinor": str(minor)}


def minor(money: Mapping[str, str] | None) -> int:
    return int(money["amountMinor"]) if money is not None else 0


def new_key() -> str:
    return f"key-{secrets.token_hex(8)}"


class Refused(AssertionError):
    """An answer that is no success, where the story wanted one."""


class Person:
    """What one signed-in person does over REST. Paths are below /api/v1."""

    def __init__(self, base_url: str, token: str, sub: str) -> None:
        self.sub = sub
        self.token = token
        self.http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=20,
            trust_env=False,
            event_hooks={"response": [described.check]},
        )

    def call(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self.http.request(method, API + path, **given)

    def get(self, path: str, **query: str) -> Json:
        return _success(self.call("GET", path, params=query))

    def post(self, path: str, body: Json | None = None, key: str | None = None) -> Json:
        """With a fresh Idempotency-Key, unless one is given."""
        return _success(self.call("POST", path, json=body or {}, headers={"Idempotency-Key": key or new_key()}))

    def put(self, path: str, body: Json) -> Json:
        return _success(self.call("PUT", path, json=body, headers={"Idempotency-Key": new_key()}))

    def refused(self, status: int, code: str, method: str, path: str, body: Json | None = None) -> Json:
        """The problem document of a call that must be refused so."""
        headers = {"Idempotency-Key": new_key()} if method != "GET" else {}
        response = self.call(method, path, json=body if method != "GET" else None, headers=headers)
        assert response.headers["content-type"] == "application/problem+json", response.text
        problem = dict(response.json())
        assert (response.status_code, problem["code"]) == (status, code), problem
        return problem


def _success(response: httpx.Response) -> Json:
    if not response.is_success:
        raise Refused(f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text}")
    return dict(response.json()) if response.content else {}


class World:
    """One organization on a running instance: its people, and the steps that lead to a story."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.org = f"org-{secrets.token_hex(6)}"
        self._people: dict[tuple[str, str], Person] = {}
        self._numbers = itertools.count(1)

    # --- people -----------------------------------------------------------------------------------------------------

    def person(self, role: str, sub: str) -> Person:
        if (role, sub) not in self._people:
            token = self.instance.token(role, sub, self.org)
            self._people[role, sub] = Person(self.instance.base_url, token, sub)
        return self._people[role, sub]

    @property
    def admin(self) -> Person:
        return self.person("admin", "admin-1")

    @property
    def second(self) -> Person:
        """The other admin: whoever makes something never approves it."""
        return self.person("admin", "admin-2")

    @property
    def sponsor(self) -> Person:
        return self.person("sponsor", "sponsor-staff-1")

    @property
    def auditor(self) -> Person:
        return self.person("auditor", "auditor-1")

    def investor(self, party_id: str) -> Person:
        return self.person("investor", party_id)

    def close(self) -> None:
        for person in self._people.values():
            person.http.close()

    @contextmanager
    def channel(self, service: str) -> Iterator[grpc.Channel]:
        """A plain channel to a service; callers send `self.metadata(person)` with each call."""
        with grpc.insecure_channel(self.instance.grpc_address(service)) as channel:
            yield channel

    # --- time -------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        return business_time(self.instance.data_dir)

    def move_clock(self, moment: datetime) -> None:
        """Forward only: other stories of the instance live by it, too."""
        if moment > self.now():
            self.instance.set_clock(moment)

    # --- parties ----------------------------------------------------------------------------------------------------

    @cached_property
    def sponsor_party_id(self) -> str:
        """A cleared sponsor with a bank account that pays at once."""
        party = self.cleared(sponsor=True)
        self.bank_account(party)
        return party

    def cleared(self, *, sponsor: bool = False, accredited: bool = True) -> str:
        """A party that compliance has looked at and lets pass."""
        party = self.profile(sponsor=sponsor, accredited=accredited)
        checks = self.admin.get("/compliance-checks", partyId=party, status="MANUAL_REVIEW")["complianceChecks"]
        assert len(checks) == 2, checks
        for check in checks:
            decision = {"decision": "PASSED", "note": "Seen the papers."}
            self.second.post(f"/compliance-checks/{check['complianceCheckId']}/review", decision)
        return party

    def profile(self, *, sponsor: bool = False, accredited: bool = True) -> str:
        """A party that nobody has cleared yet."""
        party = f"{'spo' if sponsor else 'inv'}-{next(self._numbers):03}-{secrets.token_hex(3)}"
        body = {
            "partyType": "SPONSOR" if sponsor else "INVESTOR",
            "legalName": f"Party {party}",
            "accreditation": "ACCREDITED" if accredited else "NON_ACCREDITED",
        }
        self.admin.put(f"/investors/{party}", body)
        return party

    def bank_account(self, party: str, test_value: int = AT_ONCE, *, default: bool = True) -> str:
        body = {
            "partyId": party,
            "accountHolderName": f"Holder {party}",
            "routingNumber": ROUTING_NUMBER,
            "accountNumber": f"0001111111{test_value:02}",
            "defaultForPayouts": default,
        }
        return str(self.admin.post("/bank-accounts", body)["bankAccountId"])

    # --- money in ---------------------------------------------------------------------------------------------------

    def escrow_account(self) -> str:
        body = {"displayName": "Oak Street escrow", "currencyCode": "USD", "custodianName": "First Trust Bank"}
        return str(self.admin.post("/escrow-accounts", body)["escrowAccountId"])

    def offering(self, target_minor: int, maximum_minor: int | None = None) -> Json:
        """Open, on an escrow account of its own; Regulation D, so that no clock but the return risk's holds it."""
        body = {
            "displayName": "Oak Street Apartments",
            "sponsorPartyId": self.sponsor_party_id,
            "escrowAccountId": self.escrow_account(),
            "exemption": "REG_D_506C",
            "targetAmount": usd(target_minor),
            "maximumAmount": usd(maximum_minor or target_minor),
            "deadlineTime": f"{self.now() + timedelta(days=200):%Y-%m-%dT%H:%M:%SZ}",
        }
        return self.admin.post("/offerings", body)

    def investment(self, offering: Json, investor: str, amount_minor: int) -> Json:
        body = {"offeringId": offering["offeringId"], "partyId": investor, "amount": usd(amount_minor)}
        return self.admin.post("/investments", body)

    def contribution_body(self, offering: Json, investment: Json, bank_account_id: str) -> Json:
        return {
            "type": "ESCROW_DEPOSIT",
            "paymentMethod": "ACH",
            "amount": investment["amount"],
            "escrowAccountId": offering["escrowAccountId"],
            "partyId": investment["partyId"],
            "bankAccountId": bank_account_id,
            "investmentId": investment["investmentId"],
            "description": "Contribution",
        }

    def contribute(self, offering: Json, investor: str, amount_minor: int, test_value: int = AT_ONCE) -> Json:
        """A commitment and its debit, just created."""
        investment = self.investment(offering, investor, amount_minor)
        bank_account = self.bank_account(investor, test_value)
        return self.admin.post("/transactions", self.contribution_body(offering, investment, bank_account))

    def wire(self, offering: Json, investor: str, amount_minor: int) -> Json:
        """A contribution by wire that finance waits for."""
        investment = self.investment(offering, investor, amount_minor)
        body = self.contribution_body(offering, investment, "") | {"paymentMethod": "WIRE"}
        del body["bankAccountId"]
        transaction = self.admin.post("/transactions", body)
        return self.transaction_when(transaction["transactionId"], "PENDING_SETTLEMENT")

    def funded(self, offering: Json, investor: str, amount_minor: int, test_value: int = AT_ONCE) -> Json:
        """A contribution that has settled, and that the book and the investment know of."""
        transaction = self.contribute(offering, investor, amount_minor, test_value)
        settled = self.transaction_when(transaction["transactionId"], "SETTLED", "COMPLETED")
        self.investment_funded(transaction, amount_minor)
        return settled

    def clear_return_risk(self, *transactions: Json) -> None:
        """Moves business time past the return-risk period of these, and waits until they are COMPLETED and counted."""
        ends = [datetime.fromisoformat(transaction["returnRiskEndTime"]) for transaction in transactions]
        self.move_clock(max(ends) + timedelta(seconds=1))
        for transaction in transactions:
            self.transaction_when(transaction["transactionId"], "COMPLETED")
            self.investment_when(
                transaction["investmentId"], lambda read: minor(read["clearedAmount"]) == minor(read["fundedAmount"])
            )

    def closed_offering(self, amounts: Mapping[str, int] | int, test_value: int = AT_ONCE) -> Json:
        """An offering whose investors' money was released, and whose proceeds were paid to the sponsor."""
        amounts = {self.cleared(): amounts} if isinstance(amounts, int) else amounts
        offering = self.offering(sum(amounts.values()))
        self.clear_return_risk(*[self.funded(offering, *each, test_value) for each in amounts.items()])
        self.admin.post(f"/offerings/{offering['offeringId']}/close")
        closed = self.offering_when(offering["offeringId"], lambda read: read.get("proceedsTransactionId"))
        proceeds = closed["proceedsTransactionId"]
        self.transaction_when(proceeds, "PENDING_APPROVAL")
        self.second.post(f"/transactions/{proceeds}/approve")
        self.transaction_when(proceeds, "COMPLETED")
        # A distribution on the day of the closing would precede the contributions it pays on.
        self.move_clock(self.now() + timedelta(days=1))
        return closed

    def distributable(self, offering: Json, amount_minor: int, *, total_minor: int | None = None) -> Json:
        """Cash of the issuer that has come in for a distribution; `total_minor` is there with what was there before."""
        body = {
            "type": "DEPOSIT",
            "paymentMethod": "ACH",
            "amount": usd(amount_minor),
            "escrowAccountId": offering["escrowAccountId"],
            "partyId": self.sponsor_party_id,
            "bankAccountId": self.bank_account(self.sponsor_party_id),
        }
        transaction = self.admin.post("/transactions", body)
        settled = self.transaction_when(transaction["transactionId"], "SETTLED", "COMPLETED")
        self.ledger_when(offering["escrowAccountId"], "distributable", total_minor or amount_minor)
        return settled

    # --- money out --------------------------------------------------------------------------------------------------

    def distribution(self, offering: Json, amount_minor: int) -> Json:
        body = {"offeringId": offering["offeringId"], "type": "PROFIT_SPLIT", "amount": usd(amount_minor)}
        return self.admin.post("/distributions", body)

    def calculated(self, offering: Json, amount_minor: int) -> Json:
        draft = self.distribution(offering, amount_minor)
        return self.admin.post(f"/distributions/{draft['distributionId']}/calculate")

    def approved(self, offering: Json, amount_minor: int) -> Json:
        calculated = self.calculated(offering, amount_minor)
        path = f"/distributions/{calculated['distributionId']}"
        self.admin.post(f"{path}/submit")
        return self.second.post(f"{path}/approve", {"contentHash": calculated["contentHash"]})

    # --- what became of it ------------------------------------------------------------------------------------------

    def transaction_when(self, transaction_id: str, *statuses: str) -> Json:
        return until(
            lambda: self.admin.get(f"/transactions/{transaction_id}"),
            lambda read: read["status"] in statuses,
            what=f"transaction {' or '.join(statuses)}",
        )

    def investment_when(self, investment_id: str, wanted: Callable[[Json], object]) -> Json:
        return until(lambda: self.admin.get(f"/investments/{investment_id}"), wanted, what="investment")

    def investment_funded(self, of: Json, amount_minor: int) -> Json:
        return self.investment_when(of["investmentId"], lambda read: minor(read["fundedAmount"]) == amount_minor)

    def offering_when(self, offering_id: str, wanted: Callable[[Json], object]) -> Json:
        return until(lambda: self.admin.get(f"/offerings/{offering_id}"), wanted, what="offering")

    def distribution_when(self, distribution_id: str, *statuses: str) -> Json:
        return until(
            lambda: self.admin.get(f"/distributions/{distribution_id}"),
            lambda read: read["status"] in statuses,
            what=f"distribution {' or '.join(statuses)}",
        )

    def ledger(self, escrow_account_id: str) -> dict[str, int]:
        """Posted balances by ledger account, those of zero left out."""
        listed = self.admin.get(f"/escrow-accounts/{escrow_account_id}/ledger-accounts", pageSize="1000")
        posted = {one["ledgerAccount"]: minor(one["posted"]) for one in listed["ledgerAccounts"]}
        return {code: amount_minor for code, amount_minor in posted.items() if amount_minor}

    def ledger_when(self, escrow_account_id: str, ledger_account: str, posted_minor: int) -> dict[str, int]:
        return until(
            lambda: self.ledger(escrow_account_id),
            lambda read: read.get(ledger_account, 0) == posted_minor,
            what=f"{ledger_account} of {posted_minor}",
        )

    def held(self, escrow_account_id: str) -> int:
        return minor(self.admin.get(f"/escrow-accounts/{escrow_account_id}/balance")["held"])

    def pages(self, path: str, items: str, **query: str) -> Iterator[list[Json]]:
        """Each page of a list, to the last."""
        token = ""
        while True:
            page = self.admin.get(path, **query, **({"pageToken": token} if token else {}))
            yield page[items]
            token = page.get("nextPageToken", "")
            if not token:
                return

    def assert_books_balance(self, escrow_account_id: str) -> None:
        trial = self.admin.get(f"/escrow-accounts/{escrow_account_id}/trial-balance")
        assert (trial["balanced"], minor(trial["difference"])) == (True, 0), trial

    def movements(self, reference: str) -> list[Json]:
        """The lines of the bank's own statement about one of our transactions."""
        port = State(self.instance.data_dir).read()["ports"]["bank"]
        days = {"from": "2020-01-01", "to": f"{self.now():%Y-%m-%d}"}
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/statement", params=days, trust_env=False)
        return [line for line in answer.raise_for_status().json()["movements"] if line["reference"] == reference]


def metadata(person: Person) -> tuple[tuple[str, str], ...]:
    """What a gRPC call carries to be that person's."""
    return (("authorization", f"Bearer {person.token}"),)
