"""How a ledger account is written where people read it."""

from __future__ import annotations

from demo.harness.rest import Json


def name_of_account(account: Json) -> str:
    """`{"kind": "SUBSCRIPTION", "partyId": "inv-001"}` -> `subscription:inv-001`."""
    kind = str(account["kind"]).lower()
    return f"{kind}:{account['partyId']}" if "partyId" in account else kind
