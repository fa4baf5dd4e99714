"""How much a job takes at once, and for how long."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

from services.transactions.domain.transaction import Transaction

LEASE_MS = 15_000
BATCH_MAX = 100


def by_asker(rows: Sequence[Transaction]) -> dict[tuple[str, str], list[Transaction]]:
    """Rows that may go to a peer in one call: same organization, same person acted for."""
    groups: dict[tuple[str, str], list[Transaction]] = defaultdict(list)
    for row in rows:
        groups[row.org_id, row.created_by].append(row)
    return groups


def by_organization(rows: Sequence[Transaction]) -> dict[str, list[Transaction]]:
    groups: dict[str, list[Transaction]] = defaultdict(list)
    for row in rows:
        groups[row.org_id].append(row)
    return groups


def jitter() -> Fraction:
    return Fraction(random.randrange(1001), 1000)  # noqa: S311  # spreads retries; no secret
