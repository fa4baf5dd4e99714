-- The one way into the book. Takes a batch and decides each entry by itself, in the order given, as if they had come
-- one after another; then writes what was accepted. Where nothing can be refused, as in almost every batch, all is
-- decided set-based; where there is a doubt, judge_journal_entries decides entry by entry.
--
-- Distinct escrow accounts (e_), the distinct ledger accounts used in them (a_), the entries (j_) and their legs (l_);
-- they refer to one another by position. `j_seal` is what the service seals each entry with, which no function can check:
-- whoever has a login may call this one. posting/checks.py asks for it. `j_refusal_seal` is what a refusal of the entry is
-- kept with: one that is kept with another seal was not the answer to a request of the service, and is not looked at.
-- j_first is the first entry of the batch with the same organization and key. j_owing is where RETURNS_RECEIVABLE of the
-- party stands that the rails are asked to pay by the entry; 0 where nobody is. j_forbids_debts is true of what is not
-- booked while any party has something there.
-- Of each escrow account: `currency`, and `booked_at`, the time of what is booked now. Of each leg that was booked:
-- `leg_sequence` and `leg_balance`. Of each entry: `sequence`, its number, and unless all are posted, when there is none:
-- `verdict`, what the verdict is about, and `replayed`: an earlier request with its key was given it.
--   posted
--   given_up                   as give_up_posting was told before
--   duplicate | key_reused     this request, or another one, has the key: sequence of its entry, and subject = the escrow
--                              account of that; none where it was refused
--   not_found | frozen | closed
--   currency_mismatch          subject = the escrow account's currency
--   unbalanced                 subject = the currency; available = debits, requested = credits of the layer that differs
--   reversal_not_found         subject = the entry to reverse
--   already_reversed           the same; sequence of its reversal, none where that is of this batch
--   too_large                  kind, party_id = the ledger account whose balance would leave its bounds
--   insufficient               subject = the currency; kind, party_id = the ledger account, available, requested;
--                              sequence = the number of the last entry there is. Of CASH: what of it nobody holds and
--                              nothing that was ordered before takes, for an entry that has somebody paid
--   owing                      the same of the payee's RETURNS_RECEIVABLE, or of all parties' together; requested = what
--                              is owed there
--   owing_at_source            the same in an escrow account that money of this one was transferred from: subject = that,
--                              sequence = the number of the last entry there. Refunds are paid all the same: what an
--                              investor paid for an offering came from no other account
-- Whether those entries are the service's no function can tell: booking.py asks before a refusal is given.
-- What is refused for what the book holds is a decision: it is kept in refused_postings and given again to the same
-- key. What is malformed, or names what is not there, leaves the key free.
--
-- Everybody who changes balances or holds locks the row of the escrow account first, in the order of their keys, so
-- ledger accounts need no locks of their own and nobody waits in a circle.
CREATE OR REPLACE FUNCTION post_journal_entries(
    p_now timestamptz,
    e_org text[], e_id text[],
    a_escrow int[], a_kind text[], a_party text[],
    j_escrow int[], j_first int[], j_key uuid[], j_fingerprint bytea[], j_id text[], j_type text[],
    j_description text[], j_effective timestamptz[], j_currency text[], j_transaction text[], j_investment text[],
    j_distribution text[], j_reverses text[], j_created_by text[], j_external text[], j_metadata jsonb[],
    j_is_of_rails boolean[], j_legs int[], j_owing int[], j_forbids_debts boolean[],
    l_account int[], l_debit boolean[], l_pending boolean[], l_amount bigint[], j_seal bytea[],
    j_refusal_seal bytea[],
    OUT verdict text[], OUT replayed boolean[], OUT sequence bigint[], OUT subject text[], OUT kind text[],
    OUT party_id text[], OUT available bigint[], OUT requested bigint[], OUT leg_sequence bigint[],
    OUT leg_balance bigint[], OUT booked_at timestamptz[], OUT currency text[]
) LANGUAGE plpgsql SECURITY DEFINER
-- Plans must not depend on how full the tables were when they were made.
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    bound CONSTANT bigint := 4611686018427387903;
    n int := coalesce(cardinality(j_id), 0);
    n_legs int := coalesce(cardinality(l_account), 0);
    -- Escrow accounts.
    e_no bigint[];
    e_status text[];
    e_sequence bigint[];
    e_free bigint[];  -- cash that nobody holds and nothing that was ordered takes; none where nobody is paid
    e_owed bigint[];  -- what parties owe of what banks took back; none where nothing forbids debts
    -- What each payee owes where most of it is owed of the accounts that money came from; none where nothing was owed.
    j_owed bigint[];
    j_owed_at text[];
    j_owed_until bigint[];
    -- Ledger accounts, balances on their normal side.
    a_no bigint[];
    a_debit_normal boolean[];
    a_overdrawable boolean[];
    a_posted bigint[];
    a_pending bigint[];
    a_held bigint[];
    a_sequence bigint[];
    -- Entries and legs. A leg of what is refused has no entry.
    j_duplicate bigint[];
    j_place text[];
    j_other boolean[];
    j_reversal text[];
    j_reversed_by bigint[];
    l_entry int[];
    l_number int[];
    l_posted bigint[];
    l_pending_after bigint[];
    is_sound boolean;
    r record;
