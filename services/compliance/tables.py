"""The tables compliance owns. No other service reads them."""

from __future__ import annotations

import sqlalchemy as sa
from realco.compliance.v1.compliance_pb2 import ComplianceCheck
from realco.compliance.v1.parties_pb2 import Party
from realco.type.v1.money_pb2 import Money
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data import tables as chassis_tables
from services.chassis.data.constraints import one_of
from services.chassis.data.seals import seal_whole, sealed
from services.chassis.values.text import MACHINE_PREFIXES
from services.compliance.domain.api_keys import ApiKeyStatus
from services.compliance.domain.checks import CheckStatus
from services.compliance.domain.limits import LimitType
from services.compliance.domain.statements import Act

metadata = sa.MetaData()
chassis_tables.attach(metadata)


def _names_person() -> sa.CheckConstraint:
    """In another spelling it would be nobody's; with these beginnings it would be a machine's."""
    kept = "person_id = lower(btrim(person_id)) AND person_id <> ''"
    machine = " OR ".join(f"starts_with(person_id, '{prefix}')" for prefix in MACHINE_PREFIXES)
    return sa.CheckConstraint(f"{kept} AND NOT ({machine})", name="person_id_names_a_person")


# The row is also the lock under which a party's limits are counted.
parties = sa.Table(
    "parties",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("party_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("legal_name", sa.Text, nullable=False),
    # Of that name, by which others are found that read the same. Who changes how it is spelled spells all rows anew.
    sa.Column("name_skeleton", sa.Text, nullable=False),
    sa.Column("accreditation", sa.Text, nullable=False),
    sa.Column("annual_income_minor", sa.BigInteger),
    sa.Column("annual_income_currency", sa.CHAR(3)),
    sa.Column("net_worth_minor", sa.BigInteger),
    sa.Column("net_worth_currency", sa.CHAR(3)),
    sa.Column("external_id", sa.Text),
    # The client's own facts; never read here.
    sa.Column("metadata", pg.JSONB, nullable=False),
    # Of the facts and of the persons; the etag is made of it.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seal", pg.BYTEA),
    one_of("kind", Party.Kind.DESCRIPTOR),
    one_of("accreditation", Party.Accreditation.DESCRIPTOR),
    sa.Index("parties_newest", "org_id", "created_at", "party_id"),
    sa.Index("parties_alike", "org_id", "name_skeleton", "party_id"),
    sa.Index("parties_external", "org_id", "external_id", postgresql_where=sa.text("external_id IS NOT NULL")),
    info=sealed(
        *("org_id", "party_id", "kind", "legal_name", "name_skeleton", "accreditation", "annual_income_minor"),
        *("annual_income_currency", "net_worth_minor", "net_worth_currency", "version"),
    ),
)

# Append-only: who acts for whom, or waits to, a row each time that it was said. The latest of a person holds, unless it
# is over (`former_persons`). No row is removed, or whoever has a login could end that somebody gains from what a party
# is paid.
party_persons = sa.Table(
    "party_persons",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("party_id", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, primary_key=True),  # the subject of the person's tokens
    sa.Column("title", sa.Text),
    # The version of the party as it was said; the etag is made of it.
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
    # NULL: the person waits for a second person's yes. No later row of a person who acts says so.
    sa.Column("act_started_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("signed_in_at", sa.BigInteger),  # when whoever said it had, in seconds since 1970
    sa.Column("api_key_id", sa.Text),  # what signed in for whoever said it, where a program did
    sa.Column("seal", pg.BYTEA),
    _names_person(),
    sa.ForeignKeyConstraint(["org_id", "party_id"], ["parties.org_id", "parties.party_id"]),
    # However many parties somebody names a person in, it takes no longer to find those that the person acts for.
    sa.Index(
        "party_persons_person",
        "org_id",
        "person_id",
        "party_id",
        postgresql_where=sa.text("act_started_at IS NOT NULL"),
    ),
)
seal_whole(party_persons)

# Append-only: who acted for whom, or waited to, until when. Not long after it, whoever acted still has an interest in
# the party.
former_persons = sa.Table(
    "former_persons",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, primary_key=True),
    sa.Column("party_id", sa.Text, primary_key=True),
    sa.Column("ended_at", sa.TIMESTAMP(timezone=True), primary_key=True),
    # The party's. A row of `party_persons` of this version or an older one is over.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("ended_by", sa.Text, nullable=False),
    sa.Column("has_acted", sa.Boolean, nullable=False),  # false: only waited to
    sa.Column("seal", pg.BYTEA, nullable=False),
    sa.ForeignKeyConstraint(["org_id", "party_id"], ["parties.org_id", "parties.party_id"]),
    info=sealed("org_id", "person_id", "party_id", "ended_at", "version", "ended_by", "has_acted"),
)

# Append-only: when the sessions of a person were ended, and by whom. Whoever signed in before the last time moves no
# money any more, and has approved nothing. A trigger takes no time but the database's own at that moment.
ended_sessions = sa.Table(
    "ended_sessions",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, primary_key=True),
    sa.Column("ended_at", sa.TIMESTAMP(timezone=True), primary_key=True),
    sa.Column("ended_by", sa.Text, nullable=False),
    sa.Column("seal", pg.BYTEA, nullable=False),
    _names_person(),
)
seal_whole(ended_sessions)

