"""Ledger accounts as tests write them: `cash`, `subscription:inv-001`."""

from __future__ import annotations

from realco.escrow.v1 import journal_pb2 as pb


def ledger_account(name: str) -> pb.LedgerAccount:
    """The ledger account that a test writes so."""
    kind, _, party_id = name.partition(":")
    return pb.LedgerAccount(kind=pb.LedgerAccount.Kind.Value(kind.upper()), party_id=party_id or None)


def name_of(account: pb.LedgerAccount) -> str:
    """How a test writes the ledger account."""
    kind = pb.LedgerAccount.Kind.Name(account.kind).lower()
    return f"{kind}:{account.party_id}" if account.party_id else kind
