"""Bank accounts: the number goes in and never comes out; one default for payouts a party."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2 as pb

from services.chassis.values import approval_bounds, stops
from services.chassis.values.errors import DomainError
from services.transactions.domain import bank_accounts
from services.transactions.domain.bank_accounts import PAYOUT_STOPS_WITHIN
from services.transactions.vault import SealedFor
from tests.support.transactions import ADMIN, CHECKER, INVESTOR, ROUTING_NUMBER, TransactionsHarness
from tests.support.vault import build_vault

NUMBER = "98765432101234"


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


def an_account(**values) -> pb.CreateBankAccountRequest:
    plain = {
        "idempotency_key": "key-1",
        "party_id": "inv-001",
        "account_holder_name": "Ada Investor",
        "routing_number": ROUTING_NUMBER,
        "account_number": NUMBER,
    }
    return pb.CreateBankAccountRequest(**plain | values)


async def refused(service: TransactionsHarness, rpc: str, request) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await service.ask(ADMIN, rpc, request)
    return refusal.value


async def test_the_number_is_sealed_and_stands_nowhere_in_the_database(service: TransactionsHarness) -> None:
    account = await service.ask(ADMIN, "CreateBankAccount", an_account())
    assert (account.account_number_last4, account.status) == ("1234", pb.BankAccount.PENDING)
    assert account.account_type == pb.BankAccount.CHECKING
    assert NUMBER not in str(account)
    async with service.database.begin_for_all() as tx:
        tables = await tx.scalars(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        for table in tables:
            if table == "alembic_version":
                continue
            for row in await tx.execute(sa.text(f"SELECT t::text FROM {table} t")):
                assert NUMBER not in row[0]
                assert NUMBER.encode().hex() not in row[0]
        row = (await tx.execute(sa.text("SELECT * FROM bank_accounts"))).one()
    assert build_vault().open(row.account_number_encrypted, SealedFor.of(row.org_id, row)) == NUMBER


async def test_the_same_key_is_the_same_account_and_another_number_is_another_request(
    service: TransactionsHarness,
) -> None:
    first = await service.ask(ADMIN, "CreateBankAccount", an_account())
    assert await service.ask(ADMIN, "CreateBankAccount", an_account()) == first
    other = an_account(account_number="98765432101235")
    assert (await refused(service, "CreateBankAccount", other)).reason == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.parametrize(("change", "field"), [
    ({"routing_number": "021000022"}, "routing_number"),
    ({"routing_number": "000000000"}, "routing_number"),
    ({"party_id": ""}, "party_id"),
])  # fmt: skip
async def test_a_wrong_field_is_named_and_never_repeated(
    service: TransactionsHarness, change: dict[str, str], field: str
) -> None:
    refusal = await refused(service, "CreateBankAccount", an_account(**change))
    assert (refusal.reason, list(refusal.fields)) == ("INVALID_FIELD", [field])
    assert NUMBER not in str(refusal.fields) + refusal.message


async def test_a_party_has_one_default_which_the_newest_that_asks_for_it_is(service: TransactionsHarness) -> None:
    async def defaults() -> list[str]:
        answer = await service.ask(ADMIN, "ListBankAccounts", pb.ListBankAccountsRequest(party_id=["inv-001"]))
        return [account.bank_account_id for account in answer.bank_accounts if account.default_for_payouts]

    first = await service.confirm(await service.bank_account("inv-001"))
    await service.confirm(await service.bank_account("inv-001"))
    await service.confirm(await service.bank_account("inv-002"))
    assert await defaults() == [first.bank_account_id]
    third = await service.bank_account("inv-001", default_for_payouts=True)
    assert await defaults() == [third.bank_account_id, first.bank_account_id], "until it is confirmed, the former stays"
    await service.confirm(third)
    assert await defaults() == [third.bank_account_id]
    for _ in (1, 2):  # the second changes nothing
        await service.ask(
            ADMIN, "DeleteBankAccount", pb.DeleteBankAccountRequest(bank_account_id=third.bank_account_id)
        )
    assert await defaults() == []
    fourth = await service.bank_account("inv-001")
    assert await defaults() == [fourth.bank_account_id]
    deleted = await service.ask(
        ADMIN, "GetBankAccount", pb.GetBankAccountRequest(bank_account_id=third.bank_account_id)
    )
    assert deleted.status == pb.BankAccount.DELETED


async def test_an_investor_adds_and_sees_its_own_accounts(service: TransactionsHarness) -> None:
    own = await service.bank_account("", principal=INVESTOR)
    await service.bank_account("inv-002")
    assert own.party_id == "inv-001"
    listed = await service.ask(INVESTOR, "ListBankAccounts", pb.ListBankAccountsRequest())
    assert [account.bank_account_id for account in listed.bank_accounts] == [own.bank_account_id]


def a_change(account: pb.BankAccount, *names: str, **values) -> pb.UpdateBankAccountRequest:
    request = pb.UpdateBankAccountRequest(bank_account_id=account.bank_account_id, etag=account.etag, **values)
    request.update_mask.paths.extend(names)
    return request


async def test_a_change_takes_over_the_named_fields_of_the_version_that_was_read(service: TransactionsHarness) -> None:
    account = await service.ask(ADMIN, "CreateBankAccount", an_account(external_id="a-1", metadata={"desk": "3"}))
    assert (account.external_id, account.metadata["desk"]) == ("a-1", "3")
    assert account.allowed_actions == ["update", "delete"]
    change = a_change(account, "default_for_payouts", "metadata", external_id="x")
    changed = await service.ask(ADMIN, "UpdateBankAccount", change)
    assert (changed.default_for_payouts, changed.external_id, dict(changed.metadata)) == (False, "a-1", {})
    again = await refused(service, "UpdateBankAccount", a_change(account, "external_id"))
    assert (again.reason, again.metadata) == ("ETAG_MISMATCH", {"etag": changed.etag})
    taken_away = await service.ask(ADMIN, "UpdateBankAccount", a_change(changed, "external_id"))
    assert not taken_away.HasField("external_id")


async def test_what_staff_noted_about_an_account_an_investor_neither_reads_nor_writes_over(
    service: TransactionsHarness,
) -> None:
    by_staff = an_account(external_id="a-1", metadata={"callback": "not done"})
    account = await service.ask(ADMIN, "CreateBankAccount", by_staff)
    change = a_change(account, "external_id", "metadata", external_id="VERIFIED", metadata={"callback": "done"})
    for named in (["external_id"], ["metadata"], ["external_id", "metadata"]):
        change.update_mask.paths[:] = named
        with pytest.raises(DomainError) as refusal:
            await service.ask(INVESTOR, "UpdateBankAccount", change)
        assert sorted(refusal.value.fields) == named
    request = pb.GetBankAccountRequest(bank_account_id=account.bank_account_id)
    read = await service.ask(CHECKER, "GetBankAccount", request)
    assert (read.external_id, dict(read.metadata), read.annotated_by) == (
        "a-1",
        {"callback": "not done"},
        ADMIN.person,
    )
    told = await service.ask(INVESTOR, "GetBankAccount", request)
    hidden = ("external_id", "metadata", "annotated_by")
    assert not [field.name for field, _ in told.ListFields() if field.name in hidden]


async def test_what_staff_notes_about_an_investors_own_account_is_staffs_from_then_on(
    service: TransactionsHarness,
) -> None:
    made = await service.ask(INVESTOR, "CreateBankAccount", an_account(external_id="mine"))
    assert (made.external_id, made.annotated_by) == ("mine", INVESTOR.person)
    mine = await service.ask(INVESTOR, "UpdateBankAccount", a_change(made, "external_id", external_id="still mine"))
    assert mine.external_id == "still mine"
    noted = await service.ask(ADMIN, "UpdateBankAccount", a_change(mine, "metadata", metadata={"risk": "high"}))
    assert (noted.created_by, noted.annotated_by) == (INVESTOR.person, ADMIN.person)
    request = pb.GetBankAccountRequest(bank_account_id=made.bank_account_id)
    told = await service.ask(INVESTOR, "GetBankAccount", request)
    assert not [field.name for field, _ in told.ListFields() if field.name in ("external_id", "metadata")]


async def test_another_account_becomes_the_default_by_a_change_that_a_second_person_confirms(
    service: TransactionsHarness,
) -> None:
    first, second = [await service.confirm(await service.bank_account("inv-001")) for _ in range(2)]
    change = a_change(second, "default_for_payouts", default_for_payouts=True)
    changed = await service.ask(ADMIN, "UpdateBankAccount", change)
    assert (changed.default_for_payouts, changed.status) == (True, pb.BankAccount.PENDING)
    assert await get(service, first) == first
    await service.confirm(changed)
    former = await get(service, first)
    assert (former.default_for_payouts, former.etag != first.etag) == (False, True)


async def test_nobody_has_an_account_wait_over_and_over(service: TransactionsHarness, monkeypatch) -> None:
    monkeypatch.setattr(approval_bounds, "OPEN_MAX", 1)
    account = await service.bank_account("inv-001")
    change = a_change(account, "default_for_payouts")
    account = await service.ask(ADMIN, "UpdateBankAccount", change)
    back = a_change(account, "default_for_payouts", default_for_payouts=True)
    assert (await refused(service, "UpdateBankAccount", back)).reason == "TOO_MANY_APPROVALS"
    assert await get(service, account) == account


async def test_one_person_keeps_a_party_from_its_accounts_so_often_and_another_or_who_acts_for_it_still_does(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stops, "STOPS_MAX", 1)
    default, second, taken, waits = [await service.bank_account("inv-001") for _ in range(4)]
    other = await service.bank_account("inv-002")
    default, second = await service.confirm(default), await service.confirm(second)
    own = await service.confirm(await service.bank_account("inv-001", principal=ADMIN))
    shared, *slips = [await service.bank_account("inv-001", principal=ADMIN) for _ in range(4)]

    def retire(account: pb.BankAccount) -> tuple[str, object]:
        return "DeleteBankAccount", pb.DeleteBankAccountRequest(bank_account_id=account.bank_account_id)

    def change(account: pb.BankAccount, is_default: bool) -> tuple[str, object]:
        return "UpdateBankAccount", a_change(account, "default_for_payouts", default_for_payouts=is_default)

    shared = await service.ask(INVESTOR, *change(shared, True))
    await service.ask(ADMIN, *retire(slips[0]))  # nobody else made it, and nobody confirmed it
    await service.ask(ADMIN, *retire(taken))
    await service.ask(ADMIN, *retire(slips[1]))
    await service.ask(ADMIN, *change(await service.ask(ADMIN, *change(slips[2], True)), False))
    service.clock.advance(PAYOUT_STOPS_WITHIN - timedelta(seconds=1))
    retirements = [retire(account) for account in (waits, own, shared, default)]
    for deed in (*retirements, change(default, False), change(second, True)):
        assert (await refused(service, *deed)).reason == "TOO_MANY_STOPS"
    await service.ask(ADMIN, "UpdateBankAccount", a_change(waits, "external_id", external_id="x"))
    await service.ask(ADMIN, *retire(other))
    await service.ask(CHECKER, *retire(waits))
    for deed in (change(default, False), retire(second)):
        await service.ask(INVESTOR, *deed)
    service.clock.advance(timedelta(seconds=1))
    await service.ask(ADMIN, *retire(default))


async def test_so_many_accounts_of_a_party_wait_and_another_once_one_is_confirmed_or_retired(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank_accounts, "PENDING_MAX", 2)
    first, second = [await service.bank_account("inv-001") for _ in range(2)]
    another = an_account()
    refusal = await refused(service, "CreateBankAccount", another)
    assert (refusal.reason, refusal.metadata) == ("TOO_MANY_BANK_ACCOUNTS", {"bank_accounts_max": "2"})
    await service.bank_account("inv-002")
    await service.confirm(first)
    await service.bank_account("inv-001")
    retire = pb.DeleteBankAccountRequest(bank_account_id=second.bank_account_id)
    await service.ask(INVESTOR, "DeleteBankAccount", retire)
    await service.ask(ADMIN, "CreateBankAccount", an_account(idempotency_key="key-2"))
    assert (await refused(service, "CreateBankAccount", another)).reason == "TOO_MANY_BANK_ACCOUNTS"


async def get(service: TransactionsHarness, account: pb.BankAccount) -> pb.BankAccount:
    return await service.ask(ADMIN, "GetBankAccount", pb.GetBankAccountRequest(bank_account_id=account.bank_account_id))


async def test_an_account_is_retired_once_in_the_version_that_was_read(service: TransactionsHarness) -> None:
    account = await service.bank_account("inv-001")
    request = pb.DeleteBankAccountRequest(
        idempotency_key="away", bank_account_id=account.bank_account_id, etag=account.etag, validate_only=True
    )
    await service.ask(ADMIN, "DeleteBankAccount", request)
    assert (await get(service, account)).status == pb.BankAccount.PENDING
    request.validate_only = False
    # The second is a replay, though the version is another now.
    answers = [await service.ask(ADMIN, "DeleteBankAccount", request) for _ in (1, 2)]
    retired = await get(service, account)
    assert answers == [retired, retired]
    assert (retired.status, list(retired.allowed_actions)) == (pb.BankAccount.DELETED, [])
    change = a_change(retired, "external_id", external_id="late")
    assert (await refused(service, "UpdateBankAccount", change)).reason == "BANK_ACCOUNT_NOT_USABLE"


async def test_whoever_adds_many_accounts_that_read_alike_hides_none_and_nothing_else_by_it(
    service: TransactionsHarness,
) -> None:
    known = await service.confirm(await service.bank_account("inv-001", "01"))
    for number in range(15):
        added = await service.bank_account("inv-001", f"{number:02d}1101")
        retire = pb.DeleteBankAccountRequest(bank_account_id=added.bank_account_id)
        await service.ask(INVESTOR, "DeleteBankAccount", retire)
    added = await service.bank_account("inv-001", "991101")
    told = (await service.waiting(added.bank_account_id)).explanations
    alike = [each.statement for each in told if each.rule == "BANK_ACCOUNT_LOOK_ALIKE"]
    assert alike[0].startswith(f"The party has {known.bank_account_id} ")
    assert (len(alike), alike[-1]) == (11, "6 more accounts of the party, added later or retired, read alike.")
    assert {"BANK_ACCOUNT_AGE", "BANK_ACCOUNT_OWNERS", "PARTY_CLEARED"} < {each.rule for each in told}


@pytest.mark.parametrize(("one", "other"), [("11b0", "1160"), ("11G0", "1160"), ("1g10", "1910"), ("1q10", "1910")])
async def test_letters_are_told_that_are_taken_for_digits(service: TransactionsHarness, one: str, other: str) -> None:
    await service.bank_account("inv-001", one)
    added = await service.bank_account("inv-001", other)
    rules = [each.rule for each in (await service.waiting(added.bank_account_id)).explanations]
    assert rules[0] == "BANK_ACCOUNT_LOOK_ALIKE"
