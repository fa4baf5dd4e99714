"""The tables of webhooks, as they came and as they turned out, and of how far each feed of a provider was read."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.columns import json, seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.leases import lease_columns
from services.chassis.data.seals import sealed
from services.transactions.domain.webhooks import WebhookStatus
from services.transactions.tables.metadata import metadata

# Of whom events or sweeps are read, and how far: `Cursor` (store/feed_cursors.py) says what that is of each. In another
# incarnation of the database it counts for nothing: who kept it from before a restore would have events passed over.
feed_cursors = sa.Table(
    "feed_cursors",
    metadata,
    text("feed", key=True),
    text("reached"),
    sa.Column("version", sa.BigInteger, nullable=False),
    time("updated_at"),
    text("incarnation"),
    seal(),
    sa.CheckConstraint("version >= 1", name="cursor_begins"),
    info=sealed("feed", "reached", "version", "updated_at", "incarnation"),
)

# Every webhook as it came, once: work for a job, and no organization's, since a webhook proves its sender only.
received_webhooks = sa.Table(
    "received_webhooks",
    metadata,
    text("webhook_id", key=True),
    text("provider"),
    text("provider_event_id"),
    text("event_type"),
    sa.Column("body", pg.BYTEA),  # forgotten once it is old
    text("provider_reference", null=True),  # the payment it is about, if its type is applied
    text("ignored_because", null=True),  # set where it is about no payment of ours
    time("created_at"),
    *lease_columns(),
    # Nothing is left to be done once who says so proves to be this service. The proof itself is not kept.
    sa.Column("proof_digest", pg.BYTEA),
    sa.Column("proof", pg.BYTEA),
    sa.UniqueConstraint("provider", "provider_event_id", name="received_webhooks_event"),
    sa.Index("received_webhooks_due", "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    sa.Index("received_webhooks_bodies", "created_at", postgresql_where=sa.text("body IS NOT NULL")),
)

# The webhooks that turned out to be about a transaction of the organization.
webhooks = sa.Table(
    "webhooks",
    metadata,
    text("org_id", key=True),
    text("webhook_id", key=True),
    *map(text, ("provider", "provider_event_id", "event_type", "status", "transaction_id")),
    json("failure", null=True),
    time("created_at"),
    time("applied_at", null=True),
    sa.ForeignKeyConstraint(
        ["org_id", "transaction_id"], ["transactions.org_id", "transactions.transaction_id"], name="transaction"
    ),
    one_of("status", WebhookStatus),
    sa.Index("webhooks_newest", "org_id", "created_at", "webhook_id"),
)
