-- Keeps, under the key of an entry, that nothing is booked under it any more; unless something was: then it changes
-- nothing. The row of the escrow account is locked first, as by every posting, so of the two one comes first. The seal is
-- as `j_refusal_seal` of post_journal_entries, which answers `given_up` from then on.
CREATE OR REPLACE FUNCTION give_up_posting(
    p_org text, p_escrow_account text, p_key uuid, p_fingerprint bytea, p_refusal_seal bytea
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    PERFORM FROM escrow_accounts x WHERE x.org_id = p_org AND x.escrow_account_id = p_escrow_account FOR NO KEY UPDATE;
    INSERT INTO refused_postings (org_id, request_key, seal, fingerprint, verdict)
    SELECT p_org, p_key, p_refusal_seal, p_fingerprint, 'given_up'
    WHERE NOT EXISTS (SELECT FROM journal_entries j WHERE j.org_id = p_org AND j.request_key = p_key)
    ON CONFLICT DO NOTHING;
END $$;