# A secret is kept as its digest: the one in use, the one before it, which may work for a while, and the one that waits
# for a second person. When each was made is in the time of this machine, as the ends of sessions are.
api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("api_key_id", sa.Text, primary_key=True),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("approved_by", sa.Text),
    sa.Column("revoked_by", sa.Text),
    sa.Column("secret_digest", pg.BYTEA),
    sa.Column("secret_made_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("former_digest", pg.BYTEA),
    sa.Column("former_made_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("former_until", sa.TIMESTAMP(timezone=True)),
    sa.Column("next_digest", pg.BYTEA),
    sa.Column("next_made_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("next_grace_seconds", sa.Integer),
    sa.Column("external_id", sa.Text),
    # The client's own facts; never read here.
    sa.Column("metadata", pg.JSONB, nullable=False),
    # Nothing depends on it: it is neither sealed nor of a version.
    sa.Column("last_used_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seal", pg.BYTEA),
    one_of("status", ApiKeyStatus),
    sa.CheckConstraint("scopes <> '{}' AND array_position(scopes, NULL) IS NULL", name="scopes_given"),
    sa.CheckConstraint(
        "(secret_digest IS NULL) = (secret_made_at IS NULL)"
        " AND num_nonnulls(former_digest, former_made_at, former_until) IN (0, 3)"
        " AND num_nonnulls(next_digest, next_made_at, next_grace_seconds) IN (0, 3)",
        name="secrets_whole",
    ),
    sa.CheckConstraint(
        "status <> 'ACTIVE' OR (secret_digest IS NOT NULL AND approved_by IS NOT NULL AND approved_by <> created_by)",
        name="approved_by_another",
    ),
    # A program names its key alone.
    sa.Index("api_keys_id", "api_key_id"),
    sa.Index("api_keys_newest", "org_id", "created_at", "api_key_id"),
    sa.Index("api_keys_external", "org_id", "external_id", postgresql_where=sa.text("external_id IS NOT NULL")),
    sa.Index("api_keys_expiring", "expires_at", postgresql_where=sa.text("status IN ('PENDING_APPROVAL', 'ACTIVE')")),
    info=sealed(
        *("org_id", "api_key_id", "display_name", "scopes", "status", "expires_at", "created_by", "approved_by"),
        *("revoked_by", "secret_digest", "secret_made_at", "former_digest", "former_made_at", "former_until"),
        *("next_digest", "next_made_at", "next_grace_seconds", "version"),
    ),
)

compliance_checks = sa.Table(
    "compliance_checks",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("compliance_check_id", sa.Text, primary_key=True),
    sa.Column("check_type", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("resource_type", sa.Text, nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("party_id", sa.Text, nullable=False),
    # Of a transaction: what was decided on.
    sa.Column("direction", sa.Text),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("currency", sa.CHAR(3)),
    # Both as protobuf spells them in JSON; the facts they came from are columns of limit_usage. Who signs in as the
    # service may change the explanation alone.
    sa.Column("failure", pg.JSONB(none_as_null=True)),
    sa.Column("explanation", pg.JSONB(none_as_null=True)),
    # Who wrote the facts of the party that it is about: none of them decides it.
    sa.Column("makers", pg.ARRAY(sa.Text), nullable=False, server_default="{}"),
    # On what evidence a person decided.
    sa.Column("note", sa.Text),
    sa.Column("reviewed_by", sa.Text),
    sa.Column("reviewed_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seal", pg.BYTEA),
    one_of("check_type", ComplianceCheck.Type.DESCRIPTOR),
    one_of("status", CheckStatus),
    one_of("resource_type", ComplianceCheck.ResourceType.DESCRIPTOR),
    one_of("direction", Money.Direction.DESCRIPTOR),
    sa.CheckConstraint(
        "num_nonnulls(direction, amount_minor, currency) = CASE WHEN resource_type = 'TRANSACTION' THEN 3 ELSE 0 END",
        name="amount_of_transactions",
    ),
    sa.CheckConstraint(
        "status <> 'PASSED' OR resource_type <> 'PARTY' OR (reviewed_by IS NOT NULL AND reviewed_by <> ALL (makers))",
        name="passed_by_another",
    ),
    # A transaction is decided once; asking again finds this row.
    sa.Index(
        "compliance_checks_transaction",
        "org_id",
        "resource_id",
        unique=True,
        postgresql_where=sa.text("resource_type = 'TRANSACTION'"),
    ),
    # One question or answer of each type counts for a party, never two.
    sa.Index(
        "compliance_checks_current",
        "org_id",
        "party_id",
        "check_type",
        unique=True,
        postgresql_where=sa.text("resource_type = 'PARTY' AND status IN ('MANUAL_REVIEW', 'PASSED')"),
    ),
    sa.Index("compliance_checks_party", "org_id", "party_id", "created_at", "compliance_check_id"),
    sa.Index("compliance_checks_newest", "org_id", "created_at", "compliance_check_id"),
    sa.Index("compliance_checks_expiring", "expires_at", postgresql_where=sa.text("status = 'PASSED'")),
    info=sealed(
        *(
            "org_id",
            "compliance_check_id",
            "check_type",
            "status",
            "resource_type",
            "resource_id",
            "party_id",
            "makers",
        ),
        *("direction", "amount_minor", "currency", "explanation", "note"),
        *("reviewed_by", "reviewed_at", "expires_at", "created_at", "updated_at"),
    ),
)

# Append-only: what persons said, each by their own token, about money that is to move.
statements = sa.Table(
    "statements",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("statement_id", sa.Text, primary_key=True),  # later ones sort later
    # Of the approval, and of what it is about.
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("act", sa.Text, nullable=False),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("movement_digest", sa.Text, nullable=False),
    sa.Column("makers", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("beneficiary_party_ids", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("approvers_needed", sa.Integer, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("signed_in_at", sa.BigInteger),  # when the person had, in seconds since 1970
    sa.Column("api_key_id", sa.Text),  # what signed in for the person, where a program did
    sa.Column("seal", pg.BYTEA),
    one_of("act", Act),
    sa.Index("statements_resource", "org_id", "kind", "resource_id", "statement_id"),
    info=sealed(
        *("org_id", "statement_id", "kind", "resource_id", "act", "person_id", "content_hash", "movement_digest"),
        *("makers", "beneficiary_party_ids", "approvers_needed", "created_at", "expires_at", "signed_in_at"),
        "api_key_id",
    ),
)

# What each transaction uses of its party's limits.
limit_usage = sa.Table(
    "limit_usage",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("transaction_id", sa.Text, primary_key=True),
    sa.Column("party_id", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("arrived_minor", sa.BigInteger),  # where another amount arrived: that counts
    sa.Column("currency", sa.CHAR(3), nullable=False),
    sa.Column("counted", sa.Boolean, nullable=False),
    # The transaction's, at its last event heard: older ones, arriving late, change nothing.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("counted_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seal", pg.BYTEA, nullable=False),
    sa.CheckConstraint("amount_minor > 0 AND (arrived_minor IS NULL OR arrived_minor > 0)", name="amount_positive"),
    sa.Index("limit_usage_window", "org_id", "party_id", "counted_at"),
    info=sealed(
        *("org_id", "transaction_id", "party_id", "amount_minor", "arrived_minor", "currency", "counted", "version"),
        "counted_at",
    ),
)

# The default: what an organization starts with, until it has a row in transaction_limits.
default_limits = sa.Table(
    "default_limits",
    metadata,
    sa.Column("limit_type", sa.Text, primary_key=True),
    sa.Column("currency", sa.CHAR(3), primary_key=True),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("set_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.CheckConstraint("amount_minor > 0", name="amount_positive"),
    one_of("limit_type", LimitType),
)

# Append-only: the newest row of a type and currency is in force, the older ones say what was.
transaction_limits = sa.Table(
    "transaction_limits",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("limit_type", sa.Text, primary_key=True),
    sa.Column("currency", sa.CHAR(3), primary_key=True),
    sa.Column("set_at", sa.TIMESTAMP(timezone=True), primary_key=True),
    # Without one the organization took back its own: the default holds.
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("set_by", sa.Text, nullable=False),
    sa.Column("seal", pg.BYTEA),
    sa.CheckConstraint("amount_minor > 0", name="amount_positive"),
    one_of("limit_type", LimitType),
    info=sealed("org_id", "limit_type", "currency", "set_at", "amount_minor", "set_by"),
)
