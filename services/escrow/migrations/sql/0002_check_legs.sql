-- A leg belongs to a journal entry of this transaction and is one of the legs that the entry announces, so none can be
-- added after the entry was checked; and the last leg of a ledger account has the number and leaves the balances that
-- the account keeps, so no number is left out and no balance after it is made up. One check for a whole batch.
CREATE OR REPLACE FUNCTION check_legs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (
            SELECT org_id, escrow_account_id, journal_sequence, created_at, effective_at, max(leg) AS leg
            FROM legs GROUP BY org_id, escrow_account_id, journal_sequence, created_at, effective_at
        ) legs
        LEFT JOIN LATERAL (
            SELECT j.created_xid, j.created_at, j.effective_at, j.n_legs FROM journal_entries j
            WHERE j.org_id = legs.org_id AND j.escrow_account_id = legs.escrow_account_id
              AND j.sequence = legs.journal_sequence
            OFFSET 0
        ) entry ON true
        WHERE entry.created_xid IS DISTINCT FROM pg_current_xact_id()
           OR entry.created_at <> legs.created_at OR entry.effective_at <> legs.effective_at
           OR legs.leg > entry.n_legs
    ) THEN
        RAISE EXCEPTION 'a leg is added to a journal entry that has its legs' USING ERRCODE = '23514';
    END IF;
    IF EXISTS (
        SELECT FROM (
            SELECT DISTINCT ON (org_id, escrow_account_id, ledger_account)
                   org_id, escrow_account_id, ledger_account, sequence, posted_after, pending_after
            FROM legs ORDER BY org_id, escrow_account_id, ledger_account, sequence DESC
        ) last
        LEFT JOIN LATERAL (
            SELECT l.entry_sequence,
                   CASE l.normal_balance WHEN 'DEBIT' THEN l.debits_posted - l.credits_posted
                   ELSE l.credits_posted - l.debits_posted END AS posted,
                   CASE l.normal_balance WHEN 'DEBIT' THEN l.debits_pending - l.credits_pending
                   ELSE l.credits_pending - l.debits_pending END AS pending
            FROM ledger_accounts l
            WHERE l.org_id = last.org_id AND l.escrow_account_id = last.escrow_account_id
              AND l.ledger_account = last.ledger_account
            OFFSET 0
        ) account ON true
        WHERE (account.entry_sequence, account.posted, account.pending)
            IS DISTINCT FROM (last.sequence, last.posted_after, last.pending_after)
    ) THEN
        RAISE EXCEPTION 'a leg is not what its ledger account keeps' USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
