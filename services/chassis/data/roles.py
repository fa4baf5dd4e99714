"""What the database roles of a service have, and what none may do. Read also by whoever makes them."""

from __future__ import annotations

# How many connections one process opens at most: as the role of requests for their transactions (unless it is set) and
# for single reads; as the worker's for its transactions and for its looks at all organizations.
REQUEST_CONNECTIONS, READ_CONNECTIONS = 12, 6
WORKER_CONNECTIONS, LOOK_CONNECTIONS = 6, 4
# Whoever makes the roles lets so many be opened as each and no more, so that one stolen login does not take those of
# all others: enough for three processes of a service, with what each checks on new sessions (runtime/boot.py).
_PROCESSES = 3
APP_CONNECTION_LIMIT = _PROCESSES * (REQUEST_CONNECTIONS + READ_CONNECTIONS + 1)
WORKER_CONNECTION_LIMIT = _PROCESSES * (WORKER_CONNECTIONS + LOOK_CONNECTIONS + 1)

LOCK_TIMEOUT_MS = 2_000
STATEMENT_TIMEOUT_MS = 10_000
# Settings of the roles, not of a session: so any connection of a pooler serves any transaction. Whoever makes the
# roles gives them these and no others; a service does not start otherwise.
ROLE_SETTINGS = {
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "lock_timeout": str(LOCK_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": "5000",
    # In kB, of one session, which may keep such files as long as it lives; the disk is everybody's, and who has the
    # role cannot raise it. Our statements need none, also over an account with 100,000 entries.
    "temp_file_limit": "16384",
    # Our statements are short: compiling them costs more than it saves.
    "jit": "off",
    "timezone": "UTC",
}
# The setting in which a session proves that it is its service's: a login by itself writes nothing (session_proof.py).
SESSION_PROOF = "app.session_proof"
# What no role of a service may call. Large objects would keep data outside of every table, right and seal; whoever ends
# the other sessions of the role, whenever one of them begins with a certain deed, keeps everybody from that deed;
# locks that outlast a transaction use up, at no cost, what all databases of the cluster have for theirs; messages in
# the log of transactions fill its disk, and every archive of it; and what a transaction sees, handed from one to the
# next, keeps all that is deleted meanwhile, while none of them is open for long.
NOBODY_CALLS = (
    *("lo_create(oid)", "lo_creat(integer)", "lo_from_bytea(oid, bytea)"),
    *("pg_terminate_backend(integer, bigint)", "pg_cancel_backend(integer)"),
    "pg_export_snapshot()",
    *(f"pg_logical_emit_message(boolean, text, {kind}, boolean)" for kind in ("text", "bytea")),
    *(
        f"pg_{attempt}advisory_lock{shared}({names})"
        for attempt in ("", "try_")
        for shared in ("", "_shared")
        for names in ("bigint", "integer, integer")
    ),
)
# What a worker may call besides, which PostgreSQL lets nobody call by itself: the names and sizes of temporary files
# (disk_watch.py).
WORKER_CALLS = ("pg_ls_tmpdir()",)
# The language of our functions, in which their owner alone writes: a block of it fills the log as fast as a disk takes.
PROCEDURES = "plpgsql"
