-- Where a time falls in the book. Numbers have no gaps and time never goes back along them, so halving finds it and
-- no index on time is needed.

-- The number of the last entry of a ledger account booked at or before `p_at`; 0 if there is none.
CREATE OR REPLACE FUNCTION ledger_sequence_at(p_account_no bigint, p_last bigint, p_at timestamptz)
RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = public, pg_temp
AS $$
DECLARE
    low bigint := 0;
    high bigint := p_last;
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF (
            SELECT l.created_at <= p_at FROM ledger_entries l
            WHERE l.account_no = p_account_no AND l.sequence <= middle
            ORDER BY l.sequence DESC LIMIT 1
        ) THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;
----
-- The number of the last journal entry of an escrow account booked before `p_at`; 0 if there is none.
CREATE OR REPLACE FUNCTION journal_sequence_before(p_escrow_no bigint, p_last bigint, p_at timestamptz)
RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = public, pg_temp
AS $$
DECLARE
    low bigint := 0;
    high bigint := p_last;
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF (
            SELECT j.created_at < p_at FROM journal_entries j
            WHERE j.escrow_no = p_escrow_no AND j.sequence <= middle
            ORDER BY j.sequence DESC LIMIT 1
        ) THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;
----
-- The balances of every ledger account at an instant of effective time, exactly:
--   the balance after the last entry booked until then,
-- + what was booked within a minute after it and had happened before it (a short range of numbers),
-- + what was booked later still and had happened before it (the index of late entries).
-- Nothing is booked before it happens, so nothing need be taken away.
CREATE OR REPLACE FUNCTION balances_at(p_org text, p_escrow_account text, p_at timestamptz)
RETURNS TABLE (kind text, party_id text, normal_balance text, posted bigint, pending bigint)
LANGUAGE sql STABLE SET search_path = public, pg_temp SET enable_seqscan = off
AS $$
    SELECT a.kind, a.party_id, a.normal_balance,
           (coalesce(base.posted_after, 0) + coalesce(soon.posted, 0) + coalesce(late.posted, 0))::bigint,
           (coalesce(base.pending_after, 0) + coalesce(soon.pending, 0) + coalesce(late.pending, 0))::bigint
    FROM ledger_accounts a
    CROSS JOIN LATERAL (
        SELECT ledger_sequence_at(a.account_no, a.entry_sequence, p_at) AS number,
               ledger_sequence_at(a.account_no, a.entry_sequence, p_at + interval '1 minute') AS number_soon
        OFFSET 0
    ) until
    LEFT JOIN LATERAL (
        SELECT l.posted_after, l.pending_after FROM ledger_entries l
        WHERE l.account_no = a.account_no AND l.sequence <= until.number
        ORDER BY l.sequence DESC LIMIT 1
    ) base ON true
    CROSS JOIN LATERAL (
        SELECT sum(CASE WHEN l.debit = (a.normal_balance = 'DEBIT') THEN l.amount_minor ELSE -l.amount_minor END)
                   FILTER (WHERE NOT l.pending) AS posted,
               sum(CASE WHEN l.debit = (a.normal_balance = 'DEBIT') THEN l.amount_minor ELSE -l.amount_minor END)
                   FILTER (WHERE l.pending) AS pending
        FROM ledger_entries l
        WHERE l.account_no = a.account_no AND l.sequence > until.number AND l.sequence <= until.number_soon
          AND l.effective_at <= p_at AND NOT (l.created_at - l.effective_at) > interval '00:01:00'
    ) soon
    CROSS JOIN LATERAL (
        SELECT sum(CASE WHEN l.debit = (a.normal_balance = 'DEBIT') THEN l.amount_minor ELSE -l.amount_minor END)
                   FILTER (WHERE NOT l.pending) AS posted,
               sum(CASE WHEN l.debit = (a.normal_balance = 'DEBIT') THEN l.amount_minor ELSE -l.amount_minor END)
                   FILTER (WHERE l.pending) AS pending
        FROM ledger_entries l
        WHERE l.account_no = a.account_no AND l.effective_at <= p_at AND l.sequence > until.number
          AND (l.created_at - l.effective_at) > interval '00:01:00'
    ) late
    WHERE a.org_id = p_org AND a.escrow_account_id = p_escrow_account
$$;
