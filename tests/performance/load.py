"""Rows to measure on, written by SQL as the superuser: the services would take hours for what this does in seconds.

- Triggers and foreign keys are off while it writes (they have their own tests); checks and indexes are not.
- Rows bear the seals of the service that is to read them, and the book counts as looked at.
- The books it leaves tie out: every running balance, number and counter is what the postings would have made it.
- Rows lie as time passes: oldest first, over the last 90 days.
"""

from __future__ import annotations

import json

import asyncpg
import sqlalchemy as sa

from services.chassis.data.migrate import engine_of
from services.chassis.data.seals import Seals, bind_seals, list_sealed_tables, seal_rows
from services.escrow.posting.checks import save_checked

ORG = "org-bench"
HOT = 0  # the number of the escrow account that has half of all entries
SPREAD = 1000  # how many escrow accounts share the other half
INVESTORS = 1000
OFFERINGS = 16  # one a caller: a calculation locks its offering
AMOUNT_MINOR = 100_00
LISTED_PARTY = f"pty_{0:026}"  # has a tenth of all transactions

_SINCE = "(now() - interval '90 days')"


def escrow_account_id(number: int) -> str:
    return f"esc_{number:026d}"


def transaction_id(number: int) -> str:
    return f"txn_{number:026d}"


def distribution_id(number: int) -> str:
    return f"dist_{number:026d}"


def investor_id(number: int) -> str:
    return f"pty_{number:026}"


async def seal_tables(dsn: str, seals: Seals, metadata: sa.MetaData) -> None:
    """Seals all rows of a service's tables, as the service would have.

    Args:
        dsn: The superuser's.
    """
    engine = engine_of(dsn, {})
    async with engine.begin() as tx:
        bind_seals(tx, seals)
        await tx.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for table in list_sealed_tables(metadata):
            await seal_rows(tx, table, (await tx.execute(sa.select(table))).all())
    await engine.dispose()


