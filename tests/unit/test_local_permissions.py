"""The allow-lists of NATS: who may say what."""

from __future__ import annotations

import pytest

from deploy.local.nats_permissions import permissions

DURABLES = {"escrow": ["escrow_transactions"], "compliance": ["compliance_audit"]}


def covers(pattern: str, subject: str) -> bool:
    """NATS' own matching: `*` is one token, a trailing `>` one or more."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1] if len(tokens) >= len(wanted) else []
    return len(wanted) == len(tokens) and all(want in ("*", token) for want, token in zip(wanted, tokens, strict=True))


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
        ("subscriber", "$JS.API.CONSUMER.CREATE.ESCROW", True),
        ("subscriber", "$JS.API.CONSUMER.CREATE.ESCROW.compliance_audit", False),  # it would rewrite a durable
        ("subscriber", "$JS.API.CONSUMER.CREATE.DEAD_LETTERS", False),
        ("subscriber", "$JS.ACK.ESCROW.compliance_audit.1.5.5.1700000000.0", False),
        ("subscriber", "realco.escrow.v1.JournalEntriesPosted", False),
    ],
)
def test_a_user_publishes_its_own_and_nothing_else(user: str, subject: str, may: bool) -> None:
    assert any(covers(pattern, subject) for pattern in permissions(DURABLES)[user].publish) is may


def test_without_known_durables_a_service_still_speaks_only_for_itself() -> None:
    allowed = permissions(None)["escrow"].publish
    assert any(covers(pattern, "$JS.API.CONSUMER.MSG.NEXT.TRANSACTIONS.anything") for pattern in allowed)
    assert not any(covers(pattern, "realco.transactions.v1.TransactionSettled") for pattern in allowed)
