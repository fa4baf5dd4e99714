"""How the chassis' tables came about: each step makes what one change of them needs, in every service's database.

What `tables.py` and `heard_persons.py` state is what all steps together make; `make check` compares. A step that a
release has stays as it is: a later change of the tables is one more step here, which the next migration of every
service takes before its own changes. So a new database takes the same way as one that was there before.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.chassis.data.approval_steps import APPROVAL_MOVES, create_approvals
from services.chassis.data.guards import SEARCH_PATH, Op, append_only, create_functions, guard_moves, keep
from services.chassis.data.restores import RESTORE_TABLES, create_restore_tables
from services.chassis.data.session_proof import create_session_proofs

# Events are told, in their order, whoever has a login: one is published when the relay proves it, by a text of which
# the row has the digest (data/seals.py). It is not kept, so that it proves nothing when the event is to be told again.
_MARK_PUBLISHED = f"""
CREATE FUNCTION mark_published() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
BEGIN
  IF NEW.published_at IS NOT NULL AND (
    OLD.published_at IS NOT NULL OR NEW.published_at <> now()
    OR sha256(NEW.proof) IS DISTINCT FROM substr(OLD.proof_digest, 5)
  ) THEN
    RAISE EXCEPTION 'outbox keeps its rows as they are: an event is published before it is marked'
      USING ERRCODE = '42501';
  END IF;
  NEW.proof := NULL;
  RETURN NEW;
END $$
"""
_MARK = """
CREATE TRIGGER mark_published BEFORE UPDATE OF published_at, proof ON outbox
FOR EACH ROW EXECUTE FUNCTION mark_published()
"""
# The numbers of an aggregate never go back. Nor do they leap: a transaction takes one for each event that it tells, and
# who has a login does not use them all up.
_REFUSE_GOING_BACK = """
CREATE TRIGGER refuse_going_back BEFORE UPDATE OF version ON aggregate_versions FOR EACH ROW
WHEN (NEW.version <= OLD.version OR NEW.version - OLD.version > 1000000) EXECUTE FUNCTION realco_refuse()
"""
_REFUSE_LEAP = f"""
CREATE FUNCTION refuse_leap() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
BEGIN
  IF NEW.version - (SELECT numbers_after FROM incarnation) NOT BETWEEN 1 AND 1000000 THEN
    RAISE EXCEPTION 'aggregate_versions keeps its rows as they are: numbers do not leap' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END $$
"""  # noqa: S608
_REFUSE_LEAPING = """
CREATE TRIGGER refuse_leaping BEFORE INSERT ON aggregate_versions FOR EACH ROW
WHEN (NEW.version NOT BETWEEN 1 AND 1000000) EXECUTE FUNCTION refuse_leap()
"""
# Who leads renews that within seconds, so nobody who claims to lead keeps the others waiting for good.
_REFUSE_FAR_LEAD = """
CREATE TRIGGER refuse_far BEFORE INSERT OR UPDATE OF until ON leaders FOR EACH ROW
WHEN (NEW.until > clock_timestamp() + interval '1 minute') EXECUTE FUNCTION realco_refuse()
"""
# A party goes on from what was heard before, and never back, so that nobody has again who acted for it once. It begins
# at the beginning and takes no number twice or in advance: there is always one for what is heard next.
_REFUSE_BEGINNING_LATE = """
CREATE TRIGGER refuse_beginning_late BEFORE INSERT ON heard_parties FOR EACH ROW
WHEN (NEW.version <> 1) EXECUTE FUNCTION realco_refuse()
"""
_REFUSE_ANOTHER_NUMBER = """
CREATE TRIGGER refuse_another_number BEFORE UPDATE ON heard_parties FOR EACH ROW
WHEN (NEW.version <> OLD.version + 1) EXECUTE FUNCTION realco_refuse()
"""


def create_chassis_tables(op: Op) -> None:
    """The first step: all tables, and the functions that refuse what none of a service's tables may take."""
    _create_outbox(op)
    _create_aggregate_versions(op)
    _create_incarnation(op)
    _create_test_clock(op)
    _create_leaders(op)
    _create_handled_requests(op)
    _create_handled_events(op)
    _create_handled_positions(op)
    _create_dead_letters(op)
    _create_stops(op)
    create_approvals(op)
    op.execute("INSERT INTO incarnation DEFAULT VALUES")
    op.execute("INSERT INTO test_clock DEFAULT VALUES")
    create_functions(op)
    create_session_proofs(op)
    create_restore_tables(op)
    op.execute(_MARK_PUBLISHED)
    op.execute(_MARK)
    op.execute(_REFUSE_GOING_BACK)
    op.execute(_REFUSE_LEAP)
    op.execute(_REFUSE_LEAPING)
    op.execute(_REFUSE_FAR_LEAD)
    append_only(op, "dead_letters", "seen_letters", "stops", *RESTORE_TABLES)
    keep(op, "outbox", "published_at", 35)
    keep(op, "handled_requests", "created_at", 30)
    keep(op, "handled_events", "created_at", 401)
    guard_moves(op, {"approvals": APPROVAL_MOVES})


