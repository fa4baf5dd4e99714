-- The one way into the book. Takes a batch and decides each entry by itself, in the order given, as if they had come
-- one after another; then writes what was accepted, set-based.
--
-- Distinct escrow accounts (e_), the distinct ledger accounts used in them (a_), the entries (j_) and their legs (l_);
-- they refer to one another by position. `j_seal` is what the service seals each entry with, which no function can check:
-- whoever has a login may call this one. posting/checks.py asks for it. `j_refusal_seal` is what a refusal of the entry is
-- kept with: one that is kept with another seal was not the answer to a request of the service, and is not looked at.
-- j_first is the first entry of the batch with the same organization and key.
-- For each entry: `verdict`, what the verdict is about, and `replayed`: an earlier request with its key was given it.
--   posted                     sequence, booked_at, subject = the currency; leg_sequence and leg_balance of its legs
--   duplicate | key_reused     this request, or another one, has the key: sequence of its entry, and subject = the escrow
--                              account of that; none where it was refused
--   not_found | frozen | closed
--   currency_mismatch          subject = the escrow account's currency
--   unbalanced                 subject = the currency; available = debits, requested = credits of the layer that differs
--   reversal_not_found         subject = the entry to reverse
--   already_reversed           the same; sequence of its reversal, none where that is of this batch
--   too_large                  kind, party_id = the ledger account whose balance would leave its bounds
--   insufficient               subject = the currency; kind, party_id = the ledger account, available, requested;
--                              sequence = the number of the last entry there is
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
    j_when_frozen boolean[], j_legs int[],
    l_account int[], l_debit boolean[], l_pending boolean[], l_amount bigint[], j_seal bytea[],
    j_refusal_seal bytea[],
    OUT verdict text[], OUT replayed boolean[], OUT sequence bigint[], OUT booked_at timestamptz[], OUT subject text[],
    OUT kind text[], OUT party_id text[], OUT available bigint[], OUT requested bigint[], OUT leg_sequence bigint[], OUT leg_balance bigint[]
) LANGUAGE plpgsql SECURITY DEFINER
-- Plans must not depend on how full the tables were when they were made.
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    bound CONSTANT bigint := 4611686018427387903;
    decisions CONSTANT text[] := ARRAY[
        'closed', 'frozen', 'currency_mismatch', 'already_reversed', 'unbalanced', 'insufficient'
    ];
    n int := coalesce(cardinality(j_id), 0);
    n_accounts int := coalesce(cardinality(a_kind), 0);
    n_legs int := coalesce(cardinality(l_account), 0);
    -- Escrow accounts.
    e_status text[] := array_fill(NULL::text, ARRAY[cardinality(e_id)]);
    e_currency text[] := array_fill(NULL::text, ARRAY[cardinality(e_id)]);
    e_sequence bigint[] := array_fill(0::bigint, ARRAY[cardinality(e_id)]);
    e_booked timestamptz[] := array_fill(p_now, ARRAY[cardinality(e_id)]);
    -- Ledger accounts, balances on their normal side.
    a_debit_normal boolean[];
    a_overdrawable boolean[];
    a_known boolean[] := array_fill(false, ARRAY[n_accounts]);
    a_posted bigint[] := array_fill(0::bigint, ARRAY[n_accounts]);
    a_pending bigint[] := array_fill(0::bigint, ARRAY[n_accounts]);
    a_held bigint[] := array_fill(0::bigint, ARRAY[n_accounts]);
    a_sequence bigint[] := array_fill(0::bigint, ARRAY[n_accounts]);
    a_counters numeric[] := array_fill(0::numeric, ARRAY[n_accounts, 4]);
    -- Entries and legs.
    j_duplicate bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    j_other boolean[] := array_fill(false, ARRAY[n]);
    j_place text[] := array_fill(NULL::text, ARRAY[n]);
    -- For the first entry of the batch with a key: the one that was decided under it.
    j_decided int[] := array_fill(NULL::int, ARRAY[n]);
    j_reversal text[] := array_fill(NULL::text, ARRAY[n]);
    j_reversed_by bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    l_entry int[] := array_fill(NULL::int, ARRAY[n_legs]);
    l_number int[] := array_fill(NULL::int, ARRAY[n_legs]);
    l_posted bigint[] := array_fill(NULL::bigint, ARRAY[n_legs]);
    l_pending_after bigint[] := array_fill(NULL::bigint, ARRAY[n_legs]);
    reversed text[] := '{}';
    any_refused boolean := false;
    r record;
    result text;
    e int;
    a int;
    first int;
    last int := 0;
    signed bigint;
    debits bigint;
    credits bigint;
    pending_debits bigint;
    pending_credits bigint;
