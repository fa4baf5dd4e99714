"""What the database refuses by itself, whatever the code above it does.

Each statement of the table is tried as the app role, by whose rights most of them fail, and as the owner of the
tables, who has every right: then it is the constraints and triggers that refuse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
from realco.escrow.v1 import holds_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.data.urls import dsn_of
from tests.support.book_statements import CLOSED, FROZEN, account, end, entry, leg, move, prove_change, together
from tests.support.escrow import Escrow, key, ledger_account, usd
from tests.support.forged_entries import posting
from tests.support.seals import OF_SERVICE, SEALS

# As the app role, and as the owner: refused (with any of these states), or `blind`: it changes no row at all.
DENIED = {"42501"}
BROKEN = {"23514", "23505", "23503", "23502", "42501", "2F003"}

BOOK = ("escrow_accounts", "ledger_accounts", "journal_entries", "ledger_entries", "holds", "outbox")

_FEES = leg("fees", "CREDIT", leg=2)
_MORE_THAN_THERE_IS = leg("provider_fees", minor=101), leg("cash", "CREDIT", 101, leg=2, extra=-2)
# {account}: cash 100 against subscription:inv-001 100, of which 60 are held by {hold}; {other}: another escrow
# account of the organization; {foreign}: one of another organization. Journal entry 1 made the balances.
STATEMENTS = {
    # entries that do not balance, or lack legs (c1)
    "an entry without legs": entry(),
    "an entry not counted": together(entry().partition(";")[2], leg(), _FEES),
    "an entry before its legs": entry() + together(leg(), _FEES),
    "an entry with one leg of two": together(entry(), leg()),
    "an entry whose legs differ by a cent": together(entry(), leg(minor=5), leg("fees", "CREDIT", 4, leg=2)),
    "an entry that balances only over both layers": together(
        entry(), leg(), leg("fees", "CREDIT", layer="PENDING", leg=2)
    ),
    "an entry with two legs too many": together(
        entry(), leg(), _FEES, leg("in_transit", leg=3), leg("suspense", "CREDIT", leg=4)
    ),
    "an entry of one leg": together(entry(leg_count=1), leg()),
    "an entry of three announced as two": together(
        entry(), leg(), leg("fees", "CREDIT", 3, leg=2), leg("suspense", "CREDIT", 2, leg=3)
    ),
    # legs that belong nowhere (c2)
    "legs added to an entry of the past": together(leg(sequence=1, leg=3), leg("fees", "CREDIT", sequence=1, leg=4)),
    "legs added to an entry that was checked": together(entry(), leg(), _FEES)
    + together(leg("in_transit", leg=3), leg("suspense", "CREDIT", leg=4)),
    "a leg whose number leaves one out": together(entry(), leg(number="entry_sequence + 1"), _FEES),
    "a leg with a made-up balance after it": together(entry(), leg(extra=1), _FEES),
    "a leg of no entry": leg(sequence=77),
    "a leg of another escrow account's entry": leg(sequence=1, account="{other}"),
    "a leg on a foreign account": together(entry(), leg(account="{other}", escrow="{account}"), _FEES),
    "a leg of another organization": together(entry(), leg(org="org_2"), _FEES),
    "a leg on a ledger account that is not there": together(entry(), leg(), leg("payable:inv-9", "CREDIT", leg=2)),
    "a leg of nothing": together(entry(), leg(minor=0), leg("fees", "CREDIT", 0, leg=2)),
    "a leg below nothing": together(entry(), leg(minor=-5, keep=False), leg("fees", "CREDIT", -5, leg=2, keep=False)),
    "a leg beyond the bounds": together(entry(), leg(minor=2**62, keep=False)),
    "a leg with no side": together(entry(), leg(direction="LEFT"), _FEES),
    "a leg with a taken number": together(entry(), leg(number=1), _FEES),
    # entries that are not what they say
    "an entry of an unknown type": together(entry(type_="GIFT"), leg(), _FEES),
    "an entry booked before it happened": together(entry(effective="now() + interval '1 day'"), leg(), _FEES),
    "an entry with a taken number": entry(sequence=1),
    "a second entry under a used key": "INSERT INTO journal_entries (org_id, escrow_no, sequence,"
    " journal_entry_id, request_key, fingerprint, type, description, leg_count, effective_at, created_at, created_by)"
    " SELECT j.org_id, escrow_no, 98, 'je_98', request_key, fingerprint, type, description, leg_count,"
    " effective_at, j.created_at, j.created_by FROM journal_entries j JOIN escrow_accounts USING (escrow_no)"
    " WHERE escrow_account_id = '{account}'",
    "a second reversal": entry(sequence=97, columns=", reverses_journal_entry_id", values=", 'je_of_reversal'")
    + entry(sequence=98, entry_id="je_98", columns=", reverses_journal_entry_id", values=", 'je_of_reversal'"),
    "an entry that reverses itself": entry(columns=", reverses_journal_entry_id", values=", 'je_99'"),
    # history is not edited (c3)
    "an edited entry": "UPDATE journal_entries SET description = 'y'",
    "an edited leg": "UPDATE ledger_entries SET amount_minor = amount_minor + 1",
    "a deleted entry": "DELETE FROM journal_entries",
    "a deleted leg": "DELETE FROM ledger_entries",
    "a truncated journal": "TRUNCATE journal_entries",
    "a truncated ledger": "TRUNCATE ledger_entries",
    "a deleted ledger account": "DELETE FROM ledger_accounts",
    "a deleted escrow account": "DELETE FROM escrow_accounts",
    "a deleted hold": "DELETE FROM holds",
    "truncated holds": "TRUNCATE holds",
    "truncated accounts": "TRUNCATE ledger_accounts CASCADE",
    # balances (c4)
    "cash taken that is not there, by what no transaction says": together(entry(), *_MORE_THAN_THERE_IS),
    "an overdraft": "UPDATE ledger_accounts SET debits_posted = 1 WHERE kind = 'FEES'",
    "an overdraft of what is held": "UPDATE ledger_accounts SET debits_posted = 41 WHERE kind = 'SUBSCRIPTION'",
    "more held than there is": "UPDATE ledger_accounts SET held = 101 WHERE kind = 'SUBSCRIPTION'",
    "less than nothing held": "UPDATE ledger_accounts SET held = -1 WHERE kind = 'CASH'",
    "a pending balance below nothing": "UPDATE ledger_accounts SET debits_pending = 1 WHERE kind = 'FEES'",
    "a hold on money in transit": "UPDATE ledger_accounts SET held = 1 WHERE kind = 'IN_TRANSIT'",
    "a balance out of bounds": "UPDATE ledger_accounts SET debits_posted = 4611686018427387999"
    " WHERE kind = 'IN_TRANSIT'",
    "an account outside the chart": account("PETTY_CASH", side="DEBIT"),
    "an account on the wrong side": account("PAYABLE", "inv-9", side="DEBIT"),
    "an account that may be overdrawn against the chart": account("PAYABLE", "inv-9", overdrawn="true"),
    "a party's account of nobody": account("PAYABLE", of_party="true"),
    "a party's own cash": account("CASH", "inv-9", overdrawn="true", side="DEBIT", of_party="false"),
    "cash that says it is a party's": account("CASH", "inv-9", overdrawn="true", side="DEBIT"),
    "an account of no escrow account": account("CASH", overdrawn="true", side="DEBIT", escrow="esc_none"),
    "an account with the number of another escrow account": account("PAYABLE", "inv-9", number_of="{other}"),
    # escrow accounts (c7)
    "another currency": "UPDATE escrow_accounts SET currency = 'EUR' WHERE escrow_account_id = '{account}'",
    "another organization": "UPDATE escrow_accounts SET org_id = 'org_2' WHERE escrow_account_id = '{other}'",
    "an unknown status": "UPDATE escrow_accounts SET status = 'LOST' WHERE escrow_account_id = '{account}'",
    "frozen for no reason": move("{account}", FROZEN.replace('"note": "x"', '"note": ""')),
    "frozen at no time": move("{account}", FROZEN.replace("2026-11-23", "some day ")),
    "frozen without a freeze": move("{account}", "status = 'FROZEN'"),
    "frozen by nobody": move("{account}", FROZEN.replace('"frozen_by": "x", ', "")),
    "closed by nobody": move("{other}", "status = 'CLOSED', closed_at = now()"),
    "closed with money in it": move("{account}", CLOSED),
    "closed while frozen": move("{other}", FROZEN) + move("{other}", f"{CLOSED}, freezes = '[]'"),
    "opened again": move("{other}", CLOSED) + move("{other}", "status = 'ACTIVE', closed_at = NULL, closed_by = NULL"),
    "one that begins closed": "INSERT INTO escrow_accounts (org_id, escrow_account_id, display_name, currency,"
    " sponsor_party_id, custodian_name, created_at, created_by, updated_at, status, closed_at, closed_by)"
    " VALUES ('org_1', 'esc_x', 'x', 'USD', 'x', 'x', now(), 'x', now(), 'CLOSED', now(), 'x')",
    "another number": "UPDATE escrow_accounts SET escrow_no = DEFAULT WHERE escrow_account_id = '{account}'",
    "a count that goes back": "UPDATE escrow_accounts SET entry_sequence = 0 WHERE escrow_account_id = '{account}'",
    # holds (c6)
    "a hold that is placed again": end("RELEASED")
    + " UPDATE holds SET status = 'PLACED', resolved_at = NULL, resolved_by = NULL",
    "a second ending": end("RELEASED") + " UPDATE holds SET status = 'CAPTURED', captured_minor = 60",
    "a capture of more than is held": end("CAPTURED", captured=61),
    "a capture of nothing": end("CAPTURED"),
    "an overriding by no return": end("OVERRIDDEN", overridden=60),
    "an overriding by more than is held": end("OVERRIDDEN", overridden=61, returned="'txn_x'"),
    "an overriding by nothing": end("OVERRIDDEN", returned="'txn_x'"),
    "an overriding that captures": end("OVERRIDDEN", captured=60, overridden=60, returned="'txn_x'"),
    "a capture by a return": end("CAPTURED", captured=60, returned="'txn_x'"),
    "a capture that overrides": end("CAPTURED", captured=60, overridden=60),
    "an ending without a time": "UPDATE holds SET status = 'RELEASED', resolved_by = 'x'",
    "an ending by nobody": "UPDATE holds SET status = 'RELEASED', resolved_at = now()",
    "a hold on the mirror of the bank": "SELECT place_hold(now(), 'org_1', '{account}', 'h', 'CASH', '', 1, 'USD',"
    " 'MANUAL', '', NULL, NULL, 'x', NULL, '{}', 'x', NULL)",
    "a hold that becomes the rest of another": "UPDATE holds SET replaces_hold_id = 'hold_x'",
    "a return that took what is held still": "UPDATE holds SET returned_transaction_id = 'txn_x'",
    "a larger hold": "UPDATE holds SET amount_minor = 61",
    "a hold on an account that is not there": "INSERT INTO holds (org_id, escrow_account_id, hold_id, kind, party_id,"
    " amount_minor, reason, created_by, created_at, end_digest)"
    " VALUES ('org_1', '{account}', 'h', 'PAYABLE', 'x', 1, 'MANUAL', 'x', now(), 'x')",
    # other organizations (c27)
    "a row for another organization": "INSERT INTO escrow_accounts (org_id, escrow_account_id, display_name, currency,"
    " sponsor_party_id, custodian_name, created_at, created_by, updated_at)"
    " VALUES ('org_2', 'esc_x', 'x', 'USD', 'x', 'x', now(), 'x', now())",
}
# What only the app role is kept from: the owner makes the schema, and is no service.
OF_THE_APP = {
    "a balance moved by hand": "UPDATE ledger_accounts SET debits_posted = 150 WHERE kind = 'CASH'",
    "a hold resolved by hand": end("RELEASED"),
    "a hold that never ends": "UPDATE holds SET expires_at = NULL",
    "an account with money from nowhere": account("PAYABLE", "inv-9", credits_posted=5),
    "another chart": "UPDATE ledger_account_kinds SET may_be_overdrawn = true",
    "a refusal taken back": "UPDATE refused_postings SET verdict = 'posted'",
    "a dropped trigger": "DROP TRIGGER check_journal_entries ON journal_entries",
    "a disabled trigger": "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
    "triggers switched off": "SET session_replication_role = 'replica'",
    "row security switched off": "ALTER TABLE journal_entries NO FORCE ROW LEVEL SECURITY",
    "a new table": "CREATE TABLE side_book (id int)",
    "a temporary table": "CREATE TEMP TABLE ledger_accounts (id int)",
    "a function of the book replaced": "CREATE OR REPLACE FUNCTION let_hold_expire(text, text, text, timestamptz,"
    " bytea) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    "the owner's role": "SET ROLE escrow_owner",
}


class Book:
    def __init__(self, urls, escrow: Escrow, names: dict[str, str]) -> None:
        self.urls = urls
        self.escrow = escrow
        self.names = names

    async def attempt(self, url: str, statement: str, org_id: str = "org_1") -> tuple[str, str]:
        """The state PostgreSQL refuses the statement with, up to the commit; empty if it goes through."""
        connection = await asyncpg.connect(dsn_of(url), server_settings=OF_SERVICE)
        try:
            text = statement
            for name, value in self.names.items():
                text = text.replace(f"{{{name}}}", value)
            await connection.execute(f"BEGIN; SELECT set_config('app.org_id', '{org_id}', true); {text}; COMMIT")
            return "", ""
        except asyncpg.PostgresError as refused:
            return str(refused.sqlstate), str(refused)
        finally:
            await connection.close()


@pytest.fixture
async def book(service_urls) -> AsyncIterator[Book]:
    urls = await service_urls("escrow")
    escrow = Escrow(urls)
    escrow.org_id, escrow.admin = "org_1", Principal("admin-1", "admin", "org_1")
    account, other = await escrow.open(), await escrow.open()
    foreign = await escrow.open(principal=Principal("admin-2", "admin", "org_2"))
    await escrow.post(account, ("cash", 100), ("subscription:inv-001", -100))
    hold = await escrow.hold(account, "subscription:inv-001", 60)
    names = {"account": account, "other": other, "foreign": foreign, "hold": hold.hold_id}
    proofs = {f"{name}_proof": prove_change(names[name]) for name in ("account", "other")}
    yield Book(urls, escrow, names | proofs)
    await escrow.close()


async def digest(book: Book) -> list[str]:
    """Everything the book holds, as text."""
    connection = await asyncpg.connect(dsn_of(book.urls.admin_url))
    tables = (*BOOK, "refused_postings")
    rows = [str(row) for table in tables for row in await connection.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")]
    await connection.close()
    return rows


async def test_the_app_role_can_write_nothing_illegal(book):
    before = await digest(book)
    through = {}
    for name, statement in (STATEMENTS | OF_THE_APP).items():
        state, message = await book.attempt(book.urls.app_url, statement)
        if state not in BROKEN:
            through[name] = message or "went through"
    assert through == {}
    assert await digest(book) == before
    assert len(STATEMENTS | OF_THE_APP) >= 60


async def test_the_owner_of_the_tables_can_write_nothing_illegal_either(book):
    before = await digest(book)
    through = {}
    for name, statement in STATEMENTS.items():
        state, message = await book.attempt(book.urls.owner_url, statement)
        if state not in BROKEN - {"42501"} and "keeps its rows" not in message and "row-level security" not in message:
            through[name] = message or "went through"
    assert through == {}
    assert await digest(book) == before


async def test_without_an_organization_there_is_nothing_to_see(book):
    connection = await asyncpg.connect(
        book.urls.app_url.replace("postgresql+asyncpg", "postgresql"), server_settings=OF_SERVICE
    )
    for table in BOOK:
        with pytest.raises(asyncpg.PostgresError):
            await connection.fetch(f"SELECT * FROM {table}")
    await connection.close()


async def test_the_functions_see_only_the_organization_of_the_transaction(book):
    """They run as the owner of the tables, and row level security holds for the owner too."""
    account = book.names["account"]
    place = (
        f"SELECT verdict FROM place_hold(now(), 'org_1', '{account}', 'h', 'SUBSCRIPTION', 'inv-001', 1, 'USD',"
        " 'MANUAL', '', NULL, NULL, 'x', NULL, '{}', 'x', NULL)"
    )
    hold = book.names["hold"]
    place_of_hold = ("holds", "org_1", account, hold)
    proof = f"'\\x{SEALS.prove(SEALS.digest_proof(*place_of_hold), *place_of_hold).hex()}'"
    end = f"resolve_hold(now(), 'org_1', '{account}', '{hold}', 'RELEASED', 0, false, 'x', {proof})"
    resolve = f"SELECT verdict FROM {end}"
    expire = f"SELECT let_hold_expire('org_1', '{account}', '{hold}', now(), {proof})"
    post = f"SELECT coalesce(verdict[1], 'posted') FROM {posting([account])}"
    connection = await asyncpg.connect(
        book.urls.app_url.replace("postgresql+asyncpg", "postgresql"), server_settings=OF_SERVICE
    )
    answers = {}
    for org_id in ("org_2", "org_1"):
        for name, call in (("place", place), ("resolve", resolve), ("expire", expire), ("post", post)):
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"SELECT set_config('app.org_id', '{org_id}', true)")
            answers[org_id, name] = await connection.fetchval(call)
            await transaction.rollback()
    await connection.close()
    assert answers == {
        ("org_2", "place"): "not_found",
        ("org_2", "resolve"): "not_found",
        ("org_2", "expire"): False,
        ("org_2", "post"): "not_found",
        ("org_1", "place"): "done",
        ("org_1", "resolve"): "done",
        ("org_1", "expire"): True,
        ("org_1", "post"): "posted",
    }


async def test_the_posting_function_takes_no_leg_on_another_escrow_accounts_ledger_account(book):
    account, other = sorted([book.names["account"], book.names["other"]])
    statement = f"SELECT {posting([account, other], of='1,2')}"
    state, _ = await book.attempt(book.urls.app_url, statement)
    assert state == "23514"


async def test_an_entry_is_written_where_nothing_is_wrong_with_it(book):
    """What the table's statements are made of is sound, so each is refused for what its name says."""
    subscription = leg("subscription:inv-001", "CREDIT", 2, leg=3)
    sound = together(entry(leg_count=3), leg(), leg("fees", "CREDIT", 3, leg=2), subscription)
    assert await book.attempt(book.urls.owner_url, sound) == ("", "")


