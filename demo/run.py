"""One run of the story: who is signed in, what was made so far, and what the steps wait for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from demo import cast
from demo.harness import HarnessError
from demo.harness.bank import ROUTING_NUMBER, account_number_of, open_bank
from demo.harness.money import minor_of
from demo.harness.polling import wait_for
from demo.harness.rest import API, Json, RestClient, UnexpectedAnswer
from deploy.local.clock import business_time
from deploy.local.instance import Instance
from deploy.topology import BANK

_OVER = ("FAILED", "CANCELLED", "REVERSED")


class DemoRun:
    """The story on one instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._clients: dict[str, RestClient] = {}
        self.deadline = cast.DEADLINE  # of the offering
        self.party_ids: dict[str, str] = {}  # by the story's name of the party
        self.bank_accounts: dict[str, str] = {}  # by the story's name of the party
        self.investments: dict[str, str] = {}  # by investor
        self.payments: dict[str, str] = {}  # the contribution's transaction, by investor
        self.escrow_account_id = ""
        self.offering_id = ""
        self.distribution_id = ""
        self.refused_transaction_id = ""
        self.failed_allocation: Json = {}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    # --- who is signed in --------------------------------------------------------------------------------------------

    def client_of(self, user: str) -> RestClient:
        if user not in self._clients:
            token = self.instance.issue_token(cast.SIGN_INS[user], user)
            self._clients[user] = RestClient(self.instance.base_url + API, user, token)
        return self._clients[user]

    @property
    def admin(self) -> RestClient:
        return self.client_of(cast.ADMIN)

    @property
    def officer(self) -> RestClient:
        return self.client_of(cast.OFFICER)

    @property
    def sponsor(self) -> RestClient:
        return self.client_of(cast.SPONSOR_STAFF)

    @property
    def auditor(self) -> RestClient:
        return self.client_of(cast.AUDITOR)

    @cached_property
    def bank(self) -> RestClient:
        self._clients[BANK] = open_bank(self.instance)
        return self._clients[BANK]

    @property
    def repeats(self) -> int:
        """How many requests had to be repeated."""
        return sum(client.repeats for client in self._clients.values())

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def today(self) -> str:
        return business_time(self.instance.data_dir).date().isoformat()

    def move_clock(self, moment: datetime) -> None:
        self.instance.set_clock(moment)

    # --- what was made ----------------------------------------------------------------------------------------------

    def add_party(self, party: cast.Party) -> None:
        made = self.admin.post(
            "/parties",
            {
                "kind": party.kind,
                "legalName": party.legal_name,
                "accreditation": "ACCREDITED" if party.accredited else "NON_ACCREDITED",
                "externalId": party.id,
                "persons": [{"personId": party.id}] if party.id in cast.SIGN_INS else [],
            },
            deed=f"writes the profile of {party.id}",
        )
        self.party_ids[party.id] = made["partyId"]

    def name_parties(self, answer: Any) -> Any:
        """An answer with the story's name of each party in the place of its id."""
        if isinstance(answer, dict):
            return {key: self.name_parties(value) for key, value in answer.items()}
        if isinstance(answer, list):
            return [self.name_parties(value) for value in answer]
        if isinstance(answer, str):
            for name, party_id in self.party_ids.items():
                answer = answer.replace(party_id, name)
        return answer

    def add_bank_account(self, user: str, party: cast.Party, test_value: int, *, for_payouts: bool = False) -> str:
        account = self.client_of(user).post(
            "/bank-accounts",
            {
                "partyId": self.party_ids[party.id],
                "accountHolderName": party.legal_name,
                "routingNumber": ROUTING_NUMBER,
                "accountNumber": account_number_of(test_value, party.id),
                "defaultForPayouts": for_payouts,
            },
            deed=f"adds bank account {test_value:02d} of {party.id}",
        )
        return str(account["bankAccountId"])

    def list_inbox(self, **filters: str) -> list[Json]:
        """What waits for the compliance officer, who made none of it, the oldest first."""
        mine = {"decidable": "true", "order": "OLDEST_FIRST"}
        return self.officer.list_all("/approvals", "approvals", **mine, **filters)

    def read_in_inbox(self, **filters: str) -> Json:
        """The only one in the inbox, with all that is said of it."""
        listed = self.list_inbox(**filters)
        if len(listed) != 1:
            raise UnexpectedAnswer(f"In the inbox are {len(listed)} of {filters}, not one")
        return self.officer.get(f"/approvals/{listed[0]['approvalId']}")

    def approve(self, read: Json, **more: str) -> Json:
        """The compliance officer approves exactly what was read. Returns: the approval."""
        path, yes = f"/approvals/{read['approvalId']}", {"contentHash": read["contentHash"], **more}
        self.officer.post(f"{path}/approve", yes, deed=f"approves {read['approvalId']}", etag=read["etag"])
        # At once, unless a service that it needs is away: then it goes on by itself.
        done = wait_for(
            f"{read['kind']} to be done", lambda: self.officer.get(path), lambda read: read["status"] != "APPROVED"
        )
        if done["status"] != "EXECUTED":
            raise UnexpectedAnswer(f"{read['kind']} is {done['status']}: {done.get('failure')}")
        return done

    def list_pending_checks(self) -> list[Json]:
        """The checks of the story's parties that wait for a person."""
        checks = self.officer.list_all("/compliance-checks", "complianceChecks", status="MANUAL_REVIEW")
        return [check for check in checks if check["partyId"] in self.party_ids.values()]

    # --- what is waited for -----------------------------------------------------------------------------------------

    def wait_for_transaction(self, transaction_id: str, *statuses: str, presentments: int = 0) -> Json:
        """The transaction once it is in one of the statuses; at once an error if it ends in another."""

        def there(transaction: Json) -> bool:
            return transaction["status"] in statuses and transaction["presentments"] >= presentments

        def there_or_over(transaction: Json) -> bool:
            return there(transaction) or (transaction["status"] in _OVER and not set(statuses) & set(_OVER))

        what = f"transaction {transaction_id} to be {' or '.join(statuses)}"
        transaction = wait_for(what, lambda: self.auditor.get(f"/transactions/{transaction_id}"), there_or_over, _brief)
        if not there(transaction):
            raise UnexpectedEnd(f"Waited for {what}, but it is {_brief(transaction)}")
        return transaction

    def wait_for_distribution(self, status: str) -> Json:
        return wait_for(
            f"the distribution to be {status}",
            lambda: self.auditor.get(f"/distributions/{self.distribution_id}"),
            lambda distribution: distribution["status"] == status,
            _brief,
        )

    def list_allocations(self) -> dict[str, Json]:
        """By the story's name of the payee."""
        found = self.auditor.list_all(f"/distributions/{self.distribution_id}/allocations", "allocations")
        return {allocation["partyId"]: allocation for allocation in self.name_parties(found)}

    def read_ledger_account(self, kind: str, party: str = "") -> Mapping[str, int]:
        """posted, pending, held and available of one ledger account; zeros if it was never used.

        Args:
            party: The story's name of it, where the ledger account is of one.
        """
        path = f"/escrow-accounts/{self.escrow_account_id}/ledger-accounts"
        whose = {"partyId": self.party_ids[party]} if party else {}
        lines = self.auditor.get(path, kind=kind, **whose)["ledgerAccounts"]
        names = ("posted", "pending", "held", "available")
        return {name: sum(minor_of(line.get(name)) for line in lines) for name in names}

    def wait_for_ledger_account(self, kind: str, party: str = "", **wanted: int) -> None:
        """Until the ledger account has those balances."""
        balances = ", ".join(f"{name} {amount_minor}" for name, amount_minor in wanted.items())
        wait_for(
            f"{kind} {party} in the book to have {balances} (cents)",
            lambda: self.read_ledger_account(kind, party),
            lambda line: all(line[name] == amount_minor for name, amount_minor in wanted.items()),
        )

    def wait_for_investment(self, party: cast.Party, what: str, **wanted: int) -> None:
        """Until those amounts of the party's investment are as wanted."""
        path = f"/investments/{self.investments[party.id]}"
        wait_for(
            f"the investment of {party.id} {what}",
            lambda: self.auditor.get(path),
            lambda investment: all(
                minor_of(investment.get(name)) == amount_minor for name, amount_minor in wanted.items()
            ),
        )


class UnexpectedEnd(HarnessError):
    """Something ended in another status than the story says."""


def _brief(resource: Json) -> str:
    failure = resource.get("failure")
    return f"{resource['status']}{f' ({failure})' if failure else ''}"
