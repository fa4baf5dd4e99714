"""Stories of wires and checks: people say what the bank did."""

from __future__ import annotations

import pytest

from demo.harness.bank import AT_ONCE, PAYOUT_FAILS
from demo.harness.money import minor_of, usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json
from tests.e2e.organization import Organization


def test_a_wire_is_confirmed_by_somebody_else_than_its_maker(org: Organization) -> None:
    offering, investor = org.open_offering(700_00), org.add_cleared_party()
    wire = org.announce_wire(offering, investor, 700_00)
    path, arrival = f"/transactions/{wire['transactionId']}", {"bankReference": "FT2501020001", "amount": usd(700_00)}

    read = org.admin.get(path)
    assert read["allowedActions"] == ["cancel", "correct_amount"]
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
    path, came = f"/transactions/{wire['transactionId']}", {"amount": usd(arrived)}

    org.admin.decide(path, "correct-amount", came | {"note": "The bank kept 25.00, or found it."})
    confirmed = org.second_admin.decide(path, "confirm", came | {"bankReference": "FT2501020002"})

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


def test_a_payee_whose_bank_sent_it_back_is_paid_by_check_and_again_by_wire_when_that_is_never_cashed(
    org: Organization,
) -> None:
    investor = org.add_cleared_party()
    offering = org.make_closed_offering({investor: 1_000_00})
    org.add_distributable_cash(offering, 500_00)
    org.add_payable_account(investor, PAYOUT_FAILS)
    approved = org.approve_distribution(offering, 500_00)
    path = f"/distributions/{approved['distributionId']}"
    org.admin.post(f"{path}/execute")
    minor, account = 500_00, offering["escrowAccountId"]

    def wait_for_allocation(status: str) -> Json:
        [read] = wait_for(
            f"the allocation to be {status}",
            lambda: org.admin.get(f"{path}/allocations", status=status)["allocations"],
            lambda found: [each for each in found if each["partyId"] == investor],
        )
        return dict(read)

    def send(method: str, reference: str) -> str:
        """Has it paid again, and says that it was sent. Returns: the transaction."""
        failed = wait_for_allocation("RETURNED" if method == "WIRE" else "FAILED")
        org.do_together(f"{path}/allocations/{failed['allocationId']}/resend", {"paymentMethod": method})
        [waiting] = wait_for(
            f"the {method} to wait for who sends it",
            lambda: org.admin.get("/transactions", status="PENDING_SETTLEMENT", paymentMethod=method)["transactions"],
            lambda found: [each for each in found if each["partyId"] == investor],
        )
        assert waiting["direction"] == "OUT"
        sent = {"bankReference": reference, "amount": waiting["amount"]}
        # Both admins had a part in it.
        org.sign_in("admin", "admin-3").decide(f"/transactions/{waiting['transactionId']}", "confirm", sent)
        org.wait_for_distribution(approved["distributionId"], "COMPLETED")
        return str(waiting["transactionId"])

    check = send("CHECK", "CHK 77")
    back = {"kind": "CHECK_RETURNED", "bankReference": "CHK 77 S", "note": "Never cashed, and stopped."}
    org.do_together(f"/transactions/{check}/record-return", back)
    assert org.wait_for_ledger(account, f"payable:{investor}", minor) == {"cash": minor, f"payable:{investor}": minor}

    org.add_payable_account(investor, AT_ONCE)
    send("WIRE", "FT 77")
    wait_for("the ledger to be empty", lambda: org.read_ledger(account), lambda read: read == {})
    org.assert_books_balance(account)


def test_euros_come_in_by_wire_and_go_back_by_wire(org: Organization) -> None:
    offering, investor = org.open_offering(700_00, currency="EUR"), org.add_cleared_party()
    account, amount = offering["escrowAccountId"], {"currencyCode": "EUR", "amountMinor": "70000"}
    wire = org.announce_wire(offering, investor, 700_00)
    arrival = {"bankReference": "FT EUR IN", "amount": amount}
    org.second_admin.decide(f"/transactions/{wire['transactionId']}", "confirm", arrival)
    org.wait_for_investment(wire["investmentId"], lambda read: read["clearedAmount"] == amount)
    org.add_payable_account(investor)

    org.do_together(f"/offerings/{offering['offeringId']}/refund", {"note": "The target was missed."})
    [refund] = wait_for(
        "the refund to wait for a second person",
        lambda: org.admin.get("/transactions", escrowAccountId=account, type="REFUND")["transactions"],
        lambda found: found and found[0]["status"] == "PENDING_APPROVAL",
    )
    path = f"/transactions/{refund['transactionId']}"
    org.second_admin.decide(path, "approve")
    waiting = org.wait_for_transaction(refund["transactionId"], "PENDING_SETTLEMENT")
    assert (waiting["paymentMethod"], waiting["amount"]) == ("WIRE", amount)
    sent = {"bankReference": "FT EUR OUT", "amount": amount}
    refused = org.second_admin.expect_refusal
    refused(403, "MAKER_IS_CHECKER", "POST", f"{path}/confirm", sent, etag=waiting["etag"])
    org.sign_in("admin", "admin-3").decide(path, "confirm", sent)

    org.wait_for_offering(offering["offeringId"], lambda read: read["status"] == "REFUNDED")
    wait_for(
        "the ledger to be empty",
        lambda: org.admin.get(f"/escrow-accounts/{account}/ledger-accounts")["ledgerAccounts"],
        lambda found: {each["posted"]["amountMinor"] for each in found} == {"0"},
    )
