"""The tables the chassis keeps in every service's database: events out, requests and events handled, approvals.

They are made by `steps.py`: what changes here is one more step there.
"""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.constraints import one_of
from services.chassis.data.leases import lease_columns
from services.chassis.data.seals import seal_whole, sealed
from services.chassis.values.approval import Status

metadata = sa.MetaData()


class RequestStatus(StrEnum):
    RUNNING = "running"
    ANSWERED = "answered"


outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("event_id", pg.UUID(as_uuid=True), nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),  # the message's full name
    sa.Column("aggregate_id", sa.Text, nullable=False),
    sa.Column("aggregate_version", sa.BigInteger, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("payload", pg.BYTEA, nullable=False),
    sa.Column("traceparent", sa.Text, nullable=False, server_default=""),
    sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),  # by the business clock
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
    sa.Column("published_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("seal", pg.BYTEA),  # data/seals.py
    # Nobody marks it published who cannot prove to be the relay.
    sa.Column("proof_digest", pg.BYTEA),
    sa.Column("proof", pg.BYTEA),
    sa.UniqueConstraint("org_id", "event_id", name="outbox_event_id_key"),
    sa.Index(
        *("outbox_numbers", "org_id", "aggregate_id", "aggregate_version"),
        postgresql_where=sa.text("published_at IS NULL"),
    ),
    sa.Index("outbox_unpublished", "id", postgresql_where=sa.text("published_at IS NULL")),
    sa.Index("outbox_published", "published_at", postgresql_where=sa.text("published_at IS NOT NULL")),
)

