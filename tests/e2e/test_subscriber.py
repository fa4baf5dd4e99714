"""docs/subscriber.py, as another team would run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.harness.money import usd
from demo.harness.waiting import wait_for
from tests.e2e.organization import Organization

ROOT = Path(__file__).parents[2]


@contextmanager
def subscriber(url: str, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "docs/subscriber.py", url], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_the_subscriber_of_the_docs_prints_a_posting(org: Organization, tmp_path: Path) -> None:
    account = org.admin.post(
        "/escrow-accounts",
        {"displayName": "Subscribed", "currencyCode": "USD", "custodianName": "First", "custodianAccountLast4": "0001"},
    )["escrowAccountId"]
    out = tmp_path / "subscriber.log"
    with subscriber(org.instance.nats_url("subscriber"), out) as process:
        entry = {
            "type": "ADJUSTMENT",
            "description": "Opening balance",
            "legs": [
                {"ledgerAccount": {"kind": "CASH"}, "direction": "DEBIT", "amount": usd(90210)},
                {"ledgerAccount": {"kind": "SUSPENSE"}, "direction": "CREDIT", "amount": usd(90210)},
            ],
        }
        org.admin.post(f"/escrow-accounts/{account}/journal-entries", {"journalEntry": entry})
        printed = wait_for(
            "the posting on the subscriber's screen", out.read_text, lambda printed: "SUSPENSE CREDIT 90210" in printed
        )
        assert process.poll() is None
    assert "CASH DEBIT 90210 POSTED" in printed
    assert "SUSPENSE CREDIT 90210 POSTED" in printed
