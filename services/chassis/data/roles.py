"""What the database roles of a service have, and what none may do. Read also by whoever makes them."""

from __future__ import annotations

LOCK_TIMEOUT_MS = 2_000
STATEMENT_TIMEOUT_MS = 10_000
# Settings of the roles, not of a session: so any connection of a pooler serves any transaction. Whoever makes the
# roles gives them these and no others; a service does not start otherwise.
ROLE_SETTINGS = {
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "lock_timeout": str(LOCK_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": "5000",
    # Our statements are short: compiling them costs more than it saves.
    "jit": "off",
    "timezone": "UTC",
}
# What no role of a service may call. Large objects would keep data outside of every table, right and seal; and whoever
# ends the other sessions of the role, whenever one of them begins with a certain deed, keeps everybody from that deed.
NOBODY_CALLS = (
    *("lo_create(oid)", "lo_creat(integer)", "lo_from_bytea(oid, bytea)"),
    *("pg_terminate_backend(integer, bigint)", "pg_cancel_backend(integer)"),
)