# The number of the last event of each aggregate.
aggregate_versions = sa.Table(
    "aggregate_versions",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("aggregate_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    # How many it had had when this life of the database began; null where it began in it.
    sa.Column("restored_version", sa.BigInteger),
)

# One row: which life of this database it is, and since when. A restore from a backup begins another one, so that
# readers of events notice that what was told since the backup is no more.
incarnation = sa.Table(
    "incarnation",
    metadata,
    sa.Column("only_row", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("incarnation", pg.UUID(as_uuid=True), nullable=False, server_default=sa.text("gen_random_uuid()")),
    sa.Column("begun_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
    sa.Column("is_restored", sa.Boolean, nullable=False, server_default=sa.false()),  # it began with a restore
    # All numbers of events that it tells are higher, those of aggregates that it tells of first as well.
    sa.Column("numbers_after", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("only_row", name="incarnation_only_row"),
)

# The events that this service told in an earlier incarnation and that the restored database does not have
# (events/restore_look.py); the messages of its stream that a person had it pass over; who looked through them, and of
# each organization what they had before them (events/forgotten.py). All are only added to.
forgotten_events = sa.Table(
    "forgotten_events",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("forgotten_id", sa.Text, primary_key=True),
    sa.Column("incarnation", sa.Text, nullable=False),  # in which it was missed
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("aggregate_id", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),  # by the business clock
    sa.Column("stream_sequence", sa.BigInteger, nullable=False),
    sa.Column("seal", pg.BYTEA),
    sa.Index("forgotten_events_incarnation", "org_id", "incarnation", "event_type"),
)
seal_whole(forgotten_events)
seen_restores = sa.Table(
    "seen_restores",
    metadata,
    sa.Column("seen_id", sa.Text, primary_key=True),  # nobody else can foretell it
    sa.Column("incarnation", sa.Text, nullable=False),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("forgotten_count", sa.BigInteger, nullable=False),
    sa.Column("unread_count", sa.BigInteger, nullable=False),
    sa.Column("unread", pg.ARRAY(sa.Text), nullable=False),  # the messages that were passed over, for people to read
    sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seal", pg.BYTEA),
)
seal_whole(seen_restores)
seen_losses = sa.Table(
    "seen_losses",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("loss_id", sa.Text, primary_key=True),  # nobody else can foretell it
    sa.Column("incarnation", sa.Text, nullable=False),
    sa.Column("event_types", pg.ARRAY(sa.Text), nullable=False),  # the most frequent first
    sa.Column("event_counts", pg.ARRAY(sa.BigInteger), nullable=False),
    sa.Column("seal", pg.BYTEA),
)
seal_whole(seen_losses)
passed_messages = sa.Table(
    "passed_messages",
    metadata,
    sa.Column("pass_id", sa.Text, primary_key=True),  # nobody else can foretell it
    sa.Column("incarnation", sa.Text, nullable=False),
    sa.Column("kid", sa.Text, nullable=False),  # empty: the stream has lost them
    sa.Column("first_sequence", sa.BigInteger, nullable=False),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("message_count", sa.BigInteger, nullable=False),  # none where a person decides about a key
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("passed_at", sa.TIMESTAMP(timezone=True), nullable=False),  # by the database's clock
    sa.Column("seal", pg.BYTEA),
    sa.Index("passed_messages_incarnation", "incarnation"),
)
seal_whole(passed_messages)

# One row: whether the database takes a business time that is not its own, as a local instance has it. The owner alone
# writes it: the migrator, for which CLOCK_FILE is set or not (ADR 4).
test_clock = sa.Table(
    "test_clock",
    metadata,
    sa.Column("only_row", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("allowed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.CheckConstraint("only_row", name="test_clock_only_row"),
)

# From the first start on: the SHA-256 of what proves to the database that a session is its service's, by key.
session_proofs = sa.Table(
    "session_proofs",
    metadata,
    sa.Column("proof_digest", pg.BYTEA, primary_key=True),
    sa.Column("adopted_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
)

# Work of which one process at a time does all there is: who does it, until when.
leaders = sa.Table(
    "leaders",
    metadata,
    sa.Column("work", sa.Text, primary_key=True),
    sa.Column("leader", pg.UUID(as_uuid=True), nullable=False),
    sa.Column("until", sa.TIMESTAMP(timezone=True), nullable=False),
)

# One row an `idempotency_key` of a caller, whatever it was sent to; the answer is what every retry gets. `answer` holds
# the response, or, where `answer_is_error`, the google.rpc.Status of a business refusal. A batch that is decided as a
# whole has a row for the key of each item; the first one has the answer.
handled_requests = sa.Table(
    "handled_requests",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("principal", sa.Text, primary_key=True),
    sa.Column("idempotency_key", sa.Text, primary_key=True),
    sa.Column("fingerprint", pg.BYTEA, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("answer", pg.BYTEA),
    sa.Column("answer_is_error", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("seal", pg.BYTEA),  # of the answer
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
    one_of("status", RequestStatus),
    sa.CheckConstraint("status = 'running' OR answer IS NOT NULL", name="handled_requests_answered"),
    sa.Index("handled_requests_created_at", "created_at"),
)

# An event is applied in the transaction that inserts its row here. No login says when that is: a row of an
# earlier incarnation counts if it was there when this one began.
handled_events = sa.Table(
    "handled_events",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("event_id", pg.UUID(as_uuid=True), primary_key=True),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
    sa.Column("incarnation", sa.Text, nullable=False),
    sa.Column("seal", pg.BYTEA),  # of the key and the incarnation
    sa.Index("handled_events_created_at", "created_at"),
)

# How far each consumer has handled a stream: the last message's number there, and which types of events the release
# handles that went on to it. In another incarnation of the database, or of another stream of the name, it counts for
# nothing.
handled_positions = sa.Table(
    "handled_positions",
    metadata,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("stream_sequence", sa.BigInteger, nullable=False),
    sa.Column("incarnation", sa.Text, nullable=False),
    sa.Column("stream_created", sa.Text, nullable=False),
    sa.Column("handlers", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("stored_at", sa.Text, nullable=False),
    sa.Column("seal", pg.BYTEA),
    info=sealed("consumer", "stream", "stream_sequence", "incarnation", "stream_created", "handlers", "stored_at"),
)

# The events that a consumer could not handle (data/letters.py).
dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("letter_id", sa.Text, primary_key=True),
    sa.Column("consumer", sa.Text, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("stream_sequence", sa.BigInteger, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("headers", sa.Text, nullable=False),  # as JSON, which escapes what no text of the database holds
    sa.Column("data", pg.BYTEA, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("set_aside_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seal", pg.BYTEA),
    sa.Index("dead_letters_message", "consumer", "stream", "stream_sequence"),
)
seal_whole(dead_letters)

# What a person did about them.
seen_letters = sa.Table(
    "seen_letters",
    metadata,
    sa.Column("seen_id", sa.Text, primary_key=True),
    sa.Column("letter_id", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seal", pg.BYTEA),
    sa.Index("seen_letters_letter", "letter_id"),
)
seal_whole(seen_letters)

# Append-only: what one person alone stopped of others.
stops = sa.Table(
    "stops",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("stop_id", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("deed", sa.Text, nullable=False),
    sa.Column("about", sa.Text, nullable=False),
    sa.Column("stopped_id", sa.Text),  # what of it, where that may have to be tried again
    sa.Column("stopped_at", sa.TIMESTAMP(timezone=True), nullable=False),  # by the business clock
    sa.Column("seal", pg.BYTEA, nullable=False),
    sa.Index("stops_person", "org_id", "person_id", "deed", "about", "stopped_at"),
)
seal_whole(stops)

# What waits for a second person, or waited for one.
approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("approval_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("scope_id", sa.Text),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("currency", sa.Text),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    # By what it is compared with others without their contents (values/content.py).
    sa.Column("effect_hash", sa.Text, nullable=False),
    sa.Column("anew_hash", sa.Text, nullable=False),
    sa.Column("asked_etag", sa.Text),
    # The same for what is asked for anew, be it as another resource.
    sa.Column("matter_hash", sa.Text, nullable=False),
    sa.Column("makers", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("beneficiary_party_ids", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_role", sa.Text, nullable=False),
    # In which session it was asked for: when the person had signed in, in seconds since 1970, and the API key of a
    # program. None where a service asked.
    sa.Column("signed_in_at", sa.BigInteger),
    sa.Column("api_key_id", sa.Text),
    # Who asked for parts of it that nobody approved before, and in which sessions.
    sa.Column("earlier_askers", pg.JSONB, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    # None: it can be decided as long as what it is about waits.
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
    # Who said yes, when, and in which session: as many as there are needed, before it is done.
    sa.Column("approvers_needed", sa.Integer, nullable=False),
    sa.Column("approver_ids", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("approved_at", pg.ARRAY(sa.TIMESTAMP(timezone=True)), nullable=False),
    sa.Column("approver_signed_in_at", pg.ARRAY(sa.BigInteger), nullable=False),  # seconds since 1970, or null
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("note", sa.Text),
    sa.Column("result_id", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("result_hash", sa.Text),
    sa.Column("failure", pg.JSONB(none_as_null=True)),
    sa.Column("comments", pg.JSONB, nullable=False, server_default=sa.text("'[]'")),
    *lease_columns(),
    sa.Column("seal", pg.BYTEA),
    one_of("status", Status),
    sa.CheckConstraint("(amount_minor IS NULL) = (currency IS NULL)", name="approvals_amount"),
    # The database refuses it, too: nobody decides on what that person made, and nothing is done that nobody decided.
    sa.CheckConstraint("created_by = ANY (makers)", name="approvals_made"),
    sa.CheckConstraint(
        "status NOT IN ('APPROVED', 'EXECUTED', 'FAILED')"
        " OR decided_by = ANY (approver_ids) AND decided_at IS NOT NULL"
        " AND cardinality(approver_ids) >= approvers_needed",
        name="approvals_decided",
    ),
    sa.CheckConstraint("NOT approver_ids && makers", name="approvals_maker_is_no_checker"),
    sa.CheckConstraint(
        "approvers_needed >= 1 AND cardinality(approver_ids) = cardinality(approved_at)"
        " AND cardinality(approver_ids) = cardinality(approver_signed_in_at)",
        name="approvals_approvers",
    ),
    sa.CheckConstraint("(status = 'APPROVED') = (due_at IS NOT NULL)", name="approvals_due_until_done"),
    sa.Index("approvals_created", "org_id", "created_at", "approval_id"),
    sa.Index("approvals_resource", "org_id", "resource_id"),
    sa.Index("approvals_effect", "org_id", "effect_hash"),
    sa.Index("approvals_matter", "org_id", "matter_hash", "created_at"),
    sa.Index("approvals_pending", "expires_at", postgresql_where=sa.text("status = 'PENDING'")),
    sa.Index("approvals_due", "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    info=sealed(
        *("org_id", "approval_id", "version", "kind", "status", "resource_id", "scope_id", "amount_minor", "currency"),
        *("content_hash", "effect_hash", "anew_hash", "asked_etag", "matter_hash", "makers", "beneficiary_party_ids"),
        *("created_by", "created_role", "created_at"),
        *("signed_in_at", "api_key_id", "earlier_askers", "expires_at", "approvers_needed", "approver_ids"),
        *(
            "approved_at",
            "approver_signed_in_at",
            "decided_by",
            "decided_at",
            "result_id",
            "summary",
            "updated_at",
            "note",
            "result_hash",
        ),
        *("failure", "comments"),
        digests={"content": "content_hash", "result": "result_hash"},
    ),
)


def attach(target: sa.MetaData) -> None:
    """Makes the chassis' tables part of a service's metadata: each service owns its own copies."""
    for table in metadata.sorted_tables:
        table.to_metadata(target)