async def load_book(connection: asyncpg.Connection, seals: Seals, scale: int) -> None:
    """2 x `scale` journal entries of two legs: half on the hot escrow account's 1,000 investors, half spread."""
    # The trigger that opens an account's ledger accounts runs as their owner, whom row level security binds.
    await connection.execute(f"SELECT set_config('app.org_id', '{ORG}', false)")
    await connection.execute(
        f"""
        INSERT INTO escrow_accounts (
            org_id, escrow_account_id, display_name, currency, sponsor_party_id, custodian_name, created_at, created_by,
            updated_at
        )
        SELECT '{ORG}', 'esc_' || lpad(n::text, 26, '0'), 'Bench ' || n, 'USD', 'pty_' || lpad('', 26, '0'),
            'First Custody', {_SINCE}, 'admin-1', {_SINCE}
        FROM generate_series(0, {SPREAD}) n
        """
    )
    each = max(1, scale // SPREAD)
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await _load_entries(connection, f"{HOT}, {HOT}", scale, INVESTORS)
        await _load_entries(connection, f"1, {SPREAD}", each, 1)
        numbers = await connection.fetch("SELECT org_id, escrow_account_id, entry_sequence FROM escrow_accounts")
        await save_checked(connection, seals, [tuple(row) for row in numbers])
    await connection.execute("VACUUM ANALYZE")


async def _load_entries(connection: asyncpg.Connection, accounts: str, each: int, investors: int) -> None:
    """Contributions, `each` to every escrow account of the range, its investors taking turns."""
    await connection.execute(
        f"""
        CREATE TEMP TABLE made ON COMMIT DROP AS
        SELECT i, a, e.escrow_account_id AS account, e.escrow_no, i + 1 AS sequence, i / {investors} + 1 AS of_investor,
               'pty_' || lpad((i % {investors})::text, 26, '0') AS investor,
               {_SINCE} + i * (interval '90 days' / {each}) AS at, md5(a || '/' || i) AS digest,
               'je_' || lpad((a::bigint * 100000000 + i)::text, 26, '0') AS id
        FROM generate_series(0::bigint, {each} - 1) i, generate_series({accounts}) a
        JOIN escrow_accounts e ON e.org_id = '{ORG}' AND e.escrow_account_id = 'esc_' || lpad(a::text, 26, '0')
        ORDER BY i, a
        """
    )
    await connection.execute(
        f"""
        INSERT INTO journal_entries (org_id, escrow_no, sequence, journal_entry_id, request_key, fingerprint,
            type, description, leg_count, effective_at, created_at, created_by)
        SELECT '{ORG}', escrow_no, sequence, id, digest::uuid, sha256(id::bytea), 'DEPOSIT', 'Contribution', 2, at, at,
            'admin-1' FROM made
        """
    )
    await connection.execute(
        f"""
        INSERT INTO ledger_accounts (org_id, escrow_account_id, escrow_no, kind, party_id, of_party, normal_balance,
            may_be_overdrawn, debits_posted, credits_posted, entry_sequence)
        SELECT '{ORG}', account, escrow_no, kind, party_id, party_id <> '', normal, kind = 'CASH',
            CASE normal WHEN 'DEBIT' THEN n * {AMOUNT_MINOR} ELSE 0 END,
            CASE normal WHEN 'CREDIT' THEN n * {AMOUNT_MINOR} ELSE 0 END, n
        FROM (
            SELECT account, escrow_no, 'CASH' AS kind, '' AS party_id, 'DEBIT' AS normal, count(*) AS n
            FROM made GROUP BY account, escrow_no
            UNION ALL SELECT account, escrow_no, 'SUBSCRIPTION', investor, 'CREDIT', count(*)
            FROM made GROUP BY account, escrow_no, investor
        ) totals
        ON CONFLICT (org_id, escrow_account_id, kind, party_id) DO UPDATE
        SET debits_posted = excluded.debits_posted, entry_sequence = excluded.entry_sequence
        """
    )
    await connection.execute(
        f"""
        INSERT INTO ledger_entries (org_id, escrow_no, account_no, sequence, journal_sequence, leg, debit, pending,
            amount_minor, posted_after, pending_after, effective_at, created_at)
        SELECT '{ORG}', made.escrow_no, l.account_no, leg.sequence, made.sequence, leg.number, leg.debit,
            false, {AMOUNT_MINOR}, leg.sequence * {AMOUNT_MINOR}, 0, at, at
        FROM made
        CROSS JOIN LATERAL (VALUES
            (1, 'CASH', '', true, made.sequence), (2, 'SUBSCRIPTION', made.investor, false, made.of_investor)
        ) AS leg (number, kind, party_id, debit, sequence)
        JOIN ledger_accounts l ON l.escrow_no = made.escrow_no AND l.kind = leg.kind AND l.party_id = leg.party_id
        ORDER BY made.i, made.a, leg.number
        """
    )
    await connection.execute(
        f"""
        UPDATE escrow_accounts x SET entry_sequence = t.n, booked_at = t.at
        FROM (SELECT account, count(*) AS n, max(at) AS at FROM made GROUP BY account) t
        WHERE x.org_id = '{ORG}' AND x.escrow_account_id = t.account
        """
    )
    await connection.execute("DROP TABLE made")


async def load_transactions(connection: asyncpg.Connection, scale: int) -> None:
    """Completed contributions of many parties."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            f"""
            INSERT INTO transactions (org_id, transaction_id, type, status, previous_status, version, payment_method,
                amount_minor, currency, escrow_account_id, party_id, description, attempts, presentments, provider,
                provider_reference, created_by, created_at, updated_at, settled_at, finality, escrow_booked)
            SELECT '{ORG}', 'txn_' || lpad(i::text, 26, '0'), 'ESCROW_DEPOSIT', 'COMPLETED', 'SETTLED', 7, 'ACH',
                {AMOUNT_MINOR} + i, 'USD', 'esc_' || lpad((i % {SPREAD})::text, 26, '0'),
                'pty_' || lpad((CASE WHEN i % 10 = 0 THEN 0 ELSE i % {INVESTORS} END)::text, 26, '0'),
                'Contribution', 1, 1, 'sandbox',
                'pay_' || i, 'admin-1', at, at, at, 'FINAL', true
            FROM generate_series(1, {scale}) i, LATERAL (SELECT {_SINCE} + i * (interval '90 days' / {scale}) AS at) t
            """
        )
    await connection.execute("VACUUM ANALYZE")


_TIERS = json.dumps(
    [
        ["RETURN_OF_CAPITAL", {}],
        ["PREFERRED_RETURN", {"rate": "0.08"}],
        ["CATCH_UP", {"sponsor_share": "1"}],
        ["SPLIT", {"sponsor_share": "0.2"}],
    ]
)


async def load_offerings(connection: asyncpg.Connection) -> None:
    """Closed offerings of 1,000 active investments each, with a drafted distribution."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            f"""
            INSERT INTO offerings (org_id, offering_id, display_name, sponsor_party_id, escrow_account_id, exemption,
                currency, target_minor, maximum_minor, open_at, deadline_at, receivables_policy, tiers, status,
                committed_minor, funded_minor, closing_date, makers, created_by, created_at, updated_at)
            SELECT '{ORG}', 'off_' || lpad(n::text, 26, '0'), 'Bench ' || n, 'sponsor-1',
                'esc_' || lpad((900000 + n)::text, 26, '0'), 'REG_D_506B', 'USD', 1000000000, 1000000000, {_SINCE},
                now(), 'BLOCK', '{_TIERS}', 'CLOSED', 0, 0, {_SINCE}::date, '["admin-1"]', 'admin-1',
                {_SINCE}, {_SINCE}
            FROM generate_series(0, {OFFERINGS} - 1) n
            """
        )
        await connection.execute(
            f"""
            INSERT INTO investments (investment_id, org_id, offering_id, party_id, currency, amount_minor,
                funded_minor, released_minor, unreturned_minor, accrued_through, accrual_start_date,
                status, created_by, created_at, updated_at)
            SELECT 'inv_' || lpad((n * {INVESTORS} + i)::text, 26, '0'), '{ORG}', 'off_' || lpad(n::text, 26, '0'),
                'pty_' || lpad(i::text, 26, '0'), 'USD', m, m, m, m, {_SINCE}::date, {_SINCE}::date, 'ACTIVE',
                'admin-1', {_SINCE}, {_SINCE}
            FROM generate_series(0, {OFFERINGS} - 1) n, generate_series(0, {INVESTORS} - 1) i,
                LATERAL (SELECT 1000000 + i * 7919 AS m) amount
            """
        )
        # More than all capital and preferred return, so every tier of the waterfall has its part.
        await connection.execute(
            f"""
            INSERT INTO distributions (distribution_id, org_id, offering_id, type, currency, amount_minor,
                distribution_date, status, tier_totals, makers, created_by, created_at, updated_at)
            SELECT 'dist_' || lpad(n::text, 26, '0'), '{ORG}', 'off_' || lpad(n::text, 26, '0'), 'PROFIT_SPLIT',
                'USD', 7000000000, current_date, 'DRAFT', '[]', '["admin-1"]', 'admin-1', now(), now()
            FROM generate_series(0, {OFFERINGS} - 1) n
            """
        )
    await connection.execute("VACUUM ANALYZE")
