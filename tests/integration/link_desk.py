"""The service with Link at the stand-in for Plaid, and what investors do there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from realco.transactions.v1 import bank_accounts_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.values.ids import new_id
from services.transactions.providers.plaid.links import PlaidLinks
from tests.integration.plaid_desk import CLIENT_ID, SECRET, sign_in
from tests.support.transactions import INVESTOR, ORG, TransactionsHarness

B = pb.BankAccount
OTHER = Principal("inv-002", "investor", ORG, parties=frozenset({"inv-002"}))


class LinkDesk:
    """
    Args:
        url: Of the stand-in.
    """

    def __init__(self, service: TransactionsHarness, url: str) -> None:
        self.service, self.url = service, url
        for principal in (INVESTOR, OTHER):
            service.compliance.parties[principal.person] = set(principal.parties)

    async def link(
        self,
        user: str = "user_good",
        number: str = "pass_good",
        principal: Principal = INVESTOR,
        **more: Any,
    ) -> B:
        """The account of a person who has just signed in as `user` at a bank, where it has this number."""
        request = self.build_request(sign_in(self.url, user, number), **more)
        account: B = await self.service.ask(principal, "LinkBankAccount", request)
        return account

    def build_request(self, public_token: str, **more: Any) -> pb.LinkBankAccountRequest:
        values: dict[str, Any] = {"idempotency_key": new_id("key"), "public_token": public_token}
        return pb.LinkBankAccountRequest(**values | more)

    async def get(self, account: B, principal: Principal = INVESTOR) -> B:
        request = pb.GetBankAccountRequest(bank_account_id=account.bank_account_id)
        found: B = await self.service.ask(principal, "GetBankAccount", request)
        return found

    async def count(self) -> int:
        """How many accounts there are."""
        listed = await self.service.ask(INVESTOR, "ListBankAccounts", pb.ListBankAccountsRequest())
        return len(listed.bank_accounts)

    async def read_dossier(self, account: B) -> str:
        """What a second person reads of what the bank said."""
        waiting = await self.service.waiting(account.bank_account_id)
        [told] = [each.statement for each in waiting.explanations if each.rule == "BANK_ACCOUNT_LINKED"]
        return str(told)


@pytest.fixture
async def plaid_links(plaid_url: str) -> AsyncIterator[PlaidLinks]:
    links = PlaidLinks(plaid_url, CLIENT_ID, SECRET, client_name="RealCo")
    yield links
    await links.close()


@pytest.fixture
async def link_desk(service_database: Any, plaid_url: str, plaid_links: PlaidLinks) -> LinkDesk:
    service = TransactionsHarness(await service_database("transactions"), links=plaid_links)
    return LinkDesk(service, plaid_url)