async def test_more_cash_than_there_is_is_taken_where_a_transaction_says_so(book):
    of_a_payment = entry(columns=", transaction_id", values=", 'txn_1'")
    taken_by_the_bank = together(of_a_payment, *_MORE_THAN_THERE_IS)
    assert await book.attempt(book.urls.owner_url, taken_by_the_bank) == ("", "")


async def test_the_posting_function_makes_no_balance_up(book):
    """A side that is neither debit nor credit would count one way in the balance and the other in what is kept."""
    called = posting([book.names["account"]], kinds="CASH,SUBSCRIPTION", parties='"",inv-001', debits="t,NULL")
    state, _ = await book.attempt(book.urls.app_url, f"SELECT {called}")
    assert state == "23502"


async def test_a_capture_happens_once_however_it_is_asked(book):
    """The hold's ending is conditional, and the key of the capture's entry is the hold's own."""
    escrow, account, hold = book.escrow, book.names["account"], book.names["hold"]
    request = pb.CaptureHoldRequest(
        idempotency_key=key(),
        escrow_account_id=account,
        hold_id=hold,
        amount=usd(60),
        to_ledger_account=ledger_account("fees"),
    )
    await escrow.call("CaptureHold", request)
    end = f"resolve_hold(now(), 'org_1', '{account}', '{hold}', 'CAPTURED', 60, true, 'x', NULL)"
    statement = f"SELECT verdict FROM {end}"
    connection = await asyncpg.connect(
        book.urls.app_url.replace("postgresql+asyncpg", "postgresql"), server_settings=OF_SERVICE
    )
    await connection.execute("SELECT set_config('app.org_id', 'org_1', false)")
    assert await connection.fetchval(statement) == "not_open"
    await connection.close()
    assert await escrow.posted(account) == {"cash": 100, "fees": 60, "subscription:inv-001": 40}
