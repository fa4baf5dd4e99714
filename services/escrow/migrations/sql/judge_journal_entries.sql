-- Decides the entries of a batch one after another, from what post_journal_entries read: lists, verdicts and balances
-- mean what they mean there. It reads no table and writes none.
CREATE OR REPLACE FUNCTION judge_journal_entries(
    e_id text[], e_status text[], e_currency text[], e_sequence bigint[], e_free bigint[], e_owed bigint[],
    a_escrow int[], a_kind text[], a_party text[], a_debit_normal boolean[], a_overdrawable boolean[],
    a_posted bigint[], a_pending bigint[], a_held bigint[], a_sequence bigint[],
    j_escrow int[], j_first int[], j_fingerprint bytea[], j_currency text[], j_reverses text[],
    j_is_of_rails boolean[], j_legs int[], j_owing int[], j_forbids_debts boolean[], j_owed bigint[],
    j_owed_at text[], j_owed_until bigint[], j_duplicate bigint[], j_place text[], j_other boolean[],
    j_reversal text[], j_reversed_by bigint[],
    l_account int[], l_debit boolean[], l_pending boolean[], l_amount bigint[],
    INOUT verdict text[], INOUT replayed boolean[], INOUT subject text[], INOUT kind text[], INOUT party_id text[],
    INOUT available bigint[], INOUT requested bigint[], OUT sequence bigint[], OUT leg_sequence bigint[],
    OUT leg_balance bigint[], OUT l_entry int[], OUT l_posted bigint[], OUT l_pending_after bigint[]
) LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    bound CONSTANT bigint := 4611686018427387903;
    decisions CONSTANT text[] := ARRAY[
        'closed', 'frozen', 'currency_mismatch', 'already_reversed', 'unbalanced', 'insufficient', 'owing',
        'owing_at_source'
    ];
    n int := coalesce(cardinality(j_escrow), 0);
    n_legs int := coalesce(cardinality(l_account), 0);
    -- For the first entry of the batch with a key: the one that was decided under it.
    j_decided int[] := array_fill(NULL::int, ARRAY[n]);
    reversed text[] := '{}';
    result text;
    e int;
    a int;
    first int;
    last int := 0;
    signed bigint;
    debits bigint;
    credits bigint;
    to_cash bigint;  -- what the entry adds to CASH, less what it puts on its way out: on the credit side of IN_TRANSIT
    to_owed bigint;  -- what it adds to RETURNS_RECEIVABLE of all parties
    pending_debits bigint;
    pending_credits bigint;
BEGIN
    sequence := array_fill(NULL::bigint, ARRAY[n]);
    leg_sequence := array_fill(NULL::bigint, ARRAY[n_legs]);
    leg_balance := array_fill(NULL::bigint, ARRAY[n_legs]);
    l_entry := array_fill(NULL::int, ARRAY[n_legs]);
    l_posted := array_fill(NULL::bigint, ARRAY[n_legs]);
    l_pending_after := array_fill(NULL::bigint, ARRAY[n_legs]);
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
            WHEN e_status[e] = 'FROZEN' AND NOT j_is_of_rails[i] THEN 'frozen'
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
            END IF;
            CONTINUE;
        END IF;

        debits := 0;
        credits := 0;
        to_cash := 0;
        to_owed := 0;
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
                IF a_kind[a] = 'CASH' THEN
                    to_cash := to_cash + signed;
                ELSIF a_kind[a] = 'IN_TRANSIT' THEN
                    -- What goes out costs its whole amount, whatever rails seem to owe; what is taken back of it
                    -- gives as much as was on its way out.
                    to_cash := to_cash + CASE WHEN signed < 0 THEN signed
                        ELSE least(0, a_posted[a] + signed) - least(0, a_posted[a]) END;
                ELSIF a_kind[a] = 'RETURNS_RECEIVABLE' THEN
                    to_owed := to_owed + signed;
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
                    sequence[i] := e_sequence[e];
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
                ELSIF NOT j_is_of_rails[i] AND (
                    a_kind[a] = 'IN_TRANSIT' AND a_posted[a] > 0 OR a_kind[a] = 'CASH' AND a_posted[a] < 0
                ) THEN
                    -- Persons take back what is on its way out, and say of no money that rails owe it: it would pass
                    -- for cash, and be paid. And only banks take more cash than there is: what adds to it is booked.
                    SELECT coalesce(sum(CASE WHEN l_debit[m] THEN l_amount[m] ELSE -l_amount[m] END)
                               FILTER (WHERE NOT l_pending[m]), 0)
                    INTO signed FROM generate_series(first, last) m WHERE l_account[m] = a;
                    IF sign(signed) = sign(a_posted[a]) THEN
                        result := 'insufficient';
                        sequence[i] := e_sequence[e];
                        kind[i] := a_kind[a];
                        party_id[i] := a_party[a];
                        requested[i] := abs(signed);
                        available[i] := greatest(0, abs(signed) - abs(a_posted[a]));
                        EXIT;
                    END IF;
                END IF;
            END LOOP;
        END IF;
        IF result IS NULL AND j_forbids_debts[i] AND e_owed[e] + to_owed > 0 THEN
            result := 'owing';
            kind[i] := 'RETURNS_RECEIVABLE';
            party_id[i] := '';
            requested[i] := e_owed[e] + to_owed;
            available[i] := 0;
            sequence[i] := e_sequence[e];
        END IF;
        IF result IS NULL AND j_owing[i] > 0 THEN
            IF a_posted[j_owing[i]] > 0 THEN
                result := 'owing';
                kind[i] := a_kind[j_owing[i]];
                party_id[i] := a_party[j_owing[i]];
                requested[i] := a_posted[j_owing[i]];
                available[i] := 0;
            ELSIF j_owed[i] > 0 THEN
                result := 'owing_at_source';
                subject[i] := j_owed_at[i];
                kind[i] := a_kind[j_owing[i]];
                party_id[i] := a_party[j_owing[i]];
                requested[i] := j_owed[i];
                available[i] := 0;
            ELSIF e_free[e] + to_cash < 0 THEN
                result := 'insufficient';
                kind[i] := 'CASH';
                party_id[i] := '';
                requested[i] := -to_cash;
                available[i] := greatest(e_free[e], 0);
            END IF;
            sequence[i] := CASE
                WHEN result = 'owing_at_source' THEN j_owed_until[i] WHEN result IS NOT NULL THEN e_sequence[e] END;
        END IF;

        IF result IS NOT NULL THEN
            verdict[i] := result;
            IF result = ANY (decisions) THEN
                j_decided[j_first[i]] := i;
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
        e_free[e] := e_free[e] + to_cash;
        e_owed[e] := e_owed[e] + to_owed;
        sequence[i] := e_sequence[e];
        j_decided[j_first[i]] := i;
        IF j_reverses[i] IS NOT NULL THEN
            reversed := reversed || j_reverses[i];
        END IF;
        FOR k IN first..last LOOP
            l_entry[k] := i;
        END LOOP;
    END LOOP;
END $$;