def create_heard_persons(op: Op) -> None:
    """The first step of a service that keeps who acts for whom."""
    _create_heard_parties(op)
    _create_heard_persons(op)
    op.execute(_REFUSE_BEGINNING_LATE)
    op.execute(_REFUSE_ANOTHER_NUMBER)


def _create_outbox(op: Op) -> None:
    op.create_table(
        "outbox",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("aggregate_id", sa.Text(), nullable=False),
        sa.Column("aggregate_version", sa.BigInteger(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.BYTEA(), nullable=False),
        sa.Column("traceparent", sa.Text(), server_default="", nullable=False),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("published_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.Column("proof_digest", postgresql.BYTEA(), nullable=True),
        sa.Column("proof", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "id"),
        sa.UniqueConstraint("org_id", "event_id", name="outbox_event_id_key"),
    )
    op.create_index(
        "outbox_published",
        "outbox",
        ["published_at"],
        unique=False,
        postgresql_where=sa.text("published_at IS NOT NULL"),
    )
    op.create_index(
        "outbox_numbers",
        "outbox",
        ["org_id", "aggregate_id", "aggregate_version"],
        unique=False,
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_index(
        "outbox_unpublished",
        "outbox",
        ["id"],
        unique=False,
        postgresql_where=sa.text("published_at IS NULL"),
    )


def _create_aggregate_versions(op: Op) -> None:
    op.create_table(
        "aggregate_versions",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("aggregate_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("restored_version", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "aggregate_id"),
    )


def _create_incarnation(op: Op) -> None:
    op.create_table(
        "incarnation",
        sa.Column("only_row", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("incarnation", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("begun_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("is_restored", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("numbers_after", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("only_row", name="incarnation_only_row"),
        sa.PrimaryKeyConstraint("only_row"),
    )


def _create_test_clock(op: Op) -> None:
    op.create_table(
        "test_clock",
        sa.Column("only_row", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("allowed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint("only_row", name="test_clock_only_row"),
        sa.PrimaryKeyConstraint("only_row"),
    )


def _create_leaders(op: Op) -> None:
    op.create_table(
        "leaders",
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("leader", sa.UUID(), nullable=False),
        sa.Column("until", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("work"),
    )


def _create_handled_requests(op: Op) -> None:
    op.create_table(
        "handled_requests",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", postgresql.BYTEA(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("answer", postgresql.BYTEA(), nullable=True),
        sa.Column("answer_is_error", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status = 'running' OR answer IS NOT NULL", name="handled_requests_answered"),
        sa.CheckConstraint("status IN ('running', 'answered')", name="status_known"),
        sa.PrimaryKeyConstraint("org_id", "principal", "idempotency_key"),
    )
    op.create_index("handled_requests_created_at", "handled_requests", ["created_at"], unique=False)


def _create_handled_events(op: Op) -> None:
    op.create_table(
        "handled_events",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "consumer", "event_id"),
    )
    op.create_index("handled_events_created_at", "handled_events", ["created_at"], unique=False)


def _create_handled_positions(op: Op) -> None:
    op.create_table(
        "handled_positions",
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("stream_sequence", sa.BigInteger(), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("stream_created", sa.Text(), nullable=False),
        sa.Column("handlers", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("stored_at", sa.Text(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("consumer", "stream"),
    )


def _create_dead_letters(op: Op) -> None:
    op.create_table(
        "dead_letters",
        sa.Column("letter_id", sa.Text(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("stream_sequence", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("data", postgresql.BYTEA(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("set_aside_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("letter_id"),
    )
    op.create_index("dead_letters_message", "dead_letters", ["consumer", "stream", "stream_sequence"], unique=False)
    op.create_table(
        "seen_letters",
        sa.Column("seen_id", sa.Text(), nullable=False),
        sa.Column("letter_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("seen_id"),
    )
    op.create_index("seen_letters_letter", "seen_letters", ["letter_id"], unique=False)


def _create_stops(op: Op) -> None:
    op.create_table(
        "stops",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("stop_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("deed", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("stopped_id", sa.Text(), nullable=True),
        sa.Column("stopped_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "stop_id"),
    )
    columns = ["org_id", "person_id", "deed", "about", "stopped_at"]
    op.create_index("stops_person", "stops", columns, unique=False)


def _create_heard_parties(op: Op) -> None:
    op.create_table(
        "heard_parties",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("aggregate_version", sa.BigInteger(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "party_id"),
    )


def _create_heard_persons(op: Op) -> None:
    op.create_table(
        "heard_persons",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "person_id", "party_id"),
    )
    op.create_index("heard_persons_party", "heard_persons", ["org_id", "party_id"], unique=False)
