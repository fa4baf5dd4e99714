-- An entry and its legs come together, in one statement, and are checked once for all it brings.
-- A journal entry comes with its legs. That these are all, and balance, is what check_legs sees to.
CREATE OR REPLACE FUNCTION check_journal_entries() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM entries
        LEFT JOIN LATERAL (
            SELECT l.leg FROM ledger_entries l
            WHERE l.org_id = entries.org_id AND l.escrow_account_id = entries.escrow_account_id
              AND l.journal_sequence = entries.sequence
            ORDER BY l.leg
            LIMIT 1
        ) first ON true
        WHERE first.leg IS NULL
    ) THEN
        RAISE EXCEPTION 'a journal entry comes without its legs' USING ERRCODE = '23514';
    END IF;
    -- Whoever checks the book looks at its numbers up to the account's. One beyond them would be looked at by nobody.
    IF EXISTS (
        SELECT FROM (
            SELECT org_id, escrow_account_id, max(sequence) AS last FROM entries GROUP BY org_id, escrow_account_id
        ) e
        LEFT JOIN LATERAL (
            SELECT x.entry_sequence FROM escrow_accounts x
            WHERE x.org_id = e.org_id AND x.escrow_account_id = e.escrow_account_id
            OFFSET 0
        ) account ON true
        WHERE account.entry_sequence IS DISTINCT FROM e.last
    ) THEN
        RAISE EXCEPTION 'the last entry is not the one that its escrow account counts' USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
----
CREATE OR REPLACE TRIGGER check_journal_entries AFTER INSERT ON journal_entries REFERENCING NEW TABLE AS entries
FOR EACH STATEMENT EXECUTE FUNCTION check_journal_entries();
----
-- Legs come with a journal entry of this transaction, all that it announces, with its times, and balance in each
-- layer. No two legs of an entry have one number, so once they are numbered to the last, none can be added.
-- The last leg of a ledger account has the number and leaves the balances that the account keeps, so no number is left
-- out and no balance after it is made up.
CREATE OR REPLACE FUNCTION check_legs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (
            SELECT org_id, escrow_account_id, journal_sequence, count(*) AS legs, max(leg) AS leg,
                   min(created_at) AS created_first, max(created_at) AS created_last,
                   min(effective_at) AS effective_first, max(effective_at) AS effective_last,
                   coalesce(sum(CASE direction WHEN 'DEBIT' THEN amount_minor ELSE -amount_minor END)
                       FILTER (WHERE layer = 'POSTED'), 0) AS posted,
                   coalesce(sum(CASE direction WHEN 'DEBIT' THEN amount_minor ELSE -amount_minor END)
                       FILTER (WHERE layer = 'PENDING'), 0) AS pending
            FROM legs GROUP BY org_id, escrow_account_id, journal_sequence
        ) l
        LEFT JOIN LATERAL (
            SELECT j.created_xid, j.created_at, j.effective_at, j.leg_count FROM journal_entries j
            WHERE j.org_id = l.org_id AND j.escrow_account_id = l.escrow_account_id
              AND j.sequence = l.journal_sequence
            OFFSET 0
        ) entry ON true
        WHERE entry.created_xid IS DISTINCT FROM pg_current_xact_id()
           OR l.created_first <> entry.created_at OR l.created_last <> entry.created_at
           OR l.effective_first <> entry.effective_at OR l.effective_last <> entry.effective_at
           OR l.legs <> entry.leg_count OR l.leg <> entry.leg_count OR l.posted <> 0 OR l.pending <> 0
    ) THEN
        RAISE EXCEPTION 'legs are not all those of a journal entry of this statement, or do not balance'
            USING ERRCODE = '23514';
    END IF;
    IF EXISTS (
        SELECT FROM (
            SELECT DISTINCT ON (org_id, escrow_account_id, kind, party_id)
                   org_id, escrow_account_id, kind, party_id, sequence, posted_after, pending_after
            FROM legs ORDER BY org_id, escrow_account_id, kind, party_id, sequence DESC
        ) last
        LEFT JOIN LATERAL (
            SELECT l.entry_sequence,
                   CASE l.normal_balance WHEN 'DEBIT' THEN l.debits_posted - l.credits_posted
                   ELSE l.credits_posted - l.debits_posted END AS posted,
                   CASE l.normal_balance WHEN 'DEBIT' THEN l.debits_pending - l.credits_pending
                   ELSE l.credits_pending - l.debits_pending END AS pending
            FROM ledger_accounts l
            WHERE l.org_id = last.org_id AND l.escrow_account_id = last.escrow_account_id
              AND l.kind = last.kind AND l.party_id = last.party_id
            OFFSET 0
        ) account ON true
        WHERE (account.entry_sequence, account.posted, account.pending)
            IS DISTINCT FROM (last.sequence, last.posted_after, last.pending_after)
    ) THEN
        RAISE EXCEPTION 'a leg is not what its ledger account keeps' USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
----
CREATE OR REPLACE TRIGGER check_legs AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS legs
FOR EACH STATEMENT EXECUTE FUNCTION check_legs();
