"""The allow-lists of NATS: who may say what."""

from __future__ import annotations

import pytest

from deploy.local.nats_permissions import Permissions, permissions
from deploy.teams import DOCUMENTED, Durable, Team

DURABLES = {
    "escrow": ["escrow_transactions"],
    "compliance": ["compliance_audit"],
    "lender": ["lender_postings"],
    "broker": ["broker_postings"],
}
LENDER = Team(
    name="lender",
    organizations=("acme",),
    events=("escrow.*",),
    durables=(Durable(name="lender_postings", events=("escrow.JournalEntriesPosted",)),),
)
OF_ACME = "realco.escrow.v1.JournalEntriesPosted.acme.>"


def covers(pattern: str, subject: str) -> bool:
    """NATS' own matching: `*` is one token, a trailing `>` one or more."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1] if len(tokens) >= len(wanted) else []
    return len(wanted) == len(tokens) and all(want in ("*", token) for want, token in zip(wanted, tokens, strict=True))


def may_publish(granted: Permissions, subject: str) -> bool:
    denied = any(covers(pattern, subject) for pattern in granted.publish_not)
    return not denied and any(covers(pattern, subject) for pattern in granted.publish)


@pytest.mark.parametrize(
    ("user", "subject", "may"),
    [
        ("escrow", "realco.escrow.v1.JournalEntriesPosted", True),
        ("escrow", "realco.transactions.v1.TransactionSettled", False),  # it would speak for another
        ("escrow", "realco.dead_letters.escrow_transactions", True),
        ("escrow", "realco.dead_letters.compliance_audit", False),
        ("escrow", "$JS.API.CONSUMER.MSG.NEXT.TRANSACTIONS.escrow_transactions", True),
        ("escrow", "$JS.API.CONSUMER.MSG.NEXT.DEAD_LETTERS.escrow_transactions", True),  # the replay
        ("escrow", "$JS.API.CONSUMER.MSG.NEXT.TRANSACTIONS.compliance_audit", False),  # it would take another's
        ("escrow", "$JS.ACK.TRANSACTIONS.escrow_transactions.1.5.5.1700000000.0", True),
        ("escrow", "$JS.ACK.TRANSACTIONS.compliance_audit.1.5.5.1700000000.0", False),  # it would lose another's
        ("escrow", "$JS.API.STREAM.CREATE.ESCROW", False),
        ("escrow", "$JS.API.STREAM.DELETE.ESCROW", False),
        ("escrow", "$JS.API.CONSUMER.DELETE.TRANSACTIONS.escrow_transactions", False),
        ("escrow", "$JS.API.CONSUMER.CREATE.TRANSACTIONS.escrow_transactions", False),
        ("transactions", "$JS.API.CONSUMER.MSG.NEXT.ESCROW.anything", False),  # it has no durable
        ("provisioner", "$JS.API.STREAM.CREATE.ESCROW", True),
        ("provisioner", "realco.escrow.v1.JournalEntriesPosted", False),
        ("subscriber", "$JS.API.STREAM.INFO.ESCROW", True),  # nats.js asks
        ("subscriber", "$JS.API.CONSUMER.CREATE.ESCROW.nuid_1.realco.escrow.v1.*.*.>", True),
        ("subscriber", "$JS.API.CONSUMER.CREATE.ESCROW.nuid_1.realco.escrow.v1.HoldPlaced.acme.>", True),
        ("subscriber", "$JS.API.CONSUMER.CREATE.ESCROW", False),  # what it filters stands in the body
        ("subscriber", "$JS.API.CONSUMER.CREATE.ESCROW.nuid_1", False),
        ("subscriber", "$JS.API.CONSUMER.CREATE.ESCROW.compliance_audit", False),  # it would rewrite a durable
        ("subscriber", "$JS.API.CONSUMER.CREATE.ESCROW.compliance_audit.realco.escrow.v1.*.*.>", False),
        ("subscriber", "$JS.API.CONSUMER.DELETE.ESCROW.compliance_audit", False),
        ("subscriber", "$JS.API.CONSUMER.MSG.NEXT.ESCROW.compliance_audit", False),
        ("subscriber", "$JS.API.CONSUMER.MSG.NEXT.ESCROW.nuid_1", True),
        ("subscriber", "$JS.API.CONSUMER.MSG.NEXT.DEAD_LETTERS.nuid_1", False),
        ("subscriber", "$JS.API.CONSUMER.CREATE.DEAD_LETTERS.nuid_1.realco.dead_letters.>", False),
        ("subscriber", "$JS.ACK.ESCROW.compliance_audit.1.5.5.1700000000.0", False),
        ("subscriber", "realco.escrow.v1.JournalEntriesPosted", False),
        ("lender", f"$JS.API.CONSUMER.CREATE.ESCROW.nuid_1.{OF_ACME}", True),
        ("lender", "$JS.API.CONSUMER.CREATE.ESCROW.nuid_1.realco.escrow.v1.*.acme.>", True),
        ("lender", "$JS.API.CONSUMER.CREATE.ESCROW.nuid_1.realco.escrow.v1.*.*.>", False),
        ("lender", "$JS.API.CONSUMER.CREATE.ESCROW.nuid_1.realco.escrow.v1.>", False),
        ("lender", "$JS.API.CONSUMER.CREATE.ESCROW.nuid_1.realco.escrow.v1.*.other.>", False),
        ("lender", "$JS.API.CONSUMER.CREATE.TRANSACTIONS.nuid_1.realco.transactions.v1.*.acme.>", False),
        ("lender", f"$JS.API.CONSUMER.CREATE.ESCROW.lender_postings.{OF_ACME}", False),  # the provisioner's work
        ("lender", "$JS.API.CONSUMER.MSG.NEXT.ESCROW.lender_postings", True),
        ("lender", "$JS.ACK.ESCROW.lender_postings.1.5.5.1700000000.0", True),
        ("lender", "$JS.API.CONSUMER.MSG.NEXT.ESCROW.broker_postings", False),
        ("lender", "$JS.ACK.ESCROW.broker_postings.1.5.5.1700000000.0", False),
        ("lender", "$JS.API.STREAM.INFO.ESCROW", False),  # it would tell of other organizations' subjects
    ],
)
def test_a_user_publishes_its_own_and_nothing_else(user: str, subject: str, may: bool) -> None:
    assert may_publish(permissions(DURABLES, (DOCUMENTED, LENDER))[user], subject) is may


@pytest.mark.parametrize(
    ("user", "subject", "may"),
    [
        ("escrow", "_INBOX_escrow.abc", True),
        ("escrow", "_INBOX.abc", False),
        ("escrow", "realco.transactions.v1.TransactionSettled.acme.esc_1", False),  # it has a durable for that
        ("subscriber", "_INBOX_escrow.abc", False),  # the answers to others
        ("subscriber", "_INBOX_lender.abc", False),
        ("subscriber", "realco.escrow.v1.HoldPlaced.acme.esc_1", True),
        ("subscriber", "realco.dead_letters.compliance_audit", False),
        ("lender", "realco.escrow.v1.HoldPlaced.acme.esc_1", True),
        ("lender", "realco.escrow.v1.HoldPlaced.other.esc_1", False),
        ("lender", "realco.transactions.v1.TransactionSettled.acme.esc_1", False),
    ],
)
def test_a_user_hears_its_own_inbox_and_what_it_was_granted(user: str, subject: str, may: bool) -> None:
    heard = permissions(DURABLES, (DOCUMENTED, LENDER))[user].subscribe
    assert any(covers(pattern, subject) for pattern in heard) is may


def test_without_known_durables_a_service_still_speaks_only_for_itself() -> None:
    granted = permissions(None)["escrow"]
    assert may_publish(granted, "$JS.API.CONSUMER.MSG.NEXT.TRANSACTIONS.anything")
    assert not may_publish(granted, "realco.transactions.v1.TransactionSettled")
