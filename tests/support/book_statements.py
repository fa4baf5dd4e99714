"""SQL that writes a book by hand, past its functions: what the database is asked to refuse."""

from __future__ import annotations

from services.escrow.commands.escrow_accounts import CHANGE
from tests.support.seals import SEALS

_NUMBER = "coalesce((SELECT e.escrow_no FROM escrow_accounts e WHERE e.escrow_account_id = '{escrow}'), 0)"
_ENTRY = (
    "INSERT INTO journal_entries (org_id, escrow_no, sequence, journal_entry_id, request_key, fingerprint,"
    " type, description, leg_count, effective_at, created_at, created_by{columns}) SELECT 'org_1', escrow_no,"
    " {sequence}, '{id}', gen_random_uuid(), 'x', '{type_}', 'x', {leg_count}, {effective}, now(), 'x'{values}"
    " FROM escrow_accounts WHERE escrow_account_id = '{account}';"
)
# The ledger account keeps what the leg says, so that nothing but what is tried is wrong.
_KEEP = (
    "UPDATE ledger_accounts SET {side}s_{layer} = {side}s_{layer} + {minor}, entry_sequence = entry_sequence + 1"
    " WHERE escrow_account_id = '{account}' AND kind = '{kind}' AND party_id = '{party}';"
)
_LEG = (
    "INSERT INTO ledger_entries (org_id, escrow_no, account_no, sequence, journal_sequence, leg, debit,"
    f" pending, amount_minor, posted_after, pending_after, effective_at, created_at) SELECT '{{org}}', {_NUMBER},"
    " coalesce(account_no, 0), {number}, {sequence}, {leg}, {debit}, {pending}, {minor},"
    " coalesce(abs(debits_posted - credits_posted), 0) + {extra}, coalesce(abs(debits_pending - credits_pending), 0),"
    " now(), now() FROM (SELECT 1) one LEFT JOIN ledger_accounts l ON l.escrow_account_id = '{account}'"
    " AND kind = '{kind}' AND party_id = '{party}';"
)


_COUNT = "UPDATE escrow_accounts SET entry_sequence = {n} WHERE entry_sequence < {n} AND org_id = 'org_1';"


def entry(sequence=99, entry_id="je_99", leg_count=2, type_="FEE", effective="now()", columns="", values=""):
    return _COUNT.format(n=sequence) + _ENTRY.format(
        account="{account}", sequence=sequence, id=entry_id, leg_count=leg_count, type_=type_, effective=effective,
        columns=columns, values=values)  # fmt: skip


def leg(
    code="cash", direction="DEBIT", minor=5, *, number="coalesce(entry_sequence, 1)", leg=1, sequence=99,
    layer="POSTED", account="{account}", escrow=None, org="org_1", extra=0, keep=True,
):  # fmt: skip
    kind, _, party = code.partition(":")
    side = "credit" if direction == "CREDIT" else "debit"
    account_of = {"account": account, "kind": kind.upper(), "party": party}
    kept = _KEEP.format(side=side, layer=layer.lower(), minor=minor, **account_of) if keep else ""
    debit = {"DEBIT": "true", "CREDIT": "false"}.get(direction, "NULL")
    return kept + _LEG.format(
        number=number, sequence=sequence, leg=leg, debit=debit, pending=layer == "PENDING", minor=minor, extra=extra,
        escrow=escrow or account, org=org, **account_of,
    )  # fmt: skip


def account(
    kind, party="", *, side="CREDIT", overdrawn="false", of_party=None, escrow="{account}", number_of=None, **counters
) -> str:  # fmt: skip
    """A ledger account that is made by hand."""
    whose = of_party or ("true" if party else "false")
    number = _NUMBER.format(escrow=number_of or escrow)
    names, values = "".join(f", {name}" for name in counters), "".join(f", {value}" for value in counters.values())
    return (
        "INSERT INTO ledger_accounts (org_id, escrow_account_id, escrow_no, kind, party_id, of_party, normal_balance,"
        f" may_be_overdrawn{names}) VALUES ('org_1', '{escrow}', {number}, '{kind}', '{party}', {whose}, '{side}',"
        f" {overdrawn}{values})"
    )


def together(*parts: str) -> str:
    """One statement of an entry and its legs, after their ledger accounts were told of them."""
    pieces = [piece for part in parts for piece in part.split(";") if piece]
    told = [f"{piece};" for piece in pieces if piece.startswith("UPDATE")]
    written = [piece for piece in pieces if not piece.startswith("UPDATE")]
    return "".join(told) + f"WITH {', '.join(f'part_{n} AS ({piece})' for n, piece in enumerate(written))} SELECT;"


_FREEZE = '{"note": "x", "frozen_by": "x", "frozen_at": "2026-11-23T15:00:00+00:00"}'
FROZEN = f"status = 'FROZEN', freezes = '[{_FREEZE}]'"
CLOSED = "status = 'CLOSED', closed_at = now(), closed_by = 'x'"


def move(account: str, change: str) -> str:
    """An escrow account moved to another status, with the proof of the service."""
    proof = account.replace("}", "_proof}")
    to = f"{change}, version = version + 1, change_proof = {proof}"
    return f"UPDATE escrow_accounts SET {to} WHERE escrow_account_id = '{account}';"


def prove_change(account: str) -> str:
    """The proof of who changes the first version of an escrow account, as SQL."""
    version = CHANGE, "org_1", account, 1
    return f"'\\x{SEALS.prove(SEALS.digest_proof(*version), *version).hex()}'"


def end(status: str, captured: int = 0, overridden: int = 0, returned: str = "NULL") -> str:
    """A hold ended."""
    moved = f"captured_minor = {captured}, overridden_minor = {overridden}, returned_transaction_id = {returned}"
    return f"UPDATE holds SET status = '{status}', {moved}, resolved_at = now(), resolved_by = 'x';"
