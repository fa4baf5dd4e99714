"""What there is to take in one organization, what one admin has asked for there, and a picture of all its money."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from demo.harness.bank import open_bank, read_movements
from demo.harness.money import usd
from demo.harness.rest import Json, RestClient
from deploy.local.instance import Instance
from tests.e2e.organization import Organization, open_client

Picture = dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    """What waits for a second person, and how that person would let it happen."""

    path: str
    body: Json
    etag: str

    def approve(self, client: RestClient) -> str:
        """The code of the refusal; empty if it was approved."""
        headers = {"If-Match": f'"{self.etag}"', "Idempotency-Key": f"try-{self.path.split('/')[2]}"}
        answer = client.request("POST", self.path, json=self.body, headers=headers)
        return "" if answer.is_success else str(answer.json()["code"])


@dataclass
class Scene:
    """An organization with money that waits to be paid out, money of an investor, and money to distribute.

    Args:
        investor: Has 500.00 in the offering that is open.
        sponsor: Gains 800.00 once a second person approves the proceeds of the offering that is closed.
    """

    org: Organization
    investor: str
    contribution: Json
    opened: Json
    closed: Json
    hold: str
    cash: str
    frozen: str
    empty: str
    wire: Json
    cash_by_wire: Json
    waiting: dict[str, Waiting] = field(default_factory=dict)

    @property
    def sponsor(self) -> str:
        return self.org.sponsor_party_id

    @property
    def payable_account(self) -> str:
        """The sponsor's, where the proceeds go."""
        return str(self.org.admin.get(f"/transactions/{self.proceeds}")["bankAccountId"])

    @property
    def proceeds(self) -> str:
        return str(self.closed["proceedsTransactionId"])

    @property
    def accounts(self) -> tuple[str, ...]:
        return self.opened["escrowAccountId"], self.closed["escrowAccountId"], self.cash, self.frozen, self.empty


def build_entry(debit: str, credit: str, amount_minor: int, **more: Any) -> Json:
    legs = [
        {"ledgerAccount": {"kind": kind}, "direction": direction, "amount": usd(amount_minor)}
        for kind, direction in ((debit, "DEBIT"), (credit, "CREDIT"))
    ]
    return {"type": "ADJUSTMENT", "description": "By hand", "legs": legs} | more


def open_scene(org: Organization) -> Scene:
    paid_in, investor = org.add_cleared_party(), org.add_cleared_party()
    closed = org.open_offering(800_00)
    org.clear_return_risk(org.fund_investment(closed, paid_in, 800_00))
    org.do_together(f"/offerings/{closed['offeringId']}/close")
    closed = org.wait_for_offering(closed["offeringId"], lambda read: read.get("proceedsTransactionId"))
    org.wait_for_transaction(closed["proceedsTransactionId"], "PENDING_APPROVAL")
    opened = org.open_offering(5_000_00)
    contribution = org.fund_investment(opened, investor, 500_00)
    cash, frozen = org.open_escrow_account(), org.open_escrow_account()
    for account in (cash, closed["escrowAccountId"]):
        entry = build_entry("CASH", "DISTRIBUTABLE", 200_00)
        org.do_together(f"/escrow-accounts/{account}/journal-entries", {"journalEntry": entry})
    body = {"ledgerAccount": {"kind": "DISTRIBUTABLE"}, "amount": usd(50_00), "reason": "MANUAL"}
    hold = org.admin.post(f"/escrow-accounts/{closed['escrowAccountId']}/holds", body)
    org.admin.post(f"/escrow-accounts/{frozen}/freeze", {"note": "A court order."})
    wire = org.announce_wire(opened, org.add_cleared_party(), 300_00)
    cash_by_wire, empty = org.announce_cash(opened, 400_00), org.open_escrow_account()
    return Scene(org, investor, contribution, opened, closed, hold["holdId"], cash, frozen, empty, wire, cash_by_wire)


def ask_for_everything(scene: Scene) -> dict[str, Waiting]:
    """The first admin asks for each thing that gives money away; nothing of it may happen by that alone."""
    org, admin = scene.org, scene.org.admin
    cash, investment = f"/escrow-accounts/{scene.cash}", scene.contribution["investmentId"]
    hold = f"/escrow-accounts/{scene.closed['escrowAccountId']}/holds/{scene.hold}"
    [entry, *_] = admin.get(f"{cash}/journal-entries")["journalEntries"]
    reversal = {"type": "REVERSAL", "description": "Back", "reversesJournalEntryId": entry["journalEntryId"]}
    made_up = build_entry("CASH", "DISTRIBUTABLE", 9_999_00)
    crook = org.add_cleared_party()
    to_crook = [{"idempotencyKey": "mine", "journalEntry": build_entry("DISTRIBUTABLE", "SUSPENSE", 100_00)}]
    to_custodian = {"custodianName": "Bank of Nowhere", "custodianAccountLast4": "6666"}
    fees = {"toLedgerAccount": {"kind": "FEES"}}
    asked = {
        "cash out of nothing": admin.post(f"{cash}/journal-entries", {"journalEntry": made_up}),
        "a batch of entries": _post_batch(admin, cash, to_crook),
        "a reversal": admin.post(f"{cash}/journal-entries", {"journalEntry": reversal}),
        "held money to fees": admin.post(f"{hold}/capture", fees),
        "the end of a hold": admin.post(f"{hold}/release"),
        "the end of an account": admin.post(f"/escrow-accounts/{scene.empty}/close"),
        "another custodian": admin.decide(cash, "change-custodian", to_custodian),
        "the end of a freeze": admin.post(f"/escrow-accounts/{scene.frozen}/unfreeze"),
        "a person of the investor": admin.post(f"/parties/{scene.investor}/persons", {"personId": "crook"}),
        "a refund of what was paid": admin.post(f"/investments/{investment}/cancel"),
        "a refund of the whole offering": admin.post(
            f"/offerings/{scene.opened['offeringId']}/refund", {"note": "The target was missed."}
        ),
        "a higher limit": _ask_for_limit(admin),
    }
    waiting = {title: answer["approval"] for title, answer in asked.items()}
    waiting |= {title: _find_in_inbox(org, resource_id) for title, resource_id in _list_resources(scene, crook)}
    ways = {title: _way_of(approval) for title, approval in waiting.items()}
    for title, awaited in (("a wire", scene.wire), ("cash of the issuer", scene.cash_by_wire)):
        wire = f"/transactions/{awaited['transactionId']}"
        read = admin.get(wire)
        arrival = {"bankReference": "FT-1", "amount": read["amount"]}
        ways[f"{title} that never came"] = Waiting(f"{wire}/confirm", arrival, read["etag"])
    return ways