BEGIN
    PERFORM realco_check_time(p_now);
    -- They refer to one another by position, so each begins at 1 and has one for each: else a name would be read at one
    -- place and written at another.
    IF EXISTS (
        SELECT FROM (VALUES
            (cardinality(e_id), ARRAY[array_dims(e_org), array_dims(e_id)]),
            (n_accounts, ARRAY[array_dims(a_escrow), array_dims(a_kind), array_dims(a_party)]),
            (n, ARRAY[
                array_dims(j_escrow), array_dims(j_first), array_dims(j_key), array_dims(j_fingerprint),
                array_dims(j_id), array_dims(j_type), array_dims(j_description), array_dims(j_effective),
                array_dims(j_currency), array_dims(j_transaction), array_dims(j_investment),
                array_dims(j_distribution), array_dims(j_reverses), array_dims(j_created_by),
                array_dims(j_external), array_dims(j_metadata), array_dims(j_when_frozen), array_dims(j_legs),
                array_dims(j_seal), array_dims(j_refusal_seal)
            ]),
            (n_legs, ARRAY[array_dims(l_account), array_dims(l_debit), array_dims(l_pending), array_dims(l_amount)])
        ) AS given (count, dims)
        CROSS JOIN LATERAL unnest(dims) AS of (dim)
        WHERE dim IS DISTINCT FROM CASE WHEN count > 0 THEN '[1:' || count || ']' END
    ) THEN
        RAISE EXCEPTION 'the lists do not refer to one another by position' USING ERRCODE = '23514';
    END IF;
    verdict := array_fill(NULL::text, ARRAY[n]);
    replayed := array_fill(false, ARRAY[n]);
    sequence := array_fill(NULL::bigint, ARRAY[n]);
    booked_at := array_fill(NULL::timestamptz, ARRAY[n]);
    subject := array_fill(NULL::text, ARRAY[n]);
    kind := array_fill(NULL::text, ARRAY[n]);
    party_id := array_fill(NULL::text, ARRAY[n]);
    available := array_fill(NULL::bigint, ARRAY[n]);
    requested := array_fill(NULL::bigint, ARRAY[n]);
    leg_sequence := array_fill(NULL::bigint, ARRAY[n_legs]);
    leg_balance := array_fill(NULL::bigint, ARRAY[n_legs]);

    FOR r IN
        SELECT u.i, x.status, x.currency, x.entry_sequence, x.booked_at
        FROM unnest(e_org, e_id) WITH ORDINALITY AS u (org, id, i)
        JOIN escrow_accounts x ON x.org_id = u.org AND x.escrow_account_id = u.id
        ORDER BY x.org_id, x.escrow_account_id
        FOR NO KEY UPDATE OF x
    LOOP
        e_status[r.i] := r.status;
        e_currency[r.i] := r.currency;
        e_sequence[r.i] := r.entry_sequence;
        e_booked[r.i] := greatest(r.booked_at, p_now);
    END LOOP;

    SELECT array_agg(k.normal_balance = 'DEBIT' ORDER BY u.i), array_agg(k.may_be_overdrawn ORDER BY u.i)
    INTO a_debit_normal, a_overdrawable
    FROM unnest(a_kind) WITH ORDINALITY AS u (kind, i)
    LEFT JOIN ledger_account_kinds k ON k.kind = u.kind;
    FOR r IN
        SELECT u.i, x.*
        FROM unnest(a_escrow, a_kind, a_party) WITH ORDINALITY AS u (e, kind, party_id, i)
        CROSS JOIN LATERAL (
            SELECT l.debits_posted, l.credits_posted, l.debits_pending, l.credits_pending, l.held, l.entry_sequence
            FROM ledger_accounts l
            WHERE l.org_id = e_org[u.e] AND l.escrow_account_id = e_id[u.e]
              AND l.kind = u.kind AND l.party_id = u.party_id
            OFFSET 0
        ) x
    LOOP
        IF a_debit_normal[r.i] THEN
            a_posted[r.i] := r.debits_posted - r.credits_posted;
            a_pending[r.i] := r.debits_pending - r.credits_pending;
        ELSE
            a_posted[r.i] := r.credits_posted - r.debits_posted;
            a_pending[r.i] := r.credits_pending - r.debits_pending;
        END IF;
        a_known[r.i] := true;
        a_held[r.i] := r.held;
        a_sequence[r.i] := r.entry_sequence;
        a_counters[r.i][1] := r.debits_posted;
        a_counters[r.i][2] := r.credits_posted;
        a_counters[r.i][3] := r.debits_pending;
        a_counters[r.i][4] := r.credits_pending;
    END LOOP;

    FOR r IN
        SELECT u.i, x.sequence AS found, x.escrow_account_id AS place,
               x.fingerprint <> u.fingerprint OR x.escrow_account_id <> e_id[u.e] AS other
        FROM unnest(j_escrow, j_key, j_fingerprint) WITH ORDINALITY AS u (e, key, fingerprint, i)
        CROSS JOIN LATERAL (
            SELECT j.sequence, j.fingerprint, j.escrow_account_id
            FROM journal_entries j
            WHERE j.org_id = e_org[u.e] AND j.request_key = u.key
            OFFSET 0
        ) x
    LOOP
        j_duplicate[r.i] := r.found;
        j_other[r.i] := r.other;
        j_place[r.i] := r.place;
    END LOOP;

    FOR r IN
        SELECT u.i, x.*, x.fingerprint <> u.fingerprint AS other
        FROM unnest(j_escrow, j_key, j_fingerprint, j_refusal_seal) WITH ORDINALITY AS u (e, key, fingerprint, seal, i)
        CROSS JOIN LATERAL (
            SELECT f.fingerprint, f.verdict, f.subject, f.kind, f.party_id, f.available, f.requested
            FROM refused_postings f
            WHERE f.org_id = e_org[u.e] AND f.request_key = u.key AND f.seal = u.seal
            OFFSET 0
        ) x
        WHERE j_duplicate[u.i] IS NULL
    LOOP
        replayed[r.i] := NOT r.other;
        verdict[r.i] := CASE WHEN r.other THEN 'key_reused' ELSE r.verdict END;
        subject[r.i] := r.subject;
        kind[r.i] := r.kind;
        party_id[r.i] := r.party_id;
        available[r.i] := r.available;
        requested[r.i] := r.requested;
    END LOOP;

    IF array_length(array_remove(j_reverses, NULL), 1) > 0 THEN
        FOR r IN
            SELECT u.i, EXISTS (
                SELECT FROM journal_entries j
                WHERE j.org_id = e_org[u.e] AND j.escrow_account_id = e_id[u.e] AND j.journal_entry_id = u.id
            ) AS is_there, (
                SELECT j.sequence FROM journal_entries j
                WHERE j.org_id = e_org[u.e] AND j.escrow_account_id = e_id[u.e] AND j.reverses_journal_entry_id = u.id
            ) AS reversed_by
            FROM unnest(j_escrow, j_reverses) WITH ORDINALITY AS u (e, id, i)
            WHERE u.id IS NOT NULL
        LOOP
            j_reversed_by[r.i] := r.reversed_by;
            j_reversal[r.i] := CASE
                WHEN NOT r.is_there THEN 'reversal_not_found'
                WHEN r.reversed_by IS NOT NULL THEN 'already_reversed' END;
        END LOOP;
    END IF;

    FOR i IN 1..n LOOP
        e := j_escrow[i];
        first := last + 1;
        last := last + j_legs[i];
        result := NULL;

        IF j_duplicate[i] IS NOT NULL THEN
            verdict[i] := CASE WHEN j_other[i] THEN 'key_reused' ELSE 'duplicate' END;
            replayed[i] := NOT j_other[i];
            sequence[i] := j_duplicate[i];
            subject[i] := j_place[i];
            CONTINUE;
        END IF;
        IF verdict[i] IS NOT NULL THEN
            CONTINUE;
        END IF;
        IF j_decided[j_first[i]] IS NOT NULL THEN
            a := j_decided[j_first[i]];
            replayed[i] := j_fingerprint[a] = j_fingerprint[i] AND j_escrow[a] = e;
            verdict[i] := CASE
                WHEN NOT replayed[i] THEN 'key_reused'
                WHEN verdict[a] = 'posted' THEN 'duplicate' ELSE verdict[a] END;
            sequence[i] := CASE WHEN verdict[a] = 'posted' THEN sequence[a] END;
            subject[i] := CASE WHEN verdict[a] = 'posted' THEN e_id[j_escrow[a]] ELSE subject[a] END;
            kind[i] := kind[a];
            party_id[i] := party_id[a];
            available[i] := available[a];
            requested[i] := requested[a];
            CONTINUE;
        END IF;

        result := CASE
            WHEN e_status[e] IS NULL THEN 'not_found'
            WHEN e_status[e] = 'CLOSED' THEN 'closed'
            WHEN e_status[e] = 'FROZEN' AND NOT j_when_frozen[i] THEN 'frozen'
            WHEN j_currency[i] <> e_currency[e] THEN 'currency_mismatch' END;
        subject[i] := e_currency[e];
        IF result IS NULL AND j_reverses[i] IS NOT NULL THEN
            result := coalesce(j_reversal[i], CASE WHEN j_reverses[i] = ANY (reversed) THEN 'already_reversed' END);
            IF result IS NOT NULL THEN
                subject[i] := j_reverses[i];
                sequence[i] := j_reversed_by[i];
            END IF;
        END IF;
        IF result IS NOT NULL THEN
            verdict[i] := result;
            IF result = ANY (decisions) THEN
                j_decided[j_first[i]] := i;
                any_refused := true;
            END IF;
            CONTINUE;
        END IF;

        debits := 0;
        credits := 0;
        pending_debits := 0;
        pending_credits := 0;
        FOR k IN first..last LOOP
            a := l_account[k];
            IF a_escrow[a] <> e THEN
                RAISE EXCEPTION 'a leg is on a ledger account of another escrow account' USING ERRCODE = '23514';
            END IF;
            signed := CASE WHEN l_debit[k] = a_debit_normal[a] THEN l_amount[k] ELSE -l_amount[k] END;
            IF l_pending[k] THEN
                IF l_debit[k] THEN
                    pending_debits := pending_debits + l_amount[k];
                ELSE
                    pending_credits := pending_credits + l_amount[k];
                END IF;
                a_pending[a] := a_pending[a] + signed;
                leg_balance[k] := a_pending[a];
            ELSE
                IF l_debit[k] THEN
                    debits := debits + l_amount[k];
                ELSE
                    credits := credits + l_amount[k];
                END IF;
                a_posted[a] := a_posted[a] + signed;
                leg_balance[k] := a_posted[a];
            END IF;
            a_sequence[a] := a_sequence[a] + 1;
            leg_sequence[k] := a_sequence[a];
            l_posted[k] := a_posted[a];
            l_pending_after[k] := a_pending[a];
        END LOOP;

        IF debits <> credits OR pending_debits <> pending_credits THEN
            result := 'unbalanced';
            available[i] := CASE WHEN debits <> credits THEN debits ELSE pending_debits END;
            requested[i] := CASE WHEN debits <> credits THEN credits ELSE pending_credits END;
        ELSE
            -- The entry is judged as a whole: between its legs a balance may be anything.
            FOR k IN first..last LOOP
                a := l_account[k];
                IF abs(a_posted[a]) > bound OR abs(a_pending[a]) > bound THEN
                    result := 'too_large';
                    kind[i] := a_kind[a];
                    party_id[i] := a_party[a];
                    EXIT;
                ELSIF NOT a_overdrawable[a] AND (a_posted[a] < a_held[a] OR a_pending[a] < 0) THEN
                    result := 'insufficient';
                    sequence[i] := e_sequence[e];
                    kind[i] := a_kind[a];
                    party_id[i] := a_party[a];
                    SELECT coalesce(sum(CASE WHEN l_debit[m] = a_debit_normal[a] THEN -l_amount[m] ELSE l_amount[m] END)
                               FILTER (WHERE l_pending[m] = (a_posted[a] >= a_held[a])), 0)
                    INTO signed FROM generate_series(first, last) m WHERE l_account[m] = a;
                    requested[i] := signed;
                    available[i] := signed + CASE
                        WHEN a_posted[a] < a_held[a] THEN a_posted[a] - a_held[a] ELSE a_pending[a] END;
                    EXIT;
                END IF;
            END LOOP;
        END IF;

        IF result IS NOT NULL THEN
            verdict[i] := result;
            IF result = ANY (decisions) THEN
                j_decided[j_first[i]] := i;
                any_refused := true;
            END IF;
            FOR k IN first..last LOOP
                a := l_account[k];
                signed := CASE WHEN l_debit[k] = a_debit_normal[a] THEN l_amount[k] ELSE -l_amount[k] END;
                IF l_pending[k] THEN
                    a_pending[a] := a_pending[a] - signed;
                ELSE
                    a_posted[a] := a_posted[a] - signed;
                END IF;
                a_sequence[a] := a_sequence[a] - 1;
                leg_sequence[k] := NULL;
                leg_balance[k] := NULL;
            END LOOP;
            CONTINUE;
        END IF;

        verdict[i] := 'posted';
        e_sequence[e] := e_sequence[e] + 1;
        sequence[i] := e_sequence[e];
        booked_at[i] := e_booked[e];
        subject[i] := e_currency[e];
        j_effective[i] := least(coalesce(j_effective[i], e_booked[e]), e_booked[e]);
        j_decided[j_first[i]] := i;
        IF j_reverses[i] IS NOT NULL THEN
            reversed := reversed || j_reverses[i];
        END IF;
        FOR k IN first..last LOOP
            a := l_account[k];
            l_entry[k] := i;
            l_number[k] := k - first + 1;
            IF l_pending[k] THEN
                IF l_debit[k] THEN
                    a_counters[a][3] := a_counters[a][3] + l_amount[k];
                ELSE
                    a_counters[a][4] := a_counters[a][4] + l_amount[k];
                END IF;
            ELSIF l_debit[k] THEN
                a_counters[a][1] := a_counters[a][1] + l_amount[k];
            ELSE
                a_counters[a][2] := a_counters[a][2] + l_amount[k];
            END IF;
        END LOOP;
    END LOOP;

    UPDATE ledger_accounts x
    SET debits_posted = a_counters[used.i][1], credits_posted = a_counters[used.i][2],
        debits_pending = a_counters[used.i][3], credits_pending = a_counters[used.i][4],
        entry_sequence = a_sequence[used.i]
    FROM (SELECT DISTINCT k.i FROM unnest(l_account, l_entry) AS k (i, entry) WHERE k.entry IS NOT NULL) used
    WHERE a_known[used.i] AND x.org_id = e_org[a_escrow[used.i]] AND x.escrow_account_id = e_id[a_escrow[used.i]]
      AND x.kind = a_kind[used.i] AND x.party_id = a_party[used.i];
    IF false = ANY (a_known) THEN
        INSERT INTO ledger_accounts (
            org_id, escrow_account_id, kind, party_id, of_party, normal_balance, may_be_overdrawn, debits_posted,
            credits_posted, debits_pending, credits_pending, entry_sequence
        )
        SELECT e_org[a_escrow[used.i]], e_id[a_escrow[used.i]], a_kind[used.i], a_party[used.i], a_party[used.i] <> '',
               CASE WHEN a_debit_normal[used.i] THEN 'DEBIT' ELSE 'CREDIT' END, a_overdrawable[used.i],
               a_counters[used.i][1], a_counters[used.i][2], a_counters[used.i][3], a_counters[used.i][4],
               a_sequence[used.i]
        FROM (SELECT DISTINCT k.i FROM unnest(l_account, l_entry) AS k (i, entry) WHERE k.entry IS NOT NULL) used
        WHERE NOT a_known[used.i];
    END IF;

    UPDATE escrow_accounts x
    SET entry_sequence = e_sequence[u.i], booked_at = e_booked[u.i]
    FROM unnest(e_org, e_id) WITH ORDINALITY AS u (org, id, i)
    WHERE x.org_id = u.org AND x.escrow_account_id = u.id AND x.entry_sequence < e_sequence[u.i];

    WITH entries AS (
        INSERT INTO journal_entries (
            org_id, escrow_account_id, sequence, journal_entry_id, request_key, fingerprint, type, description,
            leg_count, effective_at, created_at, transaction_id, investment_id, distribution_id,
            reverses_journal_entry_id, created_by, external_id, metadata, seal
        )
        SELECT e_org[u.e], e_id[u.e], u.sequence, u.id, u.key, u.fingerprint, u.type, u.description, u.legs,
               u.effective, u.booked, u.transaction, u.investment, u.distribution, u.reverses, u.created_by, u.external,
               u.metadata, u.seal
        FROM unnest(
            j_escrow, sequence, j_id, j_key, j_fingerprint, j_type, j_description, j_legs, j_effective, booked_at,
            j_transaction, j_investment, j_distribution, j_reverses, j_created_by, j_external, j_metadata, j_seal,
            verdict
        ) AS u (
            e, sequence, id, key, fingerprint, type, description, legs, effective, booked,
            transaction, investment, distribution, reverses, created_by, external, metadata, seal, verdict
        )
        WHERE u.verdict = 'posted'
    )
    INSERT INTO ledger_entries (
        org_id, escrow_account_id, kind, party_id, sequence, journal_sequence, leg, direction, layer, amount_minor,
        posted_after, pending_after, effective_at, created_at
    )
    SELECT e_org[a_escrow[u.a]], e_id[a_escrow[u.a]], a_kind[u.a], a_party[u.a], u.sequence,
           post_journal_entries.sequence[u.entry], u.number,
           CASE WHEN u.debit THEN 'DEBIT' ELSE 'CREDIT' END, CASE WHEN u.pending THEN 'PENDING' ELSE 'POSTED' END,
           u.amount, u.posted, u.pending_after, j_effective[u.entry], booked_at[u.entry]
    FROM unnest(l_account, l_debit, l_pending, l_amount, l_entry, l_number, leg_sequence, l_posted, l_pending_after)
        AS u (a, debit, pending, amount, entry, number, sequence, posted, pending_after)
    WHERE u.entry IS NOT NULL;

    IF any_refused THEN
        INSERT INTO refused_postings (
            org_id, request_key, seal, fingerprint, verdict, subject, kind, party_id, available, requested
        )
        SELECT e_org[u.e], u.key, u.seal, u.fingerprint, u.verdict, u.subject, u.kind, u.party_id, u.available,
               u.requested
        FROM unnest(
            j_escrow, j_key, j_refusal_seal, j_fingerprint, verdict, subject, kind, party_id, available, requested,
            replayed
        ) AS u (e, key, seal, fingerprint, verdict, subject, kind, party_id, available, requested, replayed)
        WHERE u.verdict = ANY (decisions) AND NOT u.replayed;
    END IF;
END $$;
