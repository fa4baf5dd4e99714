"""Where the play takes place: who is signed in, what was made so far, and what the scenes wait for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property

from demo import cast
from demo.client import Client, Json
from demo.money import minor
from demo.waiting import wait_for
from deploy.local.clock import business_time
from deploy.local.instance import Instance, read_instance

_OVER = ("FAILED", "CANCELLED", "REVERSED")


class Stage:
    """One play on one instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._clients: dict[str, Client] = {}
        self.deadline = cast.DEADLINE  # of the offering
        self.bank_accounts: dict[str, str] = {}  # by party
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

    # --- who speaks -------------------------------------------------------------------------------------------------

    def signed_in(self, who: str) -> Client:
        if who not in self._clients:
            token = self.instance.token(cast.SIGN_INS[who], who)
            self._clients[who] = Client(f"{self.instance.base_url}/api/v1", who, token)
        return self._clients[who]

    @property
    def admin(self) -> Client:
        return self.signed_in(cast.ADMIN)

    @property
    def officer(self) -> Client:
        return self.signed_in(cast.OFFICER)

    @property
    def sponsor(self) -> Client:
        return self.signed_in(cast.SPONSOR_STAFF)

    @property
    def auditor(self) -> Client:
        return self.signed_in(cast.AUDITOR)

    @cached_property
    def bank(self) -> Client:
        """The bank's own door: what its statement says, past everything of ours."""
        port = read_instance(self.instance.data_dir)["ports"]["bank"]
        self._clients["bank"] = Client(f"http://127.0.0.1:{port}/v1", "bank", "")
        return self._clients["bank"]

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

    def add_bank_account(self, who: str, party: cast.Party, test_value: int, *, for_payouts: bool = False) -> str:
        account = self.signed_in(who).post(
            "/bank-accounts",
            f"adds bank account {test_value:02d} of {party.id}",
            {
                "partyId": party.id,
                "accountHolderName": party.legal_name,
                "routingNumber": cast.ROUTING_NUMBER,
                "accountNumber": cast.bank_account_number(test_value),
                "defaultForPayouts": for_payouts,
            },
        )
        return str(account["bankAccountId"])

    def pending_checks(self) -> list[Json]:
        """The checks of the play's parties that wait for a person."""
        checks = self.officer.list_all("/compliance-checks", "complianceChecks", status="MANUAL_REVIEW")
        parties = {party.id for party in cast.PARTIES}
        return [check for check in checks if check["partyId"] in parties]

    # --- what is waited for -----------------------------------------------------------------------------------------

    def transaction_in(self, transaction_id: str, *statuses: str, presentments: int = 0) -> Json:
        """The transaction once it is in one of the statuses; at once an error if it ends in another."""

        def there(transaction: Json) -> bool:
            return transaction["status"] in statuses and transaction["presentments"] >= presentments

        def there_or_over(transaction: Json) -> bool:
            return there(transaction) or (transaction["status"] in _OVER and not set(statuses) & set(_OVER))

        what = f"transaction {transaction_id} to be {' or '.join(statuses)}"
        transaction = wait_for(what, lambda: self.auditor.get(f"/transactions/{transaction_id}"), there_or_over, _brief)
        if not there(transaction):
            raise EndedOtherwise(f"Waited for {what}, but it is {_brief(transaction)}")
        return transaction

    def distribution_in(self, status: str) -> Json:
        return wait_for(
            f"the distribution to be {status}",
            lambda: self.auditor.get(f"/distributions/{self.distribution_id}"),
            lambda distribution: distribution["status"] == status,
            _brief,
        )

    def allocations(self) -> dict[str, Json]:
        """By payee."""
        found = self.auditor.list_all(f"/distributions/{self.distribution_id}/allocations", "allocations")
        return {allocation["partyId"]: allocation for allocation in found}

    def ledger_account(self, code: str) -> Mapping[str, int]:
        """posted, pending, held and available of one ledger account; zeros if it was never used."""
        path = f"/escrow-accounts/{self.escrow_account_id}/ledger-accounts"
        lines = self.auditor.get(path, ledgerAccount=code)["ledgerAccounts"]
        words = ("posted", "pending", "held", "available")
        return {word: sum(minor(line.get(word)) for line in lines) for word in words}

    def wait_for_ledger_account(self, code: str, **wanted: int) -> None:
        """Until the ledger account has those balances."""
        told = ", ".join(f"{word} {amount_minor}" for word, amount_minor in wanted.items())
        wait_for(
            f"{code} in the book to have {told} (cents)",
            lambda: self.ledger_account(code),
            lambda line: all(line[word] == amount_minor for word, amount_minor in wanted.items()),
        )

    def wait_for_investment(self, party: cast.Party, what: str, **wanted: int) -> None:
        """Until those amounts of the party's investment are as wanted."""
        path = f"/investments/{self.investments[party.id]}"
        wait_for(
            f"the investment of {party.id} {what}",
            lambda: self.auditor.get(path),
            lambda investment: all(
                minor(investment.get(word)) == amount_minor for word, amount_minor in wanted.items()
            ),
        )


class EndedOtherwise(Exception):
    """Something came to an end that the story does not know."""


def _brief(resource: Json) -> str:
    failure = resource.get("failure")
    return f"{resource['status']}{f' ({failure})' if failure else ''}"