BEGIN
    PERFORM realco_check_time(p_now);
    -- They refer to one another by position, so each begins at 1 and has one for each: else a name would be read at one
    -- place and written at another.
    IF EXISTS (
        SELECT FROM (VALUES
            (cardinality(e_id), ARRAY[array_dims(e_org), array_dims(e_id)]),
            (cardinality(a_kind), ARRAY[array_dims(a_escrow), array_dims(a_kind), array_dims(a_party)]),
            (n, ARRAY[
                array_dims(j_escrow), array_dims(j_first), array_dims(j_key), array_dims(j_fingerprint),
                array_dims(j_id), array_dims(j_type), array_dims(j_description), array_dims(j_effective),
                array_dims(j_currency), array_dims(j_transaction), array_dims(j_investment),
                array_dims(j_distribution), array_dims(j_reverses), array_dims(j_created_by),
                array_dims(j_external), array_dims(j_metadata), array_dims(j_is_of_rails), array_dims(j_legs),
                array_dims(j_owing), array_dims(j_forbids_debts),
                array_dims(j_seal), array_dims(j_refusal_seal)
            ]),
            (n_legs, ARRAY[array_dims(l_account), array_dims(l_debit), array_dims(l_pending), array_dims(l_amount)])
        ) AS given (count, dims)
        CROSS JOIN LATERAL unnest(dims) AS of (dim)
        WHERE dim IS DISTINCT FROM CASE WHEN count > 0 THEN '[1:' || count || ']' END
    ) THEN
        RAISE EXCEPTION 'the lists do not refer to one another by position' USING ERRCODE = '23514';
    END IF;

    WITH locked AS MATERIALIZED (
        SELECT u.i, x.escrow_no, x.status, x.currency::text, x.entry_sequence, greatest(x.booked_at, p_now) AS booked_at
        FROM unnest(e_org, e_id) WITH ORDINALITY AS u (org, id, i)
        JOIN escrow_accounts x ON x.org_id = u.org AND x.escrow_account_id = u.id
        ORDER BY x.org_id, x.escrow_account_id
        FOR NO KEY UPDATE OF x
    )
    SELECT array_agg(l.escrow_no ORDER BY u.i), array_agg(l.status ORDER BY u.i), array_agg(l.currency ORDER BY u.i),
           array_agg(l.entry_sequence ORDER BY u.i), array_agg(l.booked_at ORDER BY u.i)
    INTO e_no, e_status, currency, e_sequence, booked_at
    FROM generate_series(1, cardinality(e_id)) u (i) LEFT JOIN locked l ON l.i = u.i;

    SELECT array_agg(x.account_no ORDER BY u.i), array_agg(k.normal_balance = 'DEBIT' ORDER BY u.i),
           array_agg(k.may_be_overdrawn ORDER BY u.i), array_agg(coalesce(x.posted, 0) ORDER BY u.i),
           array_agg(coalesce(x.pending, 0) ORDER BY u.i), array_agg(coalesce(x.held, 0) ORDER BY u.i),
           array_agg(coalesce(x.entry_sequence, 0) ORDER BY u.i)
    INTO a_no, a_debit_normal, a_overdrawable, a_posted, a_pending, a_held, a_sequence
    FROM unnest(a_escrow, a_kind, a_party) WITH ORDINALITY AS u (e, kind, party_id, i)
    LEFT JOIN ledger_account_kinds k ON k.kind = u.kind
    LEFT JOIN LATERAL (
        SELECT l.account_no, l.held, l.entry_sequence,
               CASE l.normal_balance WHEN 'DEBIT' THEN l.debits_posted - l.credits_posted
               ELSE l.credits_posted - l.debits_posted END AS posted,
               CASE l.normal_balance WHEN 'DEBIT' THEN l.debits_pending - l.credits_pending
               ELSE l.credits_pending - l.debits_pending END AS pending
        FROM ledger_accounts l
        WHERE l.org_id = e_org[u.e] AND l.escrow_account_id = e_id[u.e] AND l.kind = u.kind AND l.party_id = u.party_id
        OFFSET 0
    ) x ON true;

    IF 0 < ANY (j_owing) THEN
        SELECT array_agg(x.cash - y.held ORDER BY u.i) INTO e_free
        FROM unnest(e_org, e_id) WITH ORDINALITY AS u (org, id, i)
        CROSS JOIN LATERAL (
            -- What is on its way out takes of cash; what rails owe us adds nothing to it.
            SELECT coalesce(sum(CASE l.kind WHEN 'CASH' THEN l.debits_posted - l.credits_posted
                                ELSE least(0, l.debits_posted - l.credits_posted) END), 0)::bigint AS cash
            FROM ledger_accounts l
            WHERE l.org_id = u.org AND l.escrow_account_id = u.id AND l.kind IN ('CASH', 'IN_TRANSIT') AND l.party_id = ''
        ) x
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(l.held), 0)::bigint AS held FROM ledger_accounts l
            WHERE l.org_id = u.org AND l.escrow_account_id = u.id AND l.held > 0
        ) y;
        IF EXISTS (SELECT FROM journal_entries j WHERE j.escrow_no = ANY (e_no) AND j.type = 'TRANSFER') THEN
            WITH source AS MATERIALIZED (
                SELECT u.i AS e, x.org_id, x.escrow_account_id, x.entry_sequence
                FROM unnest(e_no) WITH ORDINALITY AS u (no, i)
                CROSS JOIN LATERAL sources_of(u.no) AS s (no)
                JOIN escrow_accounts x ON x.escrow_no = s.no
            )
            SELECT array_agg(x.owed ORDER BY u.i), array_agg(x.id ORDER BY u.i), array_agg(x.until ORDER BY u.i)
            INTO j_owed, j_owed_at, j_owed_until
            FROM unnest(j_owing, j_escrow, j_type) WITH ORDINALITY AS u (a, e, type, i)
            LEFT JOIN LATERAL (
                SELECT (l.debits_posted - l.credits_posted)::bigint AS owed, s.escrow_account_id AS id,
                       s.entry_sequence AS until
                FROM source s JOIN ledger_accounts l ON l.org_id = s.org_id
                    AND l.escrow_account_id = s.escrow_account_id AND l.kind = 'RETURNS_RECEIVABLE'
                    AND l.party_id = a_party[u.a] AND l.debits_posted > l.credits_posted
                WHERE s.e = u.e AND u.type <> 'REFUND'
                ORDER BY 1 DESC, 2 LIMIT 1
            ) x ON true;
        END IF;
    END IF;

    IF true = ANY (j_forbids_debts) THEN
        SELECT array_agg(x.owed ORDER BY u.i) INTO e_owed
        FROM unnest(e_org, e_id) WITH ORDINALITY AS u (org, id, i)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(l.debits_posted - l.credits_posted), 0)::bigint AS owed FROM ledger_accounts l
            WHERE l.org_id = u.org AND l.escrow_account_id = u.id AND l.kind = 'RETURNS_RECEIVABLE'
        ) x;
    END IF;

    SELECT array_agg(u.i), array_agg(leg) INTO l_entry, l_number
    FROM unnest(j_legs) WITH ORDINALITY AS u (legs, i), generate_series(1, u.legs) leg;

    -- Whether nothing can be refused: each key is new, each escrow account takes its entries, and no leg takes a balance
    -- where it may not be, not even between the legs of an entry.
    SELECT bool_and(
        u.first = u.i AND u.reverses IS NULL AND (u.code = currency[u.e]) IS NOT FALSE AND coalesce(
            e_status[u.e] IN ('ACTIVE', 'LIQUIDATING') OR e_status[u.e] = 'FROZEN' AND u.is_of_rails, false
        )
    )
    AND NOT EXISTS (SELECT FROM journal_entries j WHERE j.request_key = ANY (j_key) AND j.org_id = ANY (e_org))
    AND NOT EXISTS (SELECT FROM refused_postings f WHERE f.request_key = ANY (j_key) AND f.org_id = ANY (e_org))
    INTO is_sound
    FROM unnest(j_escrow, j_first, j_reverses, j_currency, j_is_of_rails) WITH ORDINALITY
        AS u (e, first, reverses, code, is_of_rails, i);
    IF is_sound THEN
        SELECT array_agg(leg.sequence ORDER BY leg.n), array_agg(leg.posted::bigint ORDER BY leg.n),
               array_agg(leg.pending::bigint ORDER BY leg.n),
               array_agg((CASE WHEN l_pending[leg.n] THEN leg.pending ELSE leg.posted END)::bigint ORDER BY leg.n),
               count(*) = n_legs AND bool_and(coalesce(
                   a_escrow[leg.a] = j_escrow[l_entry[leg.n]]
                   AND (a_overdrawable[leg.a] OR leg.posted >= a_held[leg.a] AND leg.pending >= 0)
                   AND (
                       a_kind[leg.a] NOT IN ('CASH', 'IN_TRANSIT') OR j_is_of_rails[l_entry[leg.n]]
                       OR CASE a_kind[leg.a] WHEN 'CASH' THEN leg.posted >= 0 ELSE leg.posted <= 0 END
                   ), false
               ))
        INTO leg_sequence, l_posted, l_pending_after, leg_balance, is_sound
        FROM (
            SELECT k.n, k.a, a_sequence[k.a] + row_number() OVER account AS sequence,
                   a_posted[k.a] + sum(CASE WHEN k.pending THEN 0 WHEN k.debit = a_debit_normal[k.a] THEN k.amount
                       ELSE -k.amount END) OVER account AS posted,
                   a_pending[k.a] + sum(CASE WHEN NOT k.pending THEN 0 WHEN k.debit = a_debit_normal[k.a] THEN k.amount
                       ELSE -k.amount END) OVER account AS pending
            FROM unnest(l_account, l_debit, l_pending, l_amount) WITH ORDINALITY AS k (a, debit, pending, amount, n)
            WINDOW account AS (PARTITION BY k.a ORDER BY k.n ROWS UNBOUNDED PRECEDING)
        ) leg
        WHERE abs(leg.posted) <= bound AND abs(leg.pending) <= bound;
        is_sound := is_sound AND NOT EXISTS (
            SELECT FROM unnest(l_entry, l_debit, l_pending, l_amount) AS k (entry, debit, pending, amount)
            GROUP BY k.entry
            HAVING sum(CASE WHEN k.debit THEN k.amount ELSE -k.amount END) FILTER (WHERE NOT k.pending) <> 0
                OR sum(CASE WHEN k.debit THEN k.amount ELSE -k.amount END) FILTER (WHERE k.pending) <> 0
        );
    END IF;
    IF is_sound AND e_free IS NOT NULL THEN
        is_sound := NOT EXISTS (
            SELECT FROM unnest(l_account, l_debit, l_pending, l_amount) AS k (a, debit, pending, amount)
            WHERE a_kind[k.a] IN ('CASH', 'IN_TRANSIT') AND NOT k.debit AND NOT k.pending
            GROUP BY a_escrow[k.a]
            HAVING sum(k.amount) > e_free[a_escrow[k.a]]
        ) AND NOT EXISTS (
            SELECT FROM unnest(j_owing) AS o (a) WHERE o.a > 0 AND (a_posted[o.a] > 0 OR o.a = ANY (l_account))
        ) AND NOT coalesce(0 < ANY (j_owed), false);
    END IF;
    IF is_sound AND e_owed IS NOT NULL THEN
        is_sound := NOT EXISTS (
            SELECT FROM unnest(j_escrow, j_forbids_debts) AS d (e, forbids) WHERE d.forbids AND e_owed[d.e] > 0
        ) AND NOT EXISTS (SELECT FROM unnest(l_account) AS k (a) WHERE a_kind[k.a] = 'RETURNS_RECEIVABLE');
    END IF;
    IF is_sound THEN
        SELECT array_agg(e_sequence[u.e] + u.number ORDER BY u.i) INTO sequence
        FROM (
            SELECT w.e, w.i, row_number() OVER (PARTITION BY w.e ORDER BY w.i) AS number
            FROM unnest(j_escrow) WITH ORDINALITY AS w (e, i)
        ) u;
    ELSE
        SELECT array_agg(x.sequence ORDER BY u.i), array_agg(x.escrow_account_id ORDER BY u.i),
               array_agg(x.fingerprint <> u.fingerprint OR x.escrow_account_id <> e_id[u.e] ORDER BY u.i)
        INTO j_duplicate, j_place, j_other
        FROM unnest(j_escrow, j_key, j_fingerprint) WITH ORDINALITY AS u (e, key, fingerprint, i)
        LEFT JOIN LATERAL (
            SELECT j.sequence, j.fingerprint, a.escrow_account_id
            FROM journal_entries j JOIN escrow_accounts a ON a.escrow_no = j.escrow_no
            WHERE j.org_id = e_org[u.e] AND j.request_key = u.key
            OFFSET 0
        ) x ON true;

        SELECT array_agg(CASE WHEN x.other THEN 'key_reused' ELSE x.verdict END ORDER BY u.i),
               array_agg(coalesce(NOT x.other, false) ORDER BY u.i), array_agg(x.subject ORDER BY u.i),
               array_agg(x.kind ORDER BY u.i), array_agg(x.party_id ORDER BY u.i),
               array_agg(x.available ORDER BY u.i), array_agg(x.requested ORDER BY u.i)
        INTO verdict, replayed, subject, kind, party_id, available, requested
        FROM unnest(j_escrow, j_key, j_fingerprint, j_refusal_seal) WITH ORDINALITY AS u (e, key, fingerprint, seal, i)
        LEFT JOIN LATERAL (
            SELECT f.fingerprint <> u.fingerprint AS other, f.verdict, f.subject, f.kind, f.party_id, f.available,
                   f.requested
            FROM refused_postings f
            WHERE f.org_id = e_org[u.e] AND f.request_key = u.key AND f.seal = u.seal
            OFFSET 0
        ) x ON j_duplicate[u.i] IS NULL;

        SELECT array_agg(CASE WHEN u.id IS NULL THEN NULL WHEN x.sequence IS NULL THEN 'reversal_not_found'
                   WHEN y.sequence IS NOT NULL THEN 'already_reversed' END ORDER BY u.i),
               array_agg(y.sequence ORDER BY u.i)
        INTO j_reversal, j_reversed_by
        FROM unnest(j_escrow, j_reverses) WITH ORDINALITY AS u (e, id, i)
        LEFT JOIN journal_entries x
            ON x.org_id = e_org[u.e] AND x.escrow_no = e_no[u.e] AND x.journal_entry_id = u.id
        LEFT JOIN journal_entries y
            ON y.org_id = e_org[u.e] AND y.escrow_no = e_no[u.e] AND y.reverses_journal_entry_id = u.id;

        SELECT * INTO r FROM judge_journal_entries(
            e_id, e_status, currency, e_sequence, e_free, e_owed,
            a_escrow, a_kind, a_party, a_debit_normal, a_overdrawable, a_posted, a_pending, a_held, a_sequence,
            j_escrow, j_first, j_fingerprint, j_currency, j_reverses, j_is_of_rails, j_legs, j_owing, j_forbids_debts,
            j_owed, j_owed_at, j_owed_until, j_duplicate, j_place, j_other, j_reversal, j_reversed_by,
            l_account, l_debit, l_pending, l_amount,
            verdict, replayed, subject, kind, party_id, available, requested
        );
        verdict := r.verdict; replayed := r.replayed; sequence := r.sequence; subject := r.subject;
        kind := r.kind; party_id := r.party_id; available := r.available; requested := r.requested;
        leg_sequence := r.leg_sequence; leg_balance := r.leg_balance;
        l_entry := r.l_entry; l_posted := r.l_posted; l_pending_after := r.l_pending_after;
    END IF;

    IF array_position(a_no, NULL) IS NOT NULL THEN
        FOR r IN
            WITH opened AS (
                INSERT INTO ledger_accounts AS x (
                    org_id, escrow_account_id, escrow_no, kind, party_id, of_party, normal_balance, may_be_overdrawn
                )
                SELECT e_org[a_escrow[u.a]], e_id[a_escrow[u.a]], e_no[a_escrow[u.a]], a_kind[u.a], a_party[u.a],
                       a_party[u.a] <> '', CASE WHEN a_debit_normal[u.a] THEN 'DEBIT' ELSE 'CREDIT' END,
                       a_overdrawable[u.a]
                FROM (SELECT DISTINCT k.a FROM unnest(l_account, l_entry) AS k (a, entry) WHERE k.entry IS NOT NULL) u
                WHERE a_no[u.a] IS NULL
                RETURNING x.account_no, x.escrow_no, x.kind, x.party_id
            )
            SELECT u.i, o.account_no
            FROM unnest(a_escrow, a_kind, a_party) WITH ORDINALITY AS u (e, kind, party_id, i)
            JOIN opened o ON o.escrow_no = e_no[u.e] AND o.kind = u.kind AND o.party_id = u.party_id
        LOOP
            a_no[r.i] := r.account_no;
        END LOOP;
    END IF;
    UPDATE ledger_accounts x
    SET debits_posted = x.debits_posted + d.debits_posted, credits_posted = x.credits_posted + d.credits_posted,
        debits_pending = x.debits_pending + d.debits_pending, credits_pending = x.credits_pending + d.credits_pending,
        entry_sequence = x.entry_sequence + d.legs
    FROM (
        SELECT k.a, count(*) AS legs,
               coalesce(sum(k.amount) FILTER (WHERE k.debit AND NOT k.pending), 0) AS debits_posted,
               coalesce(sum(k.amount) FILTER (WHERE NOT k.debit AND NOT k.pending), 0) AS credits_posted,
               coalesce(sum(k.amount) FILTER (WHERE k.debit AND k.pending), 0) AS debits_pending,
               coalesce(sum(k.amount) FILTER (WHERE NOT k.debit AND k.pending), 0) AS credits_pending
        FROM unnest(l_account, l_debit, l_pending, l_amount, l_entry) AS k (a, debit, pending, amount, entry)
        WHERE k.entry IS NOT NULL
        GROUP BY k.a
    ) d
    WHERE x.account_no = a_no[d.a];
    UPDATE escrow_accounts x
    SET entry_sequence = d.last, booked_at = post_journal_entries.booked_at[d.e]
    FROM (
        SELECT u.e, max(u.number) AS last FROM unnest(j_escrow, sequence, verdict) AS u (e, number, verdict)
        WHERE coalesce(u.verdict, 'posted') = 'posted'
        GROUP BY u.e
    ) d
    WHERE x.escrow_no = e_no[d.e];

    WITH entries AS (
        INSERT INTO journal_entries (
            escrow_no, sequence, effective_at, created_at, leg_count, request_key, org_id, journal_entry_id,
            fingerprint, seal, type, description, created_by, transaction_id, investment_id, distribution_id,
            reverses_journal_entry_id, external_id, metadata
        )
        SELECT e_no[u.e], u.number, least(u.effective, post_journal_entries.booked_at[u.e]),
               post_journal_entries.booked_at[u.e], u.legs, u.key, e_org[u.e], u.id,
               u.fingerprint, u.seal, u.type, u.description, u.created_by, u.transaction, u.investment, u.distribution,
               u.reverses, u.external, u.metadata
        FROM unnest(
            j_escrow, sequence, j_effective, j_legs, j_key, j_id, j_fingerprint, j_seal, j_type, j_description,
            j_created_by, j_transaction, j_investment, j_distribution, j_reverses, j_external, j_metadata, verdict
        ) AS u (
            e, number, effective, legs, key, id, fingerprint, seal, type, description,
            created_by, transaction, investment, distribution, reverses, external, metadata, verdict
        )
        WHERE coalesce(u.verdict, 'posted') = 'posted'
    )
    INSERT INTO ledger_entries (
        account_no, sequence, escrow_no, journal_sequence, amount_minor, posted_after, pending_after, effective_at,
        created_at, leg, debit, pending, org_id
    )
    SELECT a_no[u.a], u.number, e_no[a_escrow[u.a]], sequence[u.entry], u.amount, u.posted, u.pending_after,
           least(j_effective[u.entry], booked_at[a_escrow[u.a]]), booked_at[a_escrow[u.a]], u.leg, u.debit, u.pending,
           e_org[a_escrow[u.a]]
    FROM unnest(l_account, l_debit, l_pending, l_amount, l_entry, l_number, leg_sequence, l_posted, l_pending_after)
        AS u (a, debit, pending, amount, entry, leg, number, posted, pending_after)
    WHERE u.entry IS NOT NULL;

    IF verdict IS NOT NULL THEN
        INSERT INTO refused_postings (
            org_id, request_key, seal, fingerprint, verdict, subject, kind, party_id, available, requested
        )
        SELECT e_org[u.e], u.key, u.seal, u.fingerprint, u.verdict, u.subject, u.kind, u.party_id, u.available,
               u.requested
        FROM unnest(
            j_escrow, j_key, j_refusal_seal, j_fingerprint, verdict, subject, kind, party_id, available, requested,
            replayed
        ) AS u (e, key, seal, fingerprint, verdict, subject, kind, party_id, available, requested, replayed)
        WHERE NOT u.replayed AND u.verdict IN (
            'closed', 'frozen', 'currency_mismatch', 'already_reversed', 'unbalanced', 'insufficient', 'owing',
            'owing_at_source'
        );
    END IF;
END $$;
