-- Takes away an escrow account that the service did not open, with all that was booked there: for an operator, as the
-- owner of the tables, with triggers off. It runs with the rights of who calls it, and no login of the service may.
-- p_entries is how many journal entries it has: whoever names another account by mistake removes nothing.
CREATE OR REPLACE FUNCTION remove_escrow_account(p_org text, p_escrow_account text, p_entries bigint)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    number bigint;
BEGIN
    PERFORM set_config('app.org_id', p_org, true);
    SELECT x.escrow_no INTO number FROM escrow_accounts x
    WHERE x.org_id = p_org AND x.escrow_account_id = p_escrow_account AND x.entry_sequence = p_entries FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such escrow account with so many journal entries' USING ERRCODE = 'P0002';
    END IF;
    DELETE FROM holds h WHERE h.org_id = p_org AND h.escrow_account_id = p_escrow_account;
    DELETE FROM ledger_entries l WHERE l.escrow_no = number;
    DELETE FROM journal_entries j WHERE j.escrow_no = number;
    DELETE FROM book_checks c WHERE c.org_id = p_org AND c.escrow_account_id = p_escrow_account;
    DELETE FROM ledger_accounts l WHERE l.escrow_no = number;
    DELETE FROM escrow_accounts x WHERE x.escrow_no = number;
END $$;
