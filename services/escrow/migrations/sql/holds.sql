-- Holds and what they hold change together, here and nowhere else. The escrow account's row is locked first, as by
-- every posting. Each function answers with a verdict; only `done` changed anything. A hold comes with the digest of a
-- proof, and is ended, now or at a time, by whoever gives the proof: a login is not enough. Whoever has one can place a
-- hold as well, but without the seal that the service asks for wherever it reads one (data/seals.py).

-- On the credit side alone, as a CHECK of ledger_accounts says: what is owed to somebody is held.
-- placed: done | not_found | closed | currency_mismatch (subject) | taken (another has the id) | insufficient (available)
CREATE OR REPLACE FUNCTION place_hold(
    p_now timestamptz, p_org text, p_escrow_account text, p_hold text, p_kind text, p_party text, p_amount bigint,
    p_currency text, p_reason text, p_description text, p_transaction text, p_expires timestamptz, p_created_by text,
    p_external text, p_metadata jsonb, p_end_digest bytea, p_seal bytea, p_replaces text DEFAULT NULL,
    OUT verdict text, OUT subject text, OUT available bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    escrow escrow_accounts%ROWTYPE;
BEGIN
    PERFORM realco_check_time(p_now);
    SELECT * INTO escrow FROM escrow_accounts x
    WHERE x.org_id = p_org AND x.escrow_account_id = p_escrow_account FOR NO KEY UPDATE;
    verdict := CASE
        WHEN NOT FOUND THEN 'not_found'
        WHEN escrow.status = 'CLOSED' THEN 'closed'
        WHEN escrow.currency <> p_currency THEN 'currency_mismatch'
        WHEN EXISTS (
            SELECT FROM holds h
            WHERE h.org_id = p_org AND h.escrow_account_id = p_escrow_account AND h.hold_id = p_hold
        ) THEN 'taken' END;
    subject := escrow.currency;
    IF verdict IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT CASE l.normal_balance WHEN 'DEBIT' THEN l.debits_posted - l.credits_posted
           ELSE l.credits_posted - l.debits_posted END - l.held
    INTO available FROM ledger_accounts l
    WHERE l.org_id = p_org AND l.escrow_account_id = p_escrow_account AND l.kind = p_kind
      AND l.party_id = p_party;
    available := coalesce(available, 0);
    IF available < p_amount THEN
        verdict := 'insufficient';
        RETURN;
    END IF;
    UPDATE ledger_accounts l SET held = l.held + p_amount
    WHERE l.org_id = p_org AND l.escrow_account_id = p_escrow_account AND l.kind = p_kind
      AND l.party_id = p_party;
    INSERT INTO holds (
        org_id, escrow_account_id, hold_id, kind, party_id, amount_minor, reason, description, transaction_id,
        expires_at, external_id, metadata, created_at, created_by, end_digest, seal, replaces_hold_id
    ) VALUES (
        p_org, p_escrow_account, p_hold, p_kind, p_party, p_amount, p_reason, p_description, p_transaction,
        p_expires, p_external, p_metadata, p_now, p_created_by, p_end_digest, p_seal, p_replaces
    );
    verdict := 'done';
END $$;
----
-- Ends a hold once: done | not_found | frozen | not_open (subject = its status) | exceeds (available = its amount).
-- A capture, or a return that overrides the hold, frees what is held; the journal entry that moves p_moved of it follows
-- in the same transaction.
CREATE OR REPLACE FUNCTION resolve_hold(
    p_now timestamptz, p_org text, p_escrow_account text, p_hold text, p_status text, p_moved bigint,
    p_when_frozen boolean, p_resolved_by text, p_proof bytea, p_returned_transaction text DEFAULT NULL,
    OUT verdict text, OUT subject text, OUT available bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    escrow_status text;
    hold holds%ROWTYPE;
BEGIN
    PERFORM realco_check_time(p_now);
    SELECT x.status INTO escrow_status FROM escrow_accounts x
    WHERE x.org_id = p_org AND x.escrow_account_id = p_escrow_account FOR NO KEY UPDATE;
    SELECT * INTO hold FROM holds h
    WHERE h.org_id = p_org AND h.escrow_account_id = p_escrow_account AND h.hold_id = p_hold;
    subject := hold.status;
    available := hold.amount_minor;
    verdict := CASE
        WHEN hold.hold_id IS NULL THEN 'not_found'
        WHEN hold.status <> 'PLACED' THEN 'not_open'
        WHEN escrow_status = 'FROZEN' AND NOT p_when_frozen THEN 'frozen'
        WHEN p_moved > hold.amount_minor THEN 'exceeds' END;
    IF verdict IS NOT NULL THEN
        RETURN;
    END IF;
    IF sha256(p_proof) IS DISTINCT FROM substr(hold.end_digest, 5) THEN
        RAISE EXCEPTION 'a hold is ended with its proof' USING ERRCODE = '42501';
    END IF;
    UPDATE holds h SET status = p_status, captured_minor = CASE p_status WHEN 'OVERRIDDEN' THEN 0 ELSE p_moved END,
        overridden_minor = CASE p_status WHEN 'OVERRIDDEN' THEN p_moved ELSE 0 END,
        resolved_at = greatest(p_now, h.created_at), resolved_by = p_resolved_by, returned_transaction_id = p_returned_transaction
    WHERE h.org_id = p_org AND h.escrow_account_id = p_escrow_account AND h.hold_id = p_hold AND h.status = 'PLACED';
    UPDATE ledger_accounts l SET held = l.held - hold.amount_minor
    WHERE l.org_id = p_org AND l.escrow_account_id = p_escrow_account AND l.kind = hold.kind
      AND l.party_id = hold.party_id;
    verdict := 'done';
END $$;
----
-- Lets an open hold end by itself at a time; true if it is open.
CREATE OR REPLACE FUNCTION let_hold_expire(p_org text, p_escrow_account text, p_hold text, p_at timestamptz, p_proof bytea)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    UPDATE holds h SET expires_at = p_at
    WHERE h.org_id = p_org AND h.escrow_account_id = p_escrow_account AND h.hold_id = p_hold AND h.status = 'PLACED'
      AND sha256(p_proof) = substr(h.end_digest, 5);
    RETURN FOUND;
END $$;
----
-- Takes away a hold that the service did not place, and gives back what it held: for an operator, as the owner of the
-- tables, with triggers off. It runs with the rights of who calls it, and no login of the service may remove a hold.
CREATE OR REPLACE FUNCTION remove_hold(p_org text, p_escrow_account text, p_hold text)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    PERFORM set_config('app.org_id', p_org, true);
    PERFORM FROM escrow_accounts x
    WHERE x.org_id = p_org AND x.escrow_account_id = p_escrow_account FOR NO KEY UPDATE;
    WITH removed AS (
        DELETE FROM holds h
        WHERE h.org_id = p_org AND h.escrow_account_id = p_escrow_account AND h.hold_id = p_hold
        RETURNING h.kind, h.party_id, CASE h.status WHEN 'PLACED' THEN h.amount_minor ELSE 0 END AS held
    )
    UPDATE ledger_accounts l SET held = l.held - r.held FROM removed r
    WHERE l.org_id = p_org AND l.escrow_account_id = p_escrow_account AND l.kind = r.kind AND l.party_id = r.party_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such hold' USING ERRCODE = 'P0002';
    END IF;
END $$;
