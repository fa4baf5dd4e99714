-- The escrow accounts that money of this one was transferred from, or of one of those: their numbers, without its own.
-- A transfer that was undone brought nothing. Its return took out of this one as much as it had brought: an entry that
-- only says that it is one, and moves less, undoes nothing.
CREATE OR REPLACE FUNCTION sources_of(p_escrow_no bigint)
RETURNS SETOF bigint LANGUAGE sql STABLE SET search_path = public, pg_temp SET enable_seqscan = off
AS $$
    WITH RECURSIVE reached (escrow_no) AS (
        SELECT p_escrow_no
        UNION
        SELECT o.escrow_no
        FROM reached r
        JOIN journal_entries t ON t.escrow_no = r.escrow_no AND t.type = 'TRANSFER'
        JOIN journal_entries o ON o.transaction_id = t.transaction_id AND o.org_id = t.org_id
            AND o.escrow_no <> t.escrow_no AND o.type = 'TRANSFER'
        WHERE EXISTS (
            SELECT FROM ledger_entries l JOIN ledger_accounts a ON a.account_no = l.account_no
            WHERE l.escrow_no = t.escrow_no AND l.journal_sequence = t.sequence
              AND NOT l.debit AND NOT l.pending AND a.kind IN ('DISTRIBUTABLE', 'UNAPPLIED')
        ) AND NOT EXISTS (
            SELECT FROM journal_entries b
            WHERE b.transaction_id = t.transaction_id AND b.escrow_no = t.escrow_no AND b.type = 'RETURN' AND (
                SELECT sum(CASE WHEN l.debit THEN l.amount_minor ELSE -l.amount_minor END)
                FROM ledger_entries l JOIN ledger_accounts a ON a.account_no = l.account_no
                WHERE l.escrow_no = t.escrow_no AND l.journal_sequence IN (t.sequence, b.sequence)
                  AND NOT l.pending AND a.kind IN ('CASH', 'IN_TRANSIT')
            ) <= 0
        )
    )
    SELECT r.escrow_no FROM reached r WHERE r.escrow_no <> p_escrow_no
$$;
