-- A ledger as a database alone is often given: balances on accounts, transfers, and two entries each with what the
-- balance was and is. One call of create_transfer is one transfer.
CREATE TABLE accounts (
    account_id text PRIMARY KEY,
    balance bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE transfers (
    transfer_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    from_account_id text NOT NULL REFERENCES accounts,
    to_account_id text NOT NULL REFERENCES accounts,
    amount bigint NOT NULL CHECK (amount > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (from_account_id <> to_account_id)
);
CREATE INDEX ON transfers (from_account_id);
CREATE INDEX ON transfers (to_account_id);
CREATE TABLE entries (
    entry_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    transfer_id uuid NOT NULL REFERENCES transfers,
    account_id text NOT NULL REFERENCES accounts,
    amount bigint NOT NULL,
    balance_before bigint NOT NULL,
    balance_after bigint NOT NULL,
    account_version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON entries (transfer_id);
CREATE UNIQUE INDEX ON entries (account_id, account_version);

CREATE FUNCTION create_transfer(debtor text, creditor text, amount bigint) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    transfer uuid;
    changed accounts;
BEGIN
    PERFORM FROM accounts WHERE account_id IN (debtor, creditor) ORDER BY account_id FOR UPDATE;
    INSERT INTO transfers (from_account_id, to_account_id, amount) VALUES (debtor, creditor, create_transfer.amount)
    RETURNING transfer_id INTO transfer;
    UPDATE accounts SET balance = balance - create_transfer.amount, version = version + 1 WHERE account_id = debtor
    RETURNING * INTO changed;
    INSERT INTO entries (transfer_id, account_id, amount, balance_before, balance_after, account_version)
    VALUES (transfer, debtor, -create_transfer.amount, changed.balance + create_transfer.amount, changed.balance,
        changed.version);
    UPDATE accounts SET balance = balance + create_transfer.amount, version = version + 1 WHERE account_id = creditor
    RETURNING * INTO changed;
    INSERT INTO entries (transfer_id, account_id, amount, balance_before, balance_after, account_version)
    VALUES (transfer, creditor, create_transfer.amount, changed.balance - create_transfer.amount, changed.balance,
        changed.version);
    RETURN transfer;
END
$$;
