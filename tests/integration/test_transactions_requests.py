"""What may be asked, by whom, and what a repeated request hears."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from realco.compliance.v1.compliance_pb2 import ComplianceCheck
from realco.distributions.v1.offerings_pb2 import Investment, Offering
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from tests.support.arrivals import confirm, correct
from tests.support.peers.compliance import decide
from tests.support.transactions import (
    ADMIN,
    CHECKER,
    ESCROW_ACCOUNT,
    IMPORT,
    INVESTOR,
    TransactionsHarness,
    usd,
)

T = pb.Transaction
STRANGER = Principal("inv-999", "investor", "org-1", parties=frozenset({"inv-999"}))
OTHER_ORG = Principal("admin-9", "admin", "org-2")


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def refused(service: TransactionsHarness, principal: Principal, rpc: str, request) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await service.ask(principal, rpc, request)
    return refusal.value


async def stored(service: TransactionsHarness) -> int:
    return len((await service.ask(ADMIN, "ListTransactions", pb.ListTransactionsRequest())).transactions)


async def test_over_the_limit_is_refused_with_the_working_and_a_replay_hears_the_same(
    service: TransactionsHarness,
) -> None:
    service.compliance.daily_deposit_minor = 50_00
    request = await service.deposit_request()
    first = await refused(service, IMPORT, "CreateTransaction", request)
    service.compliance.daily_deposit_minor = None
    with service.wire.cut(service.escrow):  # a replay asks nobody
        again = await refused(service, IMPORT, "CreateTransaction", request)
    for refusal in (first, again):
        assert refusal.reason == "TRANSACTION_LIMIT_EXCEEDED"
        assert refusal.message == "10000 more than the 0 of today would pass 5000."
        assert refusal.metadata["remaining_minor"] == "5000"
    kept = await service.get(first.metadata["transaction_id"])
    assert (kept.status, kept.failure.code, kept.failure.retryable) == (T.FAILED, first.reason, False)
    assert dict(kept.failure.metadata) == first.metadata == again.metadata
    assert await stored(service) == 1
    assert await service.path(kept.transaction_id) == ["INITIATED", "FAILED"]


async def test_the_same_key_is_the_same_transaction_even_in_a_crowd(service: TransactionsHarness) -> None:
    request = await service.deposit_request()
    answers = await asyncio.gather(*(service.ask(IMPORT, "CreateTransaction", request) for _ in range(5)))
    assert {answer.transaction_id for answer in answers} == {answers[0].transaction_id}
    assert await stored(service) == 1
    changed = pb.CreateTransactionRequest()
    changed.CopyFrom(request)
    changed.amount.amount_minor += 1
    assert (await refused(service, IMPORT, "CreateTransaction", changed)).reason == "IDEMPOTENCY_KEY_REUSED"
    # Another person's key is another key.
    other = await service.ask(Principal("admin-7", "admin", "org-1"), "CreateTransaction", request)
    assert other.transaction_id != answers[0].transaction_id


REFUSED = [
    ({"bank_account_id": ""}, "INVALID_FIELD", ["bank_account_id"]),
    ({"payment_method": T.WIRE}, "INVALID_FIELD", ["bank_account_id"]),
    ({"investment_id": ""}, "INVALID_FIELD", ["investment_id"]),
    ({"type": T.DEPOSIT}, "INVALID_FIELD", ["investment_id"]),
    ({"party_id": ""}, "INVALID_FIELD", ["party_id"]),
    ({"investment_id": new_id("inv")}, "INVESTMENT_NOT_FOUND", ["investment_id"]),
    ({"bank_account_id": new_id("ba")}, "BANK_ACCOUNT_NOT_FOUND", ["bank_account_id"]),
    ({"escrow_account_id": new_id("esc")}, "ESCROW_ACCOUNT_MISMATCH", ["escrow_account_id"]),
    ({"amount": usd(1_000_01)}, "COMMITMENT_EXCEEDED", ["amount.amount_minor"]),
    ({"party_id": "inv-002"}, "INVESTMENT_NOT_FOUND", ["investment_id"]),
]


async def test_what_cannot_be_received_is_refused_and_nothing_is_kept(service: TransactionsHarness) -> None:
    good = await service.deposit_request()
    for number, (change, reason, fields) in enumerate(REFUSED):
        values = {field.name: value for field, value in good.ListFields()} | {"idempotency_key": f"key-{number}"}
        refusal = await refused(service, IMPORT, "CreateTransaction", pb.CreateTransactionRequest(**values | change))
        assert (change, refusal.reason, list(refusal.fields)) == (change, reason, fields)
    assert await stored(service) == 0


async def _freeze(service: TransactionsHarness) -> None:
    service.escrow.accounts[ESCROW_ACCOUNT].status = EscrowAccount.FROZEN


async def _euro(service: TransactionsHarness) -> None:
    service.escrow.accounts[ESCROW_ACCOUNT].currency_code = "EUR"


async def _close(service: TransactionsHarness) -> None:
    service.escrow.accounts[ESCROW_ACCOUNT].status = EscrowAccount.CLOSED


async def _invest_euros(service: TransactionsHarness) -> None:
    for investment in service.distributions.investments.values():
        investment.amount.currency_code = "EUR"


async def _fund(service: TransactionsHarness) -> None:
    for investment in service.distributions.investments.values():
        investment.funded_amount.amount_minor = 999_99


async def _close_offering(service: TransactionsHarness) -> None:
    service.distributions.offering.status = Offering.CLOSING
    service.distributions.offering.deadline_time.FromJsonString("2024-12-31T00:00:00Z")


async def _move_offering(service: TransactionsHarness) -> None:
    service.distributions.offering.escrow_account_id = OTHER_ACCOUNT


OTHER_ACCOUNT = new_id("esc")


@pytest.mark.parametrize(("change", "reason", "fields", "facts"), [
    (_freeze, "ESCROW_ACCOUNT_FROZEN", ["escrow_account_id"], {"escrow_account_id": ESCROW_ACCOUNT}),
    (_close, "ESCROW_ACCOUNT_CLOSED", ["escrow_account_id"], {"escrow_account_id": ESCROW_ACCOUNT}),
    (_euro, "CURRENCY_MISMATCH", ["amount.currency_code"], {"currency_code": "EUR"}),
    (_invest_euros, "CURRENCY_MISMATCH", ["amount.currency_code"], {"currency_code": "EUR"}),
    (
        _fund,
        "COMMITMENT_EXCEEDED",
        ["amount.amount_minor"],
        {"remaining_minor": "1", "requested_minor": "10000", "currency_code": "USD"},
    ),
    (_close_offering, "OFFERING_NOT_OPEN", [], {"status": "CLOSING", "deadline_time": "2024-12-31T00:00:00Z"}),
    (_move_offering, "ESCROW_ACCOUNT_MISMATCH", ["escrow_account_id"], {"escrow_account_id": OTHER_ACCOUNT}),
])  # fmt: skip
async def test_why_money_cannot_be_received_has_a_code_with_its_facts_and_is_the_first_answer(
    service: TransactionsHarness, change, reason: str, fields: list[str], facts: dict[str, str]
) -> None:
    request = await service.deposit_request()
    await change(service)
    for _ in (1, 2):
        refusal = await refused(service, IMPORT, "CreateTransaction", request)
        assert (refusal.reason, list(refusal.fields)) == (reason, fields)
        assert facts.items() <= refusal.metadata.items()
    assert await stored(service) == 0


async def test_nothing_is_paid_after_the_deadline(service: TransactionsHarness) -> None:
    """What is on its way goes on; neither a new contribution nor another attempt begins."""
    declined = await service.deposit(suffix="93")
    await service.work()
    request = await service.deposit_request()
    service.distributions.offering.deadline_time.FromDatetime(service.clock.now() - timedelta(seconds=1))
    assert (await refused(service, IMPORT, "CreateTransaction", request)).reason == "OFFERING_NOT_OPEN"
    retry = pb.RetryTransactionRequest(idempotency_key="again", transaction_id=declined.transaction_id)
    assert (await refused(service, IMPORT, "RetryTransaction", retry)).reason == "OFFERING_NOT_OPEN"


async def test_no_money_goes_where_an_escrow_account_has_a_status_of_a_newer_release(
    service: TransactionsHarness,
) -> None:
    request = await service.deposit_request()
    service.escrow.accounts[ESCROW_ACCOUNT].status = 99
    assert (await refused(service, IMPORT, "CreateTransaction", request)).reason == "UNAVAILABLE"
    assert await stored(service) == 0


OF_A_NEWER_RELEASE = "99"


@pytest.mark.parametrize(
    "status", [*sorted(set(Investment.Status.keys()) - {"STATUS_UNSPECIFIED", "PENDING"}), OF_A_NEWER_RELEASE]
)
async def test_an_investment_that_is_not_pending_takes_no_contribution_new_retried_or_queued(
    service: TransactionsHarness, status: str
) -> None:
    declined = await service.deposit(suffix="93")
    await service.work()
    returned = await service.deposit()
    await service.work()
    service.bank.report(returned.transaction_id, PaymentStatus.RETURNED, "R01", at=service.clock.now())
    await service.work(hurried=True)
    assert (await service.get(returned.transaction_id)).status == T.PENDING_RETRY
    queued, new = await service.deposit(), await service.deposit_request()
    payments = len(service.bank.payments)

    for investment in service.distributions.investments.values():
        investment.status = 99 if status == OF_A_NEWER_RELEASE else Investment.Status.Value(status)
    probe = pb.CreateTransactionRequest(validate_only=True)
    probe.MergeFrom(new)
    retry = pb.RetryTransactionRequest(idempotency_key="again", transaction_id=declined.transaction_id)
    for rpc, request in (("CreateTransaction", probe), ("CreateTransaction", new), ("RetryTransaction", retry)):
        refusal = await refused(service, ADMIN, rpc, request)
        assert (refusal.reason, refusal.metadata["status"]) == ("INVESTMENT_NOT_PENDING", status)
    service.clock.advance(timedelta(days=10))
    with service.wire.cut(service.distributions):
        await service.work(hurried=True)
        assert (await service.get(queued.transaction_id)).status == T.QUEUED, "nobody answered"
    await service.work(hurried=True)
    for made in (queued, returned):
        ended = await service.get(made.transaction_id)
        assert (ended.status, ended.failure.code) == (T.FAILED, "INVESTMENT_NOT_PENDING")
        assert (ended.failure.metadata["status"], ended.failure.retryable) == (status, False)
    assert len(service.bank.payments) == payments


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize(("announced_by", "is_left"), [(ADMIN, True), (INVESTOR, False)], ids=["staff", "the party"])
async def test_what_staff_announced_and_no_bank_told_of_takes_no_room_of_what_the_party_has_drawn(
    service: TransactionsHarness, announced_by: Principal, is_left: bool, batched: bool
) -> None:
    investment_id = service.distributions.invest("inv-001", 100_00)
    wire = {"investment_id": investment_id, "payment_method": T.WIRE, "bank_account_id": None}
    await service.ask(announced_by, "CreateTransaction", await service.deposit_request(**wire))
    drawn = await service.deposit_request(investment_id=investment_id)
    if batched:
        answer = await service.ask(
            INVESTOR, "BatchCreateTransactions", pb.BatchCreateTransactionsRequest(items=[drawn])
        )
        assert answer.results[0].failure.code == ("" if is_left else "COMMITMENT_EXCEEDED")
    elif is_left:
        assert (await service.ask(INVESTOR, "CreateTransaction", drawn)).status == T.QUEUED
    else:
        with pytest.raises(DomainError, match="USD of the commitment"):
            await service.ask(INVESTOR, "CreateTransaction", drawn)
    again = await service.deposit_request(**wire)
    with pytest.raises(DomainError, match="of the commitment"):  # what is announced counts all there is
        await service.ask(ADMIN, "CreateTransaction", again)


async def test_contributions_on_their_way_count_against_the_commitment(service: TransactionsHarness) -> None:
    investment_id = service.distributions.invest("inv-001", 150_00)
    requests = [await service.deposit_request(investment_id=investment_id) for _ in range(4)]  # of 100.00 each
    asked = [service.ask(IMPORT, "CreateTransaction", request) for request in requests]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    [made] = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    for refusal in (outcome for outcome in outcomes if isinstance(outcome, BaseException)):
        assert isinstance(refusal, DomainError)
        assert refusal.reason == "COMMITMENT_EXCEEDED"
        assert (refusal.metadata["remaining_minor"], refusal.metadata["requested_minor"]) == ("5000", "10000")
        assert refusal.message == "Only 50.00 USD of the commitment is neither funded nor on its way."
    assert await stored(service) == 1
    await service.work()
    service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    # Settled, and distributions may have heard of it or not: it is counted once.
    for funded_minor in (0, 100_00):
        service.distributions.investments[investment_id].funded_amount.amount_minor = funded_minor
        request = await service.deposit_request(investment_id=investment_id, amount=usd(50_01))
        assert (await refused(service, IMPORT, "CreateTransaction", request)).reason == "COMMITMENT_EXCEEDED"
    assert (await service.deposit(investment_id=investment_id, amount=usd(50_00))).status == T.QUEUED


async def test_a_declined_contribution_gives_its_room_back_and_is_not_retried_into_anothers(
    service: TransactionsHarness,
) -> None:
    investment_id = service.distributions.invest("inv-001", 100_00)
    declined = await service.deposit(suffix="93", investment_id=investment_id)
    await service.work()
    other = await service.deposit(investment_id=investment_id)
    retry = pb.RetryTransactionRequest(idempotency_key="again", transaction_id=declined.transaction_id)
    for _ in (1, 2):  # and a replay hears the same
        assert (await refused(service, ADMIN, "RetryTransaction", retry)).reason == "COMMITMENT_EXCEEDED"
    await service.ask(ADMIN, "CancelTransaction", pb.CancelTransactionRequest(transaction_id=other.transaction_id))
    retry.idempotency_key = "once-more"
    with service.wire.cut(service.escrow):
        assert (await refused(service, ADMIN, "RetryTransaction", retry)).reason == "UNAVAILABLE"
    service.escrow.accounts[ESCROW_ACCOUNT].status = EscrowAccount.FROZEN
    frozen = await refused(service, ADMIN, "RetryTransaction", retry)
    assert (frozen.reason, frozen.fields) == ("ESCROW_ACCOUNT_FROZEN", {}), "no field of the request names the account"
    service.escrow.accounts[ESCROW_ACCOUNT].status = EscrowAccount.ACTIVE
    retry.idempotency_key = "last"
    assert (await service.ask(ADMIN, "RetryTransaction", retry)).status == T.QUEUED


async def test_a_peer_that_is_away_leaves_nothing_and_the_key_free(service: TransactionsHarness) -> None:
    request = await service.deposit_request()
    with service.wire.cut(service.escrow):
        assert (await refused(service, IMPORT, "CreateTransaction", request)).reason == "UNAVAILABLE"
    assert await stored(service) == 0
    assert (await service.ask(IMPORT, "CreateTransaction", request)).status == T.QUEUED


async def test_an_investor_moves_only_its_own_money_and_only_as_a_contribution(service: TransactionsHarness) -> None:
    own = await service.deposit_request(party_id="inv-001")
    own.party_id = ""  # means itself
    assert (await service.ask(INVESTOR, "CreateTransaction", own)).party_id == "inv-001"
    issuer = await service.deposit_request(type=T.DEPOSIT, investment_id=None)
    assert (await refused(service, INVESTOR, "CreateTransaction", issuer)).reason == "TYPE_NOT_SUPPORTED"
    foreign = await service.deposit_request(party_id="inv-002")
    stolen = await service.deposit_request(party_id="inv-001", bank_account_id=foreign.bank_account_id)
    assert (await refused(service, INVESTOR, "CreateTransaction", stolen)).reason == "BANK_ACCOUNT_NOT_FOUND"
    stolen = await service.deposit_request(party_id="inv-001", investment_id=foreign.investment_id)
    assert (await refused(service, INVESTOR, "CreateTransaction", stolen)).reason == "INVESTMENT_NOT_FOUND"


@pytest.mark.parametrize("principal", [STRANGER, OTHER_ORG])
async def test_what_is_anothers_looks_as_if_it_did_not_exist(
    service: TransactionsHarness, principal: Principal
) -> None:
    made = await service.deposit()
    unknown_id = new_id("txn")
    for rpc, request_type in [
        ("GetTransaction", pb.GetTransactionRequest),
        ("ListTransactionStatusChanges", pb.ListTransactionStatusChangesRequest),
        ("CancelTransaction", pb.CancelTransactionRequest),
    ]:
        foreign = await refused(service, principal, rpc, request_type(transaction_id=made.transaction_id))
        nothing = await refused(service, principal, rpc, request_type(transaction_id=unknown_id))
        assert (foreign.reason, foreign.message, foreign.metadata) == ("TRANSACTION_NOT_FOUND", nothing.message, {})
    account = bank_pb.GetBankAccountRequest(bank_account_id=made.bank_account_id)
    assert (await refused(service, principal, "GetBankAccount", account)).reason == "BANK_ACCOUNT_NOT_FOUND"
    delete = bank_pb.DeleteBankAccountRequest(bank_account_id=made.bank_account_id)
    assert (await refused(service, principal, "DeleteBankAccount", delete)).reason == "BANK_ACCOUNT_NOT_FOUND"
    assert len((await service.ask(principal, "ListTransactions", pb.ListTransactionsRequest())).transactions) == 0
    assert len((await service.ask(principal, "ListBankAccounts", bank_pb.ListBankAccountsRequest())).bank_accounts) == 0


@pytest.mark.parametrize("creator", [ADMIN, INVESTOR])
async def test_an_investor_reads_no_name_and_no_word_of_staff(service: TransactionsHarness, creator: Principal) -> None:
    """A wire that staff, or the investor, announced; one person approved and another confirmed it."""
    service.compliance.results["inv-001"] = decide(ComplianceCheck.MANUAL_REVIEW, "odd")
    request = await service.deposit_request(payment_method=T.WIRE, bank_account_id=None)
    made = await service.ask(creator, "CreateTransaction", request)
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    await confirm(service, await correct(service, await service.get(made.transaction_id), 100_00))

    named = {"created_by": creator.person, "approved_by": CHECKER.person, "confirmed_by": CHECKER.person}
    for reader in (ADMIN, INVESTOR):
        wanted = {name: person for name, person in named.items() if reader is ADMIN or person == reader.person}
        listed = (await service.ask(reader, "ListTransactions", pb.ListTransactionsRequest())).transactions
        for read in (await service.get(made.transaction_id, reader), *listed):
            assert {name: getattr(read, name) for name in named if read.HasField(name)} == wanted
        history = pb.ListTransactionStatusChangesRequest(transaction_id=made.transaction_id)
        moves = (await service.ask(reader, "ListTransactionStatusChanges", history)).status_changes
        assert len(moves) == 8
        history.page_size, paged = 3, []
        while not paged or history.page_token:
            page = await service.ask(reader, "ListTransactionStatusChanges", history)
            paged, history.page_token = [*paged, *page.status_changes], page.next_page_token
        assert paged == list(moves)
        by_staff = {move.actor for move in moves if move.HasField("actor")} & {ADMIN.person, CHECKER.person}
        words = {move.note for move in moves if move.HasField("note")}
        assert (bool(by_staff), "approved" in words) == ((True, True) if reader is ADMIN else (False, False))


async def test_lists_come_newest_first_page_by_page_and_filtered(service: TransactionsHarness) -> None:
    made = []
    for number in range(5):
        service.clock.advance(timedelta(minutes=1))
        made.append((await service.deposit(f"inv-{number % 2}")).transaction_id)
    request = pb.ListTransactionsRequest(page_size=2)
    seen = []
    while True:
        page = await service.ask(ADMIN, "ListTransactions", request)
        seen += [each.transaction_id for each in page.transactions]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == made[::-1]
    second_time, fourth_time = [(await service.get(made[place])).create_time for place in (1, 3)]
    request.party_id.append("inv-0")  # the token belongs to another query
    assert (await refused(service, ADMIN, "ListTransactions", request)).reason == "PAGE_TOKEN_INVALID"
    for query, wanted in [
        ({"party_id": ["inv-1"]}, made[3::-2]),
        ({"status": [T.QUEUED, T.SETTLED]}, made[::-1]),
        ({"status": [T.SETTLED]}, []),
        ({"type": [T.DEPOSIT]}, []),
        ({"payment_method": [T.WIRE]}, []),
        ({"order": Sort.OLDEST_FIRST}, made),
        ({"ids": made[1:3]}, made[2:0:-1]),
        ({"from_time": second_time, "to_time": fourth_time}, made[2:0:-1]),
        ({"distribution_id": new_id("dist")}, []),
    ]:
        page = await service.ask(ADMIN, "ListTransactions", pb.ListTransactionsRequest(**query))
        assert [each.transaction_id for each in page.transactions] == wanted
