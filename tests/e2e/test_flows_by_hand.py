"""Stories of wires and checks: people say what the bank did."""

from __future__ import annotations

import pytest

from demo.harness.money import minor_of, usd
from demo.harness.polling import wait_for
from tests.e2e.organization import Organization


def test_a_wire_is_confirmed_by_somebody_else_than_its_maker(org: Organization) -> None:
    offering, investor = org.open_offering(700_00), org.add_cleared_party()
    wire = org.announce_wire(offering, investor, 700_00)
    path, arrival = f"/transactions/{wire['transactionId']}", {"bankReference": "FT2501020001", "amount": usd(700_00)}

    read = org.admin.get(path)
    assert read["allowedActions"] == ["cancel"]
    org.admin.expect_refusal(403, "MAKER_IS_CHECKER", "POST", f"{path}/confirm", arrival, etag=read["etag"])
    confirmed = org.second_admin.decide(path, "confirm", arrival)

    assert confirmed["status"] in ("SETTLED", "COMPLETED")
    done = org.wait_for_transaction(wire["transactionId"], "COMPLETED")
    assert done["finality"] == "FINAL"
    assert org.wait_for_ledger(offering["escrowAccountId"], "cash", 700_00) == {
        "cash": 700_00,
        f"subscription:{investor}": 700_00,
    }


@pytest.mark.parametrize("arrived", [675_00, 725_00], ids=["short", "over"])
def test_what_a_wire_brought_is_what_the_book_and_the_investment_have(org: Organization, arrived: int) -> None:
    offering, investor = org.open_offering(700_00), org.add_cleared_party()
    wire = org.announce_wire(offering, investor, 700_00)
    arrival = {
        "bankReference": "FT2501020002",
        "amount": usd(arrived),
        "differenceNote": "The bank kept 25.00, or found it.",
    }

    confirmed = org.second_admin.decide(f"/transactions/{wire['transactionId']}", "confirm", arrival)

    assert (minor_of(confirmed["amount"]), minor_of(confirmed["announcedAmount"])) == (arrived, 700_00)
    org.wait_for_transaction(wire["transactionId"], "COMPLETED")
    book = org.wait_for_ledger(offering["escrowAccountId"], "cash", arrived)
    assert book == {"cash": arrived, f"subscription:{investor}": arrived}
    funded = wait_for(
        "the investment to be funded",
        lambda: org.admin.get(f"/investments/{wire['investmentId']}"),
        lambda read: minor_of(read["clearedAmount"]) == arrived,
    )
    assert (minor_of(funded["fundedAmount"]), minor_of(funded["amount"])) == (arrived, 700_00)


def test_a_check_that_bounces_leaves_nothing_in_the_book_and_nothing_in_the_investment(org: Organization) -> None:
    offering, investor = org.open_offering(700_00), org.add_cleared_party()
    check = org.announce_wire(offering, investor, 700_00, "CHECK")
    path = f"/transactions/{check['transactionId']}"
    org.second_admin.decide(path, "confirm", {"bankReference": "CHK 1", "amount": usd(700_00)})
    org.wait_for_ledger(offering["escrowAccountId"], "cash", 700_00)

    bounced = {"kind": "CHECK_RETURNED", "bankReference": "CHK 1 R", "note": "Not sufficient funds."}
    asked = org.admin.post(f"{path}/record-return", bounced)
    read = org.second_admin.get(f"/approvals/{asked['approval']['approvalId']}")
    assert {each["ledgerAccount"]["kind"] for each in read["effects"]} == {"CASH", "SUBSCRIPTION"}
    org.approve(asked)

    returned = org.wait_for_transaction(check["transactionId"], "RETURNED")
    assert returned["failure"]["code"] == "CHECK_RETURNED"
    org.wait_for_ledger(offering["escrowAccountId"], "cash", 0)
    org.assert_books_balance(offering["escrowAccountId"])
    wait_for(
        "the investment to have nothing",
        lambda: org.admin.get(f"/investments/{check['investmentId']}"),
        lambda read: minor_of(read["fundedAmount"]) == 0,
    )