def ask_anew(scene: Scene) -> Json:
    """The first admin asks for the end of an account, with the token of a new sign-in."""
    org = scene.org
    client = open_client(org.instance, org.admin.user, org.instance.issue_token("admin", org.admin.user, org.org_id))
    answer = client.request(
        "POST", f"/escrow-accounts/{scene.empty}/close", json={}, headers={"Idempotency-Key": "anew"}
    )
    client.close()
    return dict(answer.json())


def _post_batch(admin: RestClient, account: str, items: list[Json]) -> Json:
    """Its keys are those of its items."""
    return dict(admin.request("POST", f"{account}/journal-entries/batch", json={"items": items}).json())


def _ask_for_limit(admin: RestClient) -> Json:
    path = "/transaction-limits"
    [known] = [one for one in admin.get(path)["transactionLimits"] if one["type"] == "DAILY_DEPOSIT"]
    return admin.put(path, {"type": "DAILY_DEPOSIT", "amount": usd(9_000_000_00)}, etag=known["etag"])


def _list_resources(scene: Scene, crook: str) -> Iterator[tuple[str, str]]:
    """What waits by itself."""
    org, admin = scene.org, scene.org.admin
    yield "another account of the investor", org.add_bank_account(scene.investor)
    yield "another account of the sponsor", org.add_bank_account(scene.sponsor)
    yield "an account of a party of one's own", org.add_bank_account(crook)
    yield "the proceeds", scene.proceeds
    investment = org.invest(scene.opened, scene.investor, 100_00)
    body = org.build_contribution(scene.opened, investment, scene.contribution["bankAccountId"])
    yield "a debit of the investor", admin.post("/transactions", body)["transactionId"]
    key = {"displayName": "Mine", "scopes": ["ESCROW_WRITE"], "expireTime": f"{org.now():%Y}-12-31T23:59:59Z"}
    yield "an API key", admin.post("/api-keys", key)["apiKey"]["apiKeyId"]
    unchecked = org.add_party()
    yield "a check", admin.get("/compliance-checks", partyId=unchecked)["complianceChecks"][0]["complianceCheckId"]


def _find_in_inbox(org: Organization, resource_id: str) -> Json:
    [waiting] = org.admin.get("/approvals", resourceId=resource_id, status="PENDING")["approvals"]
    return dict(waiting)


def _way_of(approval: Json) -> Waiting:
    body = {"contentHash": approval["contentHash"], "note": "Seen."}
    return Waiting(f"/approvals/{approval['approvalId']}/approve", body, approval["etag"])


def picture(scene: Scene) -> Picture:
    """Where all the money is, where it would be paid to, and who could have it moved."""
    org, rows = scene.org, asyncio.run(_read_rows(scene))
    ours = {transaction_id for transaction_id, _ in rows["transactions"]}
    bank = open_bank(org.instance)
    movements = read_movements(bank, "2020-01-01", f"{org.now():%Y-%m-%d}")
    bank.close()
    return rows | {
        "book": {account: org.read_ledger(account) for account in scene.accounts},
        "held": {account: org.read_held(account) for account in scene.accounts},
        "bank": [one for one in movements if one["reference"] in ours],
    }


async def _read_rows(scene: Scene) -> Picture:
    """Past the API: an answer must not be what hides it."""
    asked = {
        "payable": (
            "transactions",
            "SELECT party_id, bank_account_id FROM bank_accounts WHERE org_id = $1 AND status = 'ACTIVE' ORDER BY 2",
        ),
        "transactions": (
            "transactions",
            "SELECT transaction_id, provider_reference FROM transactions WHERE org_id = $1 ORDER BY 1",
        ),
        "persons": ("compliance", "SELECT party_id, person_id FROM party_persons WHERE org_id = $1 ORDER BY 1, 2"),
        "limits": ("compliance", "SELECT count(*) FROM transaction_limits WHERE org_id = $1"),
        "entries": ("escrow", "SELECT count(*) FROM journal_entries WHERE org_id = $1"),
    }
    found: Picture = {}
    for title, (service, query) in asked.items():
        connection = await asyncpg.connect(scene.org.instance.database_url(service))
        found[title] = [tuple(row) for row in await connection.fetch(query, scene.org.org_id)]
        await connection.close()
    return found


def read_log(instance: Instance, process: str) -> Callable[[], list[Json]]:
    """What the process says from now on: the answer reads it."""
    file = instance.data_dir / "logs" / f"{process}.log"
    size = file.stat().st_size

    def read() -> list[Json]:
        lines = file.read_bytes()[size:].decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    return read
