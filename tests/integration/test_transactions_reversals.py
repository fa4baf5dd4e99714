"""A payout by files that was paid in error: two persons have it taken back, and the book follows the bank, once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import achkit
import pytest
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import exceptions_pb2, return_rates_pb2, unfinished_pb2
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.jobs.watch_ach_files import watch_ach_files
from services.transactions.jobs.watch_return_rates import watch_return_rates
from tests.integration.ach_desk import CUT_OFF, Folders, T, leave
from tests.support.ach import Sent, build_returns, list_sent
from tests.support.exceptions import list_exceptions, resolve
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, TransactionsHarness, pb

pytest_plugins = ("tests.integration.ach_desk",)

R = T.Reversal
E = exceptions_pb2.PaymentException
# A payout that settled on Tuesday is taken back by the file of Wednesday, and what that draws counts a week after
# Thursday.
SETTLED = CUT_OFF.replace(day=3, hour=13)
ORDERED = CUT_OFF.replace(day=4, hour=12)
DRAWN = CUT_OFF.replace(day=5, hour=13)
COUNTS = CUT_OFF.replace(day=12, hour=13)


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def refused(call: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await call
    return refusal.value


async def be(service: TransactionsHarness, at: datetime) -> None:
    service.clock.set(at)
    await service.work(hurried=True)


async def fetch(service: TransactionsHarness, folders: Folders, at: datetime) -> list[Sent]:
    """What the bank finds at a cut-off, and takes away."""
    await leave(service, at)
    found = [each for content in folders.sent for each in list_sent(content)]
    for path in folders.outbound.glob("*.ach"):
        assert achkit.validate(path.read_text()) == {"ok": True, "errors": []}
        path.unlink()
    await service.run(watch_ach_files)
    return found


async def pay(service: TransactionsHarness, folders: Folders) -> tuple[Any, Sent]:
    """A payout that has settled, and its entry."""
    payout = await service.payout("inv-002", "08")
    await service.work()
    [sent] = await fetch(service, folders, CUT_OFF)
    await be(service, SETTLED)
    assert (await service.get(payout.transaction_id)).status == T.COMPLETED
    return payout, sent


async def ask(service: TransactionsHarness, payout: Any, by: Principal = ADMIN, **more: Any) -> Any:
    said = {"transaction_id": payout.transaction_id, "reason": R.DUPLICATE, "note": "It was in the list twice."}
    request = pb.ReverseTransactionRequest(idempotency_key=new_id("key"), **said | more)
    return (await service.ask(by, "ReverseTransaction", request)).approval


async def reverse(service: TransactionsHarness, payout: Any, at: datetime = ORDERED) -> None:
    await be(service, at)
    await service.grant(await ask(service, payout))
    await service.work()


async def draw(service: TransactionsHarness, folders: Folders) -> tuple[Any, Sent, Sent]:
    """A payout whose reversal was drawn: its entry, and the one that takes it back."""
    payout, paid = await pay(service, folders)
    await reverse(service, payout)
    [drawn] = await fetch(service, folders, ORDERED.replace(hour=20))
    await be(service, DRAWN)
    return payout, paid, drawn


async def come_back(service: TransactionsHarness, folders: Folders, sent: Sent, code: str, at: datetime) -> None:
    service.clock.set(at)
    folders.put(f"returns-{at:%Y%m%d}-{sent.trace}.ach", build_returns([(sent, code)], at.date()))
    await service.run(read_ach_files)
    await service.work(hurried=True)


async def state(service: TransactionsHarness, payout: Any) -> tuple[str, str]:
    seen = await service.get(payout.transaction_id)
    return T.Status.Name(seen.status), R.Status.Name(seen.reversal.status)


async def list_unfinished(service: TransactionsHarness) -> list[str]:
    request = unfinished_pb2.ListUnfinishedTransactionsRequest(escrow_account_id=ESCROW_ACCOUNT)
    escrow = Principal("service:escrow", "service", ADMIN.org_id)
    return list((await service.ask(escrow, "ListUnfinishedTransactions", request)).transaction_ids)


async def told(service: TransactionsHarness) -> list[str]:
    return [each.cause for each in await list_exceptions(service, kind=["PAYOUT_NOT_REVERSED"])]


async def test_what_two_persons_take_back_is_drawn_from_where_it_went_and_comes_back_once_that_counts(
    service, folders
) -> None:
    payout, paid, drawn = await draw(service, folders)
    assert (paid.code, drawn.code) == ("22", "27")
    alike = (drawn.routing_number, drawn.account_number, drawn.amount_minor, drawn.line[39:76])
    assert alike == (paid.routing_number, paid.account_number, paid.amount_minor, paid.line[39:76])
    assert await state(service, payout) == ("COMPLETED", "SETTLED")
    assert (await service.path(payout.transaction_id))[-1] == "COMPLETED", "nothing is booked yet"
    await be(service, COUNTS - timedelta(minutes=1))
    assert await state(service, payout) == ("COMPLETED", "SETTLED")
    await be(service, COUNTS)
    seen = await service.get(payout.transaction_id)
    assert await state(service, payout) == ("RETURNED", "COMPLETED")
    assert (seen.failure.code, seen.finality) == ("PAYOUT_REVERSED", T.PROVISIONAL)
    events = await service.events(payout.transaction_id)
    assert events[-3:] == ["TransactionUpdated", "TransactionUpdated", "TransactionReturned"]
    assert (await told(service), await list_unfinished(service)) == ([], [payout.transaction_id])
    await be(service, DRAWN + timedelta(days=70))
    assert await list_unfinished(service) == [], "the debit can come back no more"


async def test_nobody_takes_a_payout_back_alone_and_nobody_who_was_paid_decides(service, folders) -> None:
    payout, _ = await pay(service, folders)
    await be(service, ORDERED)
    assert "reverse" in (await service.get(payout.transaction_id)).allowed_actions
    asked = await ask(service, payout)
    assert (await refused(service.grant(asked, ADMIN))).reason == "MAKER_IS_CHECKER"
    service.compliance.parties[CHECKER.person] = {"inv-002"}
    assert (await refused(service.grant(asked))).reason == "BENEFICIARY_IS_CHECKER"
    await service.work(hurried=True)
    assert not (await service.get(payout.transaction_id)).HasField("reversal")
    assert await fetch(service, folders, ORDERED.replace(hour=20)) == []


async def test_whoever_decides_reads_which_payment_to_which_account_and_for_what_it_is_taken_back(
    service, folders
) -> None:
    payout, _ = await pay(service, folders)
    await be(service, ORDERED)
    await ask(service, payout)
    dossier = await service.waiting(payout.transaction_id)
    assert dossier.summary == (
        "Take back what was paid in error: Distribution: 50.00 USD, paid to inv-002, account …1108"
    )
    assert (dossier.amount.amount_minor, list(dossier.beneficiary_party_ids)) == (50_00, ["inv-002"])
    bound = {each.field: each.value for each in dossier.preconditions}
    seen = await service.get(payout.transaction_id)
    assert bound["provider_reference"] == seen.provider_reference
    assert bound["account_number_code"]
    said = {each.rule: each.statement for each in dossier.explanations}
    assert "would settle on 2024-12-05; the last day for that is 2024-12-10" in said["ACH_REVERSAL"]


async def test_a_payout_is_taken_back_once(service, folders) -> None:
    payout, _, drawn = await draw(service, folders)
    again = await refused(ask(service, payout, reason=R.WRONG_AMOUNT))
    assert (again.reason, again.metadata["status"]) == ("ILLEGAL_STATUS_CHANGE", "SETTLED")
    await come_back(service, folders, drawn, "R01", DRAWN + timedelta(days=1))
    assert (await refused(ask(service, payout))).reason == "ILLEGAL_STATUS_CHANGE"


async def test_who_asks_too_late_is_refused_and_so_is_what_is_approved_too_late(service, folders) -> None:
    payout, _ = await pay(service, folders)
    last = CUT_OFF.replace(day=9, hour=20, minute=29)  # it settles on Tuesday, the fifth banking day
    await be(service, last)
    asked = await ask(service, payout)
    await be(service, last + timedelta(minutes=1))
    assert (await refused(ask(service, payout, reason=R.WRONG_RECEIVER))).reason == "REVERSAL_TOO_LATE"
    done = await service.grant(asked)
    assert (Approval.Status.Name(done.status), done.failure.code) == ("FAILED", "REVERSAL_TOO_LATE")
    assert not (await service.get(payout.transaction_id)).HasField("reversal")


async def test_what_misses_its_last_file_is_not_drawn_and_somebody_is_told(service, folders) -> None:
    payout, _ = await pay(service, folders)
    await reverse(service, payout, CUT_OFF.replace(day=9, hour=12))
    assert await list_unfinished(service) == [payout.transaction_id]
    assert await fetch(service, folders, CUT_OFF.replace(day=10)) == []  # nothing ran on Monday evening
    assert await state(service, payout) == ("COMPLETED", "FAILED")
    seen = await service.get(payout.transaction_id)
    assert seen.reversal.failure.code == "REVERSAL_TOO_LATE"
    [cause] = await told(service)
    assert "Nothing is to be booked" in cause
    await be(service, CUT_OFF.replace(day=11))
    assert ((await service.get(payout.transaction_id)).finality, await list_unfinished(service)) == (T.FINAL, [])


async def test_what_comes_back_before_it_counts_leaves_the_payout_as_it_is_and_somebody_is_told(
    service, folders
) -> None:
    payout, _, drawn = await draw(service, folders)
    await come_back(service, folders, drawn, "R01", DRAWN + timedelta(days=1))
    seen = await service.get(payout.transaction_id)
    assert await state(service, payout) == ("COMPLETED", "FAILED")
    assert seen.reversal.failure.metadata["network_code"] == "R01"
    [cause] = await told(service)
    assert cause.startswith("It was not taken back (R01: insufficient funds): who was paid has 50.00 USD.")
    await be(service, COUNTS + timedelta(days=1))
    assert await state(service, payout) == ("COMPLETED", "FAILED")
    assert (await service.get(payout.transaction_id)).finality == T.FINAL
    await come_back(service, folders, drawn, "R01", COUNTS + timedelta(days=2))  # the same once more
    [found] = await list_exceptions(service, kind=["PAYOUT_NOT_REVERSED"])
    assert found.occurrence_count == 1


async def test_a_payout_that_comes_back_after_its_reversal_failed_is_told_to_whoever_looks_into_it(
    service, folders
) -> None:
    payout, paid, drawn = await draw(service, folders)
    await come_back(service, folders, drawn, "R24", DRAWN + timedelta(days=1))
    doubt = await list_exceptions(service, kind=["RETURN_TO_REVIEW"])
    assert [each.cause for each in doubt] == ["R24, of a reversal: duplicate entry"]
    await come_back(service, folders, paid, "R03", DRAWN + timedelta(days=2))
    assert await state(service, payout) == ("RETURNED", "FAILED")
    [cause] = await told(service)
    assert cause.startswith("The payout came back by its bank, after its reversal had failed")


async def test_what_comes_back_after_it_counted_moves_nothing_and_whoever_is_called_reads_what_to_book(
    service, folders
) -> None:
    payout, _, drawn = await draw(service, folders)
    await be(service, COUNTS)
    await come_back(service, folders, drawn, "R11", COUNTS + timedelta(days=20))
    assert await state(service, payout) == ("RETURNED", "RETURNED")
    [found] = await list_exceptions(service, kind=["PAYOUT_NOT_REVERSED"])
    assert (found.severity, found.transaction_id) == (E.HIGH, payout.transaction_id)
    assert "Pay it no more, and book by hand: credit CASH 50.00 USD, debit PAYABLE of the party" in found.cause
    assert {each.kind for each in await list_exceptions(service)} == {E.PAYOUT_NOT_REVERSED, E.PAYOUT_NOT_PAID}


@pytest.mark.parametrize("stays", [True, False], ids=["and stays", "and comes back as well"])
async def test_a_payout_that_comes_back_by_its_bank_while_it_is_taken_back_counts_once(service, folders, stays) -> None:
    payout, paid, drawn = await draw(service, folders)
    await come_back(service, folders, paid, "R03", DRAWN + timedelta(days=1))
    assert await state(service, payout) == ("RETURNED", "SETTLED")
    assert await list_unfinished(service) == [payout.transaction_id]
    if not stays:
        await come_back(service, folders, drawn, "R03", DRAWN + timedelta(days=4))
    await be(service, COUNTS)
    assert await state(service, payout) == ("RETURNED", "DRAWN_IN_EXCESS" if stays else "FAILED")
    causes = await told(service)
    assert ["50.00 USD was drawn too much" in cause for cause in causes] == ([True] if stays else [])
    assert (await service.events(payout.transaction_id)).count("TransactionReturned") == 1
    assert (await service.get(payout.transaction_id)).failure.metadata["network_code"] == "R03"
    assert await list_unfinished(service) == ([payout.transaction_id] if stays else [])
    if stays:
        await come_back(service, folders, drawn, "R10", COUNTS + timedelta(days=5))
        [cause] = await told(service)
        assert (await state(service, payout), "is to be undone" in cause) == (("RETURNED", "FAILED"), True)
        assert await list_unfinished(service) == []


async def test_a_payout_that_comes_back_before_its_reversal_leaves_is_not_drawn(service, folders) -> None:
    payout, paid = await pay(service, folders)
    await reverse(service, payout)
    await come_back(service, folders, paid, "R03", ORDERED + timedelta(hours=1))
    assert await fetch(service, folders, ORDERED.replace(hour=20)) == []
    assert await state(service, payout) == ("RETURNED", "FAILED")
    assert (await told(service), await list_unfinished(service)) == ([], [])


async def test_a_payout_that_comes_back_by_its_bank_after_it_was_taken_back_is_told(service, folders) -> None:
    payout, paid, _ = await draw(service, folders)
    await be(service, COUNTS)
    for _ in range(2):
        await come_back(service, folders, paid, "R31", COUNTS + timedelta(days=1))
    assert await state(service, payout) == ("RETURNED", "DRAWN_IN_EXCESS")
    [found] = await list_exceptions(service, kind=["PAYOUT_NOT_REVERSED"])
    assert (found.occurrence_count, "debit CASH 50.00 USD, credit SUSPENSE" in found.cause) == (1, True)
    assert (await service.events(payout.transaction_id)).count("TransactionReturned") == 1


async def test_who_retires_the_account_that_was_paid_keeps_nothing_from_being_taken_back(service, folders) -> None:
    payout, _ = await pay(service, folders)
    owner = Principal("inv-002", "investor", ADMIN.org_id, parties=frozenset({"inv-002"}))
    request = bank_pb.DeleteBankAccountRequest(bank_account_id=payout.bank_account_id)
    await service.ask(owner, "DeleteBankAccount", request)
    await reverse(service, payout)
    [drawn] = await fetch(service, folders, ORDERED.replace(hour=20))
    assert (drawn.code, drawn.account_number) == ("27", "000111111108")


async def test_what_the_bank_never_had_is_not_taken_back(service, folders) -> None:
    payout = await service.payout("inv-002", "08")
    await service.work()
    await leave(service)
    await be(service, SETTLED)
    await reverse(service, payout)
    [file] = folders.outbound.glob("*.ach")
    file.write_bytes(file.read_bytes() + b"9")  # somebody altered it before the bank came
    await service.run(watch_ach_files)
    assert await fetch(service, folders, ORDERED.replace(hour=20)) == []
    assert await state(service, payout) == ("COMPLETED", "FAILED")
    assert "nobody has its money" in (await service.get(payout.transaction_id)).reversal.failure.message


async def test_who_ordered_a_reversal_does_not_say_alone_that_what_became_of_it_is_settled(service, folders) -> None:
    _, _, drawn = await draw(service, folders)
    await come_back(service, folders, drawn, "R01", DRAWN + timedelta(days=1))
    [found] = await list_exceptions(service, kind=["PAYOUT_NOT_REVERSED"])
    for maker in (ADMIN, CHECKER):
        assert (await refused(resolve(service, found, "Never mind.", maker))).reason == "MAKER_IS_CHECKER"
    await resolve(service, found, "They paid it back by wire.", Principal("admin-3", "admin", ADMIN.org_id))


@pytest.mark.parametrize("prenotes", [True])
async def test_no_bank_is_asked_first_about_an_account_that_was_paid(service, folders, prenotes) -> None:
    payout = await service.payout("inv-002", "08")
    await service.work()
    await fetch(service, folders, CUT_OFF)
    [paid] = await fetch(service, folders, CUT_OFF.replace(day=6))
    await be(service, CUT_OFF.replace(day=9, hour=14))
    await reverse(service, payout, CUT_OFF.replace(day=9, hour=15))
    assert paid.code == "22"
    assert [each.code for each in await fetch(service, folders, CUT_OFF.replace(day=9))] == ["27"]


@pytest.mark.parametrize("acknowledges", [True])
async def test_what_is_in_a_file_that_the_bank_rejects_is_not_taken_back(service, folders, acknowledges) -> None:
    payout = await service.payout("inv-002", "08")
    await service.work()
    await leave(service)
    [paying] = folders.outbound.glob("*.ach")
    folders.put("a.ack", f"FILE {paying.name} ACCEPTED 1 0.00 50.00".encode())
    await service.run(read_ach_files)
    await be(service, SETTLED)
    await reverse(service, payout)
    await leave(service, ORDERED.replace(hour=20))
    [file] = [each for each in folders.outbound.glob("*.ach") if each != paying]
    await be(service, DRAWN)
    assert await state(service, payout) == ("COMPLETED", "ORDERED")
    folders.put("b.ack", f"FILE {file.name} REJECTED 1 50.00 0.00 WHY".encode())
    await service.run(read_ach_files)
    await be(service, DRAWN + timedelta(days=1))
    assert await state(service, payout) == ("COMPLETED", "FAILED")
    assert "WHY" in (await service.get(payout.transaction_id)).reversal.failure.message


async def test_what_takes_a_payout_back_is_a_debit_that_nacha_counts(service, folders) -> None:
    _, _, drawn = await draw(service, folders)
    for returns in (0, 1):
        await service.run(watch_return_rates)
        seen = await service.ask(ADMIN, "GetAchReturnRates", return_rates_pb2.GetAchReturnRatesRequest())
        counted = {each.kind: each.return_count for each in seen.rates}
        kinds = return_rates_pb2.AchReturnRate
        assert (seen.debit_count, counted[kinds.OVERALL], counted[kinds.ADMINISTRATIVE]) == (1, returns, returns)
        await come_back(service, folders, drawn, "R02", DRAWN + timedelta(days=1))
