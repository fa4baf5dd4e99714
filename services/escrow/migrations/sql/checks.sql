-- An entry and its legs come together, in one statement, and are checked once for all it brings.
-- A journal entry comes with its legs. That these are all, and balance, is what check_legs sees to.
CREATE OR REPLACE FUNCTION check_journal_entries() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    -- Whoever checks the book looks at its numbers up to the account's. One beyond them would be looked at by nobody.
    IF EXISTS (
        SELECT FROM (
            SELECT escrow_no, min(org_id) AS org_id, max(org_id) AS other, min(sequence) AS first, max(sequence) AS last,
                   count(*) AS entries
            FROM entries GROUP BY escrow_no
        ) e
        LEFT JOIN LATERAL (
            SELECT x.org_id, x.entry_sequence FROM escrow_accounts x WHERE x.escrow_no = e.escrow_no
            OFFSET 0
        ) account ON true
        CROSS JOIN LATERAL (
            SELECT count(*) AS entries FROM ledger_entries l
            WHERE l.escrow_no = e.escrow_no AND l.journal_sequence BETWEEN e.first AND e.last AND l.leg = 1
        ) with_legs
        WHERE (account.org_id, account.org_id, account.entry_sequence) IS DISTINCT FROM (e.org_id, e.other, e.last)
           OR with_legs.entries <> e.entries OR e.last - e.first + 1 <> e.entries
    ) THEN
        RAISE EXCEPTION 'entries come without their legs, or are not the next ones of their escrow account'
            USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
----
CREATE OR REPLACE TRIGGER check_journal_entries AFTER INSERT ON journal_entries REFERENCING NEW TABLE AS entries
FOR EACH STATEMENT EXECUTE FUNCTION check_journal_entries();
----
-- Legs come with a journal entry of this transaction, all that it announces, with its times, and balance in each
-- layer. No two legs of an entry have one number, so once they are numbered to the last, none can be added.
-- They are of the entry's organization, and on ledger accounts of its escrow account.
-- The last leg of a ledger account has the number and leaves the balances that the account keeps, so no number is left
-- out and no balance after it is made up.
-- CASH may be overdrawn by what a bank did, and that a transaction says.
CREATE OR REPLACE FUNCTION check_legs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (
            SELECT escrow_no, journal_sequence, org_id, count(*) AS legs, max(leg) AS leg,
                   min(created_at) AS created_first, max(created_at) AS created_last,
                   min(effective_at) AS effective_first, max(effective_at) AS effective_last,
                   coalesce(sum(CASE WHEN debit THEN amount_minor ELSE -amount_minor END)
                       FILTER (WHERE NOT pending), 0) AS posted,
                   coalesce(sum(CASE WHEN debit THEN amount_minor ELSE -amount_minor END)
                       FILTER (WHERE pending), 0) AS pending
            FROM legs GROUP BY escrow_no, journal_sequence, org_id
        ) l
        LEFT JOIN LATERAL (
            SELECT j.org_id, j.created_xid, j.created_at, j.effective_at, j.leg_count FROM journal_entries j
            WHERE j.escrow_no = l.escrow_no AND j.sequence = l.journal_sequence
            OFFSET 0
        ) entry ON true
        WHERE entry.created_xid IS DISTINCT FROM pg_current_xact_id() OR l.org_id <> entry.org_id
           OR l.created_first <> entry.created_at OR l.created_last <> entry.created_at
           OR l.effective_first <> entry.effective_at OR l.effective_last <> entry.effective_at
           OR l.legs <> entry.leg_count OR l.leg <> entry.leg_count OR l.posted <> 0 OR l.pending <> 0
    ) THEN
        RAISE EXCEPTION 'legs are not all those of a journal entry of this statement, or do not balance'
            USING ERRCODE = '23514';
    END IF;
    IF EXISTS (
        SELECT FROM (
            SELECT DISTINCT ON (account_no, escrow_no) account_no, escrow_no, sequence, posted_after, pending_after
            FROM legs ORDER BY account_no, escrow_no, sequence DESC
        ) last
        LEFT JOIN LATERAL (
            SELECT l.escrow_no, l.entry_sequence,
                   CASE l.normal_balance WHEN 'DEBIT' THEN l.debits_posted - l.credits_posted
                   ELSE l.credits_posted - l.debits_posted END AS posted,
                   CASE l.normal_balance WHEN 'DEBIT' THEN l.debits_pending - l.credits_pending
                   ELSE l.credits_pending - l.debits_pending END AS pending
            FROM ledger_accounts l
            WHERE l.account_no = last.account_no
            OFFSET 0
        ) account ON true
        WHERE (account.escrow_no, account.entry_sequence, account.posted, account.pending)
            IS DISTINCT FROM (last.escrow_no, last.sequence, last.posted_after, last.pending_after)
    ) THEN
        RAISE EXCEPTION 'a leg is not what its ledger account keeps' USING ERRCODE = '23514';
    END IF;
    IF EXISTS (
        SELECT FROM (
            SELECT l.account_no, l.journal_sequence, l.sequence
            FROM legs l
            JOIN ledger_accounts a ON a.account_no = l.account_no AND a.kind = 'CASH'
            -- What a row shows of whether rails say it: the posting function is told, and asks for more.
            JOIN journal_entries j ON j.escrow_no = l.escrow_no AND j.sequence = l.journal_sequence
                AND j.transaction_id IS NULL
            WHERE l.posted_after < 0
            OFFSET 0
        ) below
        CROSS JOIN LATERAL (
            SELECT max(l.sequence) AS last, sum(CASE WHEN l.debit THEN l.amount_minor ELSE -l.amount_minor END) AS grown
            FROM legs l
            WHERE l.account_no = below.account_no AND l.journal_sequence = below.journal_sequence AND NOT l.pending
        ) entry
        WHERE below.sequence = entry.last AND entry.grown < 0
    ) THEN
        RAISE EXCEPTION 'what no transaction says takes more cash than there is' USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
----
CREATE OR REPLACE TRIGGER check_legs AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS legs
FOR EACH STATEMENT EXECUTE FUNCTION check_legs();
