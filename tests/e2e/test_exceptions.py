"""What a person has to judge is an exception over REST: staff takes and resolves it, and no investor sees it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from demo.harness.bank import COMES_BACK_AS_R17
from demo.harness.money import minor_of
from demo.harness.rest import RestClient
from tests.e2e.organization import Organization


def test_an_exception_is_found_taken_and_resolved(org: Organization) -> None:
    offering, investor = org.open_offering(10_000_00), org.add_cleared_party()
    transaction_id = org.contribute(offering, investor, 100_00, COMES_BACK_AS_R17)["transactionId"]
    org.wait_for_transaction(transaction_id, "PENDING_SETTLEMENT")
    org.move_clock(org.now() + timedelta(days=4))
    org.wait_for_transaction(transaction_id, "RETURNED")
    query = {"transactionId": transaction_id, "unassigned": "true", "status": "OPEN"}
    [listed] = org.auditor.list_all("/exceptions", "paymentExceptions", **query)
    assert (listed["kind"], listed["severity"]) == ("RETURN_TO_REVIEW", "MEDIUM")
    assert (listed["cause"][:3], minor_of(listed["amount"])) == ("R17", 100_00)

    path = f"/exceptions/{listed['paymentExceptionId']}"
    found = org.admin.get(path)
    assert found["allowedActions"] == ["assign"]  # who added the bank account does not say that it is in order
    assert org.second_admin.get(path)["allowedActions"] == ["assign", "resolve"]
    assert org.sponsor.get(path)["allowedActions"] == []
    taken = org.admin.post(f"{path}/assign", {"personId": "finance-7"}, etag=found["etag"])
    assert taken["assignee"] == "finance-7"
    note = {"note": "The bank took it for a fraud; its holder sends a wire."}
    done = org.second_admin.post(f"{path}/resolve", note, etag=taken["etag"])
    assert (done["status"], done["resolutionNote"]) == ("RESOLVED", note["note"])
    changes = org.auditor.list_all(f"{path}/status-changes", "statusChanges")
    assert [(each["status"], each["actor"] == done["resolvedBy"]) for each in changes] == [
        ("OPEN", False),
        ("RESOLVED", True),
    ]
    unnamed = org.admin.request("POST", f"{path}/assign", json={"personId": "finance-7"})
    assert (unnamed.status_code, unnamed.json()["code"]) == (428, "ETAG_REQUIRED")


@pytest.mark.parametrize("path", ["/exceptions", "/exceptions/exc_" + "0" * 26])
def test_no_investor_sees_an_exception(org: Organization, path: str) -> None:
    investor: RestClient = org.sign_in_investor(org.add_cleared_party())
    refused = investor.request("GET", path)
    assert (refused.status_code, refused.json()["code"]) == (403, "PERMISSION_DENIED")
