-- The rows of a posting as the first ledger of this kind had them, with their indexes and checks. They never change:
-- so the limit stays the same limit, whatever becomes of the tables of the book.
CREATE TABLE journal_entries (
    org_id text NOT NULL,
    escrow_account_id text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    journal_entry_id text NOT NULL,
    request_key uuid NOT NULL,
    fingerprint bytea NOT NULL,
    kind text NOT NULL CHECK (kind IN ('DEPOSIT', 'WITHDRAWAL', 'DISTRIBUTION', 'FEE', 'REFUND', 'ADJUSTMENT',
        'RECONCILIATION', 'HOLD', 'RELEASE', 'RETURN', 'REVERSAL')),
    description text NOT NULL,
    n_legs integer NOT NULL CHECK (n_legs >= 2),
    effective_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    transaction_id text,
    investment_id text,
    distribution_id text,
    reverses_journal_entry_id text CHECK (reverses_journal_entry_id <> journal_entry_id),
    actor text NOT NULL,
    PRIMARY KEY (org_id, escrow_account_id, sequence),
    UNIQUE (journal_entry_id, org_id, escrow_account_id),
    UNIQUE (request_key, org_id),
    CHECK (effective_at <= created_at)
);
CREATE UNIQUE INDEX ON journal_entries (reverses_journal_entry_id, org_id, escrow_account_id)
    WHERE reverses_journal_entry_id IS NOT NULL;
CREATE INDEX ON journal_entries (transaction_id, org_id, escrow_account_id) WHERE transaction_id IS NOT NULL;

CREATE TABLE ledger_entries (
    org_id text NOT NULL,
    escrow_account_id text NOT NULL,
    ledger_account text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    journal_sequence bigint NOT NULL,
    leg integer NOT NULL CHECK (leg > 0),
    direction text NOT NULL CHECK (direction IN ('DEBIT', 'CREDIT')),
    layer text NOT NULL CHECK (layer IN ('POSTED', 'PENDING')),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0 AND amount_minor < 4611686018427387904),
    posted_after bigint NOT NULL,
    pending_after bigint NOT NULL,
    effective_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, escrow_account_id, ledger_account, sequence)
);
CREATE UNIQUE INDEX ON ledger_entries (org_id, escrow_account_id, journal_sequence, leg);
CREATE INDEX ON ledger_entries (org_id, escrow_account_id, ledger_account, effective_at)
    WHERE created_at - effective_at > interval '1 minute';
