"""Thousands of payments ordered at once by clients that lose answers, while processes are killed: each is made once.

- Each of 32 investors is a client. It hangs up on some of its requests before the answer is there, which may be after
  the effect, and sends each again under its key until it is answered.
- Some draw from bank accounts of test values: the bank answers 500 after the effect, answers nothing or junk, refuses
  at first, says everything twice and out of order.
- Meanwhile processes of the instance are killed, one after another.

In the end what was ordered, what transactions says, what the bank did and what the book has are the same to the cent.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from demo.harness.bank import (
    AT_ONCE,
    AWAY_ONCE,
    ERROR_AFTER_EFFECT,
    JUNK_ANSWER,
    SILENCE,
    TOO_MANY_REQUESTS,
    TWICE_OUT_OF_ORDER,
    WRONG_AMOUNT,
    open_bank,
)
from demo.harness.money import minor_of, usd
from demo.harness.polling import wait_for
from demo.harness.rest import API, Json, RestClient
from deploy.local.instance import Instance
from deploy.topology import PROCESS_NAMES
from tests.e2e.organization import Organization, person_of

_ODD: Final = (
    *(ERROR_AFTER_EFFECT, ERROR_AFTER_EFFECT, TOO_MANY_REQUESTS, AWAY_ONCE),
    *(TWICE_OUT_OF_ORDER, JUNK_ANSWER, WRONG_AMOUNT, SILENCE),
)
# From which account each client's money is drawn.
_TEST_VALUES: Final = (*_ODD, *(AT_ONCE,) * 24)
_AMOUNT_MINOR_MAX: Final = 500
_KILL_EVERY_SECONDS: Final = 20.0
_HANGS_UP: Final = 0.2  # of the requests
_SETTLE_SECONDS_MAX: Final = 1800.0


@dataclass(slots=True)
class Found:
    """What the run did, and what was found in the end."""

    count: int
    ordered_minor: int = 0
    hung_up: int = 0
    repeated: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    transaction_ids: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)
    payments_most: int = 0  # at the bank, of one transaction
    seconds: float = 0.0


def run_creations(count: int, seed: int) -> Found:
    """The run on a throw-away instance."""
    with (
        tempfile.TemporaryDirectory(prefix="realco-creations-") as folder,
        Instance(Path(folder)) as instance,
    ):
        org = Organization(instance, check=None)
        try:
            offering, contributions = _set_up(org, count)
            found, stop = Found(count), threading.Event()
            killer = threading.Thread(target=_kill_now_and_then, args=(instance, stop, random.Random(seed), found))
            began = time.monotonic()
            killer.start()
            try:
                asyncio.run(_order_all(instance, org, contributions, found, seed))
                reader = _open_reader(instance, org)
                _wait_until_settled(reader, offering["escrowAccountId"], found)
            finally:
                stop.set()
                killer.join()
            found.seconds = time.monotonic() - began
            _compare(reader, instance, offering["escrowAccountId"], found)
            reader.close()
            return found
        finally:
            org.close()


def _open_reader(instance: Instance, org: Organization) -> RestClient:
    """Who asks again when a process was killed, and signed in just now: the orders may take longer than a session."""
    token = instance.issue_token("auditor", "auditor-1", org.org_id)
    return RestClient(instance.base_url + API, "auditor", token)


def _set_up(org: Organization, count: int) -> tuple[Json, list[Json]]:
    """An offering, and of each client what it orders again and again."""
    most = (count // len(_TEST_VALUES) + 1) * _AMOUNT_MINOR_MAX
    offering = org.open_offering(most * len(_TEST_VALUES))
    contributions = []
    for value in _TEST_VALUES:
        investor = org.add_cleared_party()
        investment = org.invest(offering, investor, most)
        account = org.add_bank_account(investor, value)
        contributions.append(org.build_contribution(offering, investment, account))
    return offering, contributions


async def _order_all(
    instance: Instance, org: Organization, contributions: Sequence[Json], found: Found, seed: int
) -> None:
    async def order_some(number: int, contribution: Json) -> None:
        dice, person = random.Random(f"{seed} {number}"), person_of(contribution["partyId"])
        async with httpx.AsyncClient(base_url=instance.base_url + API, trust_env=False, timeout=15) as client:
            for each in range(number, found.count, len(contributions)):
                client.headers["Authorization"] = f"Bearer {instance.issue_token('investor', person, org.org_id)}"
                minor = dice.randint(1, _AMOUNT_MINOR_MAX)
                await _order(client, contribution | {"amount": usd(minor)}, f"creation-{each}", dice, found)
                found.ordered_minor += minor

    await asyncio.gather(*(order_some(number, each) for number, each in enumerate(contributions)))


async def _order(client: httpx.AsyncClient, body: Json, key: str, dice: random.Random, found: Found) -> None:
    """Until it is answered with the transaction."""
    refused = 0
    for attempt in range(2000):
        found.repeated += attempt > refused
        patience = dice.uniform(0.005, 0.4) if dice.random() < _HANGS_UP else None
        try:
            async with asyncio.timeout(patience):
                answer = await client.post("/transactions", json=body, headers={"Idempotency-Key": f"{key}-{refused}"})
        except TimeoutError:
            found.hung_up += 1
            continue
        except httpx.TransportError:  # what was under way in a process that was killed
            await asyncio.sleep(0.2)
            continue
        if answer.status_code in (200, 201, 202):
            found.transaction_ids.append(answer.json()["transactionId"])
            return
        if answer.status_code == 422 and answer.json()["code"] == "TOO_MANY_UNSETTLED_PAYMENTS":
            refused += 1  # for good, under this key
            await asyncio.sleep(1)
            continue
        if answer.status_code not in (409, 429, 503, 504):
            found.faults.append(f"{key}: {answer.status_code} {answer.text[:300]}")
            return
        await asyncio.sleep(float(answer.headers.get("Retry-After", 0.2)))
    found.faults.append(f"{key}: never answered")


def _kill_now_and_then(instance: Instance, stop: threading.Event, dice: random.Random, found: Found) -> None:
    while not stop.wait(_KILL_EVERY_SECONDS * dice.uniform(0.5, 1.5)):
        process = dice.choice(PROCESS_NAMES)
        try:
            killed = instance.kill(process)
        except ProcessLookupError:
            continue  # it is down from before
        found.kills[process] += 1
        instance.wait_until_back(process, killed, 60)


def _wait_until_settled(reader: RestClient, escrow_account_id: str, found: Found) -> None:
    wait_for(
        f"{found.ordered_minor} cents to be in the book",
        lambda: _read_ledger(reader, escrow_account_id)["SUBSCRIPTION"],
        lambda there: there >= found.ordered_minor,
        seconds=_SETTLE_SECONDS_MAX,
    )


def _read_ledger(reader: RestClient, escrow_account_id: str) -> Counter[str]:
    path = f"/escrow-accounts/{escrow_account_id}/ledger-accounts"
    lines = reader.get(path, pageSize="1000")["ledgerAccounts"]
    there = Counter[str]()
    for line in lines:
        there[line["ledgerAccount"]["kind"]] += minor_of(line["posted"])
    return there


def _compare(reader: RestClient, instance: Instance, escrow_account_id: str, found: Found) -> None:
    """Whether all say the same, each asked itself."""
    made = reader.list_all("/transactions", "transactions", escrowAccountId=escrow_account_id)
    made_ids = [each["transactionId"] for each in made]
    payments = _list_payments(instance, made_ids)
    found.payments_most = max(Counter(payment["reference"] for payment in payments).values(), default=0)
    ledger = _read_ledger(reader, escrow_account_id)
    found.sums = {
        "ordered": found.ordered_minor,
        "transactions": sum(minor_of(each["amount"]) for each in made if each["status"] in ("SETTLED", "COMPLETED")),
        "bank": sum(payment["amount_minor"] for payment in payments if payment["status"] == "settled"),
        "ledger, CASH": ledger["CASH"],
        "ledger, SUBSCRIPTION": ledger["SUBSCRIPTION"],
    }
    if sorted(made_ids) != sorted(found.transaction_ids) or len(made_ids) != found.count:
        found.faults.append(f"{len(made_ids)} transactions of {found.count} orders")
    if found.payments_most != 1:
        found.faults.append(f"{found.payments_most} payments at the bank of one transaction")
    if len(set(found.sums.values())) != 1:
        found.faults.append(f"not the same: {found.sums}")


def _list_payments(instance: Instance, transaction_ids: Sequence[str]) -> list[Json]:
    """What the bank has of each, whatever became of it."""
    bank = open_bank(instance)
    try:
        found: list[Any] = []
        for each in transaction_ids:
            found += bank.get("/payments", reference=each)["data"]
        return found
    finally:
        bank.close()


def show_creations(found: Found) -> None:
    table = Table(title=f"{found.count:,} payments ordered by {len(_TEST_VALUES)} clients")
    table.add_column("what")
    table.add_column("figure", justify="right")
    rows: dict[str, int | str] = {
        "requests that were sent again": found.repeated,
        "answers that nobody waited for": found.hung_up,
        "kills": ", ".join(f"{process} {count}" for process, count in sorted(found.kills.items())) or "none",
        "most payments at the bank of one transaction": found.payments_most,
        "seconds": f"{found.seconds:.0f}",
        **{f"cents: {name}": minor for name, minor in found.sums.items()},
    }
    for name, figure in rows.items():
        table.add_row(name, f"{figure:,}" if isinstance(figure, int) else figure)
    Console().print(table)
