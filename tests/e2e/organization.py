"""One organization on a running instance, for one test: its people who sign in, and the steps that stories share.

Its ids are fresh, so tests share an instance without meeting.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cached_property

import httpx

from demo.harness.bank import AT_ONCE, ROUTING_NUMBER, account_number_of, open_bank, read_movements
from demo.harness.ledger import name_of_account
from demo.harness.money import minor_of, usd
from demo.harness.polling import wait_for
from demo.harness.rest import API, Json, RestClient
from deploy.local.clock import business_time
from deploy.local.instance import Instance
from tests.e2e.openapi_check import check_answer

Check = Callable[[httpx.Response], None]
ACCOUNT_NUMBERS: set[str] = set()  # of all bank accounts that were added here


def open_client(instance: Instance, user: str, token: str, check: Check | None = check_answer) -> RestClient:
    """Without patience: nothing is killed here, so every request must be answered at the first try, as documented."""
    return RestClient(instance.base_url + API, user, token, patience_seconds=0, check_answer=check)


def person_of(party_id: str) -> str:
    """Who acts for a party of `add_party`: a subject as a large issuer of tokens spells it."""
    return f"auth0|{party_id.removeprefix('pty_')}"


def agree_to(offering: Json) -> Json:
    """What a commitment says of the offering that was read."""
    return {"offeringId": offering["offeringId"], "termsEtag": offering["termsEtag"]}


class Organization:
    """The organization; what its methods make, they make over REST."""

    def __init__(self, instance: Instance, org_id: str = "", *, check: Check | None = check_answer) -> None:
        """`check`: of each answer; None where the time that it takes matters."""
        self.instance = instance
        self._check = check
        self.org_id = org_id or f"org-{secrets.token_hex(6)}"
        self._clients: dict[tuple[str, str], RestClient] = {}
        self._numbers = itertools.count(1)

    # --- people -----------------------------------------------------------------------------------------------------

    def sign_in(self, role: str, user: str) -> RestClient:
        if (role, user) not in self._clients:
            token = self.instance.issue_token(role, user, self.org_id)
            self._clients[role, user] = open_client(self.instance, user, token, self._check)
        return self._clients[role, user]

    @property
    def admin(self) -> RestClient:
        return self.sign_in("admin", "admin-1")

    @property
    def second_admin(self) -> RestClient:
        """The other admin: whoever makes something never approves it."""
        return self.sign_in("admin", "admin-2")

    def do_together(self, path: str, body: Json | None = None, *, etag: str = "") -> Json:
        """What needs two persons: one admin asks for it, the other approves what was read. Returns: what was done."""
        [done] = json.loads(self.approve(self.admin.post(path, body, etag=etag))["result"]).values()
        return dict(done)

    def approve(self, answer: Json) -> Json:
        """The second admin approves what the first was answered with an approval for. Returns: the approval."""
        asked = answer["approval"]
        read = self.second_admin.get(f"/approvals/{asked['approvalId']}")
        path, decision = f"/approvals/{asked['approvalId']}/approve", {"contentHash": read["contentHash"]}
        done = self.second_admin.post(path, decision, etag=read["etag"])
        assert done["status"] == "EXECUTED", done
        return done

    @property
    def sponsor(self) -> RestClient:
        return self.sign_in("sponsor", "sponsor-staff-1")

    @property
    def auditor(self) -> RestClient:
        return self.sign_in("auditor", "auditor-1")

    def sign_in_investor(self, party_id: str) -> RestClient:
        """The person who acts for the party."""
        return self.sign_in("investor", person_of(party_id))

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def make_api_key(self, *scopes: str) -> Json:
        """A key with its secret, which the second admin has approved."""
        until = (self.now() + timedelta(days=30)).isoformat()
        issued = self.admin.post("/api-keys", {"displayName": "ERP", "scopes": list(scopes), "expireTime": until})
        self.approve_in_inbox(issued["apiKey"]["apiKeyId"])
        return issued

    def sign_in_program(self, issued: Json) -> RestClient:
        """A program that has the key."""
        path = f"/api-keys/{issued['apiKey']['apiKeyId']}/token"
        stranger = open_client(self.instance, "a program without a token", "")
        answer = stranger.request("POST", path, json={"secret": issued["secret"]}).raise_for_status()
        stranger.close()
        return open_client(self.instance, "a program", answer.json()["accessToken"])

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
        party = self.add_cleared_party()
        self.add_payable_account(party)
        return party

    def add_cleared_party(self, *, accredited: bool = True, kind: str = "INDIVIDUAL") -> str:
        """A party that compliance has looked at and lets pass."""
        party = self.add_party(accredited=accredited, kind=kind)
        self.clear_party(party)
        return party

    def clear_party(self, party: str) -> None:
        """The second admin passes its checks."""
        checks = self.admin.get("/compliance-checks", partyId=party, status="MANUAL_REVIEW")["complianceChecks"]
        assert len(checks) == 2, checks
        for check in checks:
            decision = {"decision": "PASSED", "note": "Seen the papers."}
            path = f"/compliance-checks/{check['complianceCheckId']}/review"
            self.second_admin.post(path, decision, etag=check["etag"])

    def add_party(self, *, accredited: bool = True, kind: str = "INDIVIDUAL") -> str:
        """A party that nobody has cleared yet, with a person who acts for it."""
        body = {
            "kind": kind,
            "legalName": f"Party {next(self._numbers)}",
            "accreditation": "ACCREDITED" if accredited else "NON_ACCREDITED",
        }
        party = str(self.admin.post("/parties", body)["partyId"])
        self.add_person(party, person_of(party))
        return party

    def add_person(self, party: str, person: str) -> None:
        """Lets the person act for the party."""
        self.do_together(f"/parties/{party}/persons", {"personId": person})

    def add_payable_account(self, party: str, test_value: int = AT_ONCE) -> str:
        """One that money goes to: the party's default from now on, which a second person confirmed a day ago."""
        account = self.add_bank_account(party, test_value)
        self.confirm_bank_account(account)
        self.move_clock(datetime.fromisoformat(self.admin.get(f"/bank-accounts/{account}")["payoutStartTime"]))
        return account

    def confirm_bank_account(self, account: str) -> None:
        self.approve_in_inbox(account)  # money goes there a day later

    def approve_in_inbox(self, resource_id: str) -> Json:
        """The second admin finds what waits about it, and approves it. Returns: the approval."""
        [waiting] = self.second_admin.get("/approvals", resourceId=resource_id, status="PENDING")["approvals"]
        return self.approve({"approval": waiting})

    def add_bank_account(self, party: str, test_value: int = AT_ONCE, *, default: bool = True) -> str:
        ACCOUNT_NUMBERS.add(number := account_number_of(test_value, party))
        body = {
            "partyId": party,
            "accountHolderName": f"Holder {party}",
            "routingNumber": ROUTING_NUMBER,
            "accountNumber": number,
            "defaultForPayouts": default,
        }
        return str(self.admin.post("/bank-accounts", body)["bankAccountId"])

    # --- money in ---------------------------------------------------------------------------------------------------

    def build_escrow_account(self) -> Json:
        return {
            "displayName": "Oak Street escrow",
            "currencyCode": "USD",
            "sponsorPartyId": self.sponsor_party_id,
            "custodianName": "First Trust Bank",
        }

    def open_escrow_account(self, currency: str = "USD") -> str:
        body = self.build_escrow_account() | {"currencyCode": currency}
        return str(self.admin.post("/escrow-accounts", body)["escrowAccountId"])

    def open_offering(self, target_minor: int, maximum_minor: int | None = None, currency: str = "USD") -> Json:
        """Open, on an escrow account of its own; Regulation D, so that no clock but the return risk's holds it."""
        body = {
            "displayName": "Oak Street Apartments",
            "sponsorPartyId": self.sponsor_party_id,
            "escrowAccountId": self.open_escrow_account(currency),
            "exemption": "REG_D_506C",
            "targetAmount": usd(target_minor) | {"currencyCode": currency},
            "maximumAmount": usd(maximum_minor or target_minor) | {"currencyCode": currency},
            "deadlineTime": f"{self.now() + timedelta(days=1000):%Y-%m-%dT%H:%M:%SZ}",
        }
        return self.admin.post("/offerings", body)

    def invest(self, offering: Json, investor: str, amount_minor: int) -> Json:
        amount = usd(amount_minor) | {"currencyCode": offering["targetAmount"]["currencyCode"]}
        return self.admin.post("/investments", agree_to(offering) | {"partyId": investor, "amount": amount})

    def build_contribution(self, offering: Json, investment: Json, bank_account_id: str) -> Json:
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
        """A commitment and its debit, just created by the investor, from an account that a refund may go back to."""
        investment = self.invest(offering, investor, amount_minor)
        bank_account = self.add_bank_account(investor, test_value)
        self.confirm_bank_account(bank_account)
        body = self.build_contribution(offering, investment, bank_account)
        return self.sign_in_investor(investor).post("/transactions", body)

    def announce_wire(self, offering: Json, investor: str, amount_minor: int, method: str = "WIRE") -> Json:
        """A contribution by wire, or by check, that finance waits for."""
        investment = self.invest(offering, investor, amount_minor)
        return self._announce(self.build_contribution(offering, investment, ""), method)

    def announce_cash(self, offering: Json, amount_minor: int) -> Json:
        """Cash of the issuer by wire that finance waits for."""
        return self._announce(self._build_cash(offering, amount_minor))

    def _announce(self, body: Json, method: str = "WIRE") -> Json:
        by_hand = {name: value for name, value in body.items() if name != "bankAccountId"} | {"paymentMethod": method}
        transaction = self.admin.post("/transactions", by_hand)
        return self.wait_for_transaction(transaction["transactionId"], "PENDING_SETTLEMENT")

    def fund_investment(self, offering: Json, investor: str, amount_minor: int, test_value: int = AT_ONCE) -> Json:
        """A contribution that has settled, and that the book and the investment know of."""
        transaction = self.contribute(offering, investor, amount_minor, test_value)
        settled = self.wait_for_transaction(transaction["transactionId"], "SETTLED", "COMPLETED")
        self.wait_until_funded(transaction, amount_minor)
        return settled

    def clear_return_risk(self, *transactions: Json) -> None:
        """Moves business time past the return-risk period of these, and waits until they are COMPLETED and counted, and
        the book holds nothing of them any more."""
        ends = [datetime.fromisoformat(transaction["returnRiskEndTime"]) for transaction in transactions]
        self.move_clock(max(ends) + timedelta(seconds=1))
        for transaction in transactions:
            self.wait_for_transaction(transaction["transactionId"], "COMPLETED")
            self.wait_for_investment(
                transaction["investmentId"],
                lambda read: minor_of(read["clearedAmount"]) == minor_of(read["fundedAmount"]),
            )
        cleared = {transaction["transactionId"] for transaction in transactions}
        for account in {transaction["escrowAccountId"] for transaction in transactions}:
            wait_for(
                "the holds of what is cleared to be released",
                lambda account=account: self.admin.get(f"/escrow-accounts/{account}/holds", status="PLACED")["holds"],
                lambda placed: cleared.isdisjoint(each.get("transactionId", "") for each in placed),
            )

    def wait_until_final(self, escrow_account_id: str) -> None:
        """Moves business time to when no bank can take back, or send back, what moved on the account."""

        def list_arrived() -> list[Json]:
            listed = self.admin.get("/transactions", escrowAccountId=escrow_account_id)["transactions"]
            return [each for each in listed if each["status"] in ("SETTLED", "COMPLETED")]

        ends = [datetime.fromisoformat(each["finalTime"]) for each in list_arrived() if "finalTime" in each]
        self.move_clock(max(ends) + timedelta(seconds=1))
        wait_for("all to be final", list_arrived, lambda found: all(each["finality"] == "FINAL" for each in found))

    def make_closed_offering(self, amounts: Mapping[str, int] | int, test_value: int = AT_ONCE) -> Json:
        """An offering whose investors' money was released, and whose proceeds were paid to the sponsor."""
        amounts = {self.add_cleared_party(): amounts} if isinstance(amounts, int) else amounts
        offering = self.open_offering(sum(amounts.values()))
        self.clear_return_risk(*[self.fund_investment(offering, *each, test_value) for each in amounts.items()])
        self.do_together(f"/offerings/{offering['offeringId']}/close")
        closed = self.wait_for_offering(offering["offeringId"], lambda read: read.get("proceedsTransactionId"))
        proceeds = closed["proceedsTransactionId"]
        self.wait_for_transaction(proceeds, "PENDING_APPROVAL")
        self.second_admin.decide(f"/transactions/{proceeds}", "approve")
        self.wait_for_transaction(proceeds, "COMPLETED")
        # A distribution on the day of the closing would precede the contributions it pays on.
        self.move_clock(self.now() + timedelta(days=1))
        return closed

    def add_distributable_cash(self, offering: Json, amount_minor: int, *, total_minor: int | None = None) -> Json:
        """Cash of the issuer that came by wire, which no bank takes back, so that it can be distributed at once;
        `total_minor` is there with what was there before.
        """
        announced = self.announce_cash(offering, amount_minor)["transactionId"]
        said = {"bankReference": announced, "amount": usd(amount_minor)}
        arrived = self.second_admin.decide(f"/transactions/{announced}", "confirm", said)
        self.wait_for_ledger(offering["escrowAccountId"], "distributable", total_minor or amount_minor)
        return arrived

    def _build_cash(self, offering: Json, amount_minor: int) -> Json:
        return {
            "type": "DEPOSIT",
            "paymentMethod": "ACH",
            "amount": usd(amount_minor),
            "escrowAccountId": offering["escrowAccountId"],
            "partyId": self.sponsor_party_id,
        }

    # --- money out --------------------------------------------------------------------------------------------------

    def draft_distribution(self, offering: Json, amount_minor: int) -> Json:
        body = {"offeringId": offering["offeringId"], "type": "PROFIT_SPLIT", "amount": usd(amount_minor)}
        return self.admin.post("/distributions", body)

    def calculate_distribution(self, offering: Json, amount_minor: int) -> Json:
        draft = self.draft_distribution(offering, amount_minor)
        return self.admin.post(f"/distributions/{draft['distributionId']}/calculate")

    def approve_distribution(self, offering: Json, amount_minor: int) -> Json:
        calculated = self.calculate_distribution(offering, amount_minor)
        path = f"/distributions/{calculated['distributionId']}"
        self.admin.post(f"{path}/submit")
        return self.second_admin.decide(path, "approve", {"contentHash": calculated["contentHash"]})

    # --- what became of it ------------------------------------------------------------------------------------------

    def wait_for_transaction(self, transaction_id: str, *statuses: str) -> Json:
        return wait_for(
            f"transaction {' or '.join(statuses)}",
            lambda: self.admin.get(f"/transactions/{transaction_id}"),
            lambda read: read["status"] in statuses,
        )

    def wait_for_investment(self, investment_id: str, wanted: Callable[[Json], object]) -> Json:
        return wait_for(f"investment {investment_id}", lambda: self.admin.get(f"/investments/{investment_id}"), wanted)

    def wait_until_funded(self, of: Json, amount_minor: int) -> Json:
        return self.wait_for_investment(of["investmentId"], lambda read: minor_of(read["fundedAmount"]) == amount_minor)

    def wait_for_offering(self, offering_id: str, wanted: Callable[[Json], object]) -> Json:
        return wait_for(f"offering {offering_id}", lambda: self.admin.get(f"/offerings/{offering_id}"), wanted)

    def wait_for_distribution(self, distribution_id: str, *statuses: str) -> Json:
        return wait_for(
            f"distribution {' or '.join(statuses)}",
            lambda: self.admin.get(f"/distributions/{distribution_id}"),
            lambda read: read["status"] in statuses,
        )

    def read_ledger(self, escrow_account_id: str) -> dict[str, int]:
        """Posted balances by ledger account, those of zero left out."""
        listed = self.admin.get(f"/escrow-accounts/{escrow_account_id}/ledger-accounts", pageSize="1000")
        posted = {name_of_account(one["ledgerAccount"]): minor_of(one["posted"]) for one in listed["ledgerAccounts"]}
        return {code: amount_minor for code, amount_minor in posted.items() if amount_minor}

    def wait_for_ledger(self, escrow_account_id: str, ledger_account: str, posted_minor: int) -> dict[str, int]:
        return wait_for(
            f"{ledger_account} of {posted_minor}",
            lambda: self.read_ledger(escrow_account_id),
            lambda read: read.get(ledger_account, 0) == posted_minor,
        )

    def read_held(self, escrow_account_id: str) -> int:
        return minor_of(self.admin.get(f"/escrow-accounts/{escrow_account_id}/balance")["held"])

    def assert_books_balance(self, escrow_account_id: str) -> None:
        trial = self.admin.get(f"/escrow-accounts/{escrow_account_id}/trial-balance")
        assert (trial["balanced"], minor_of(trial["difference"])) == (True, 0), trial

    def read_movements(self, reference: str) -> list[Json]:
        """The lines of the bank's own statement about one of our transactions."""
        bank = open_bank(self.instance)
        movements = read_movements(bank, "2020-01-01", f"{self.now():%Y-%m-%d}")
        bank.close()
        return [line for line in movements if line["reference"] == reference]


def metadata_of(client: RestClient) -> tuple[tuple[str, str], ...]:
    """What a gRPC call carries to be that user's."""
    return (("authorization", f"Bearer {client.token}"),)
