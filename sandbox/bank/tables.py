"""The bank's own tables, beside the events that it tells. Full account numbers are never stored."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('pending', 'settled', 'returned', 'failed', 'cancelled')),
    reference TEXT NOT NULL,
    presentment INTEGER NOT NULL CHECK (presentment BETWEEN 1 AND 3),
    direction TEXT NOT NULL CHECK (direction IN ('debit', 'credit')),
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    method TEXT NOT NULL,
    description TEXT NOT NULL,
    account_holder_name TEXT NOT NULL,
    routing_number TEXT NOT NULL,
    account_last4 TEXT NOT NULL,
    return_code TEXT,
    failure_reason TEXT,
    expected_settlement_date TEXT NOT NULL,
    cancellable_until TEXT NOT NULL,
    unruly_events INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS payments_by_reference ON payments (reference, sequence);

CREATE TABLE IF NOT EXISTS timers (
    sequence INTEGER PRIMARY KEY,
    payment_id TEXT NOT NULL REFERENCES payments (id),
    due_at TEXT NOT NULL,
    status TEXT NOT NULL,
    return_code TEXT
);
CREATE INDEX IF NOT EXISTS timers_by_due_time ON timers (due_at, sequence);
CREATE INDEX IF NOT EXISTS timers_by_payment ON timers (payment_id);

CREATE TABLE IF NOT EXISTS movements (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    payment_id TEXT NOT NULL REFERENCES payments (id),
    kind TEXT NOT NULL CHECK (kind IN ('settlement', 'return')),
    booked_on TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    return_code TEXT,
    UNIQUE (payment_id, kind)
);
CREATE INDEX IF NOT EXISTS movements_by_day ON movements (booked_on, sequence);

CREATE TABLE IF NOT EXISTS answers (
    idempotency_key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_by_age ON answers (created_at);

CREATE TABLE IF NOT EXISTS refusals (
    idempotency_key TEXT PRIMARY KEY,
    count INTEGER NOT NULL
);
"""
