"""Who plays, with which amounts, and what the waterfall must give to the cent.

Three investors put in 200,000.00; a year later 260,000.00 is distributed: capital back, 8 % preferred return, a full
catch-up, then 70/30. The profit is 60,000.00 and the sponsor must end with 30 % of it: 18,000.00.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from demo.harness.bank import AT_ONCE, R01_THEN_SETTLES, TWO_DAYS_LATER

# Who signs in, with which role. Whoever makes something never approves it.
ADMIN, OFFICER, SPONSOR_STAFF, AUDITOR = "admin-1", "admin-2", "sponsor-1", "auditor-1"
SPONSOR = "sponsor-oak"
SIGN_INS = MappingProxyType(
    {
        ADMIN: "admin",
        OFFICER: "admin",
        SPONSOR_STAFF: "sponsor",
        AUDITOR: "auditor",
        "inv-001": "investor",
        "inv-002": "investor",
        "inv-003": "investor",
        "inv-004": "investor",
    }
)


@dataclass(frozen=True)
class Party:
    """Somebody compliance knows, and the bank account they pay from.

    Args:
        id: The story's name of it: its external_id, and the subject of the person who acts for it.
        kind: As the contract spells it.
    """

    id: str
    legal_name: str
    test_value: int
    commitment_minor: int = 0
    accredited: bool = True
    kind: str = "INDIVIDUAL"


ANA = Party("inv-001", "Ana Alvarez", AT_ONCE, 100_000_00)
BEN = Party("inv-002", "Ben Brandt", TWO_DAYS_LATER, 55_555_55)
CLEO = Party("inv-003", "Cleo Chen", R01_THEN_SETTLES, 44_444_45)
DAN = Party("inv-004", "Dan Dorsey", AT_ONCE, 60_000_00, accredited=False)
OAK = Party(SPONSOR, "Oak Street Partners LLC", AT_ONCE, kind="LLC")

FUNDERS = (ANA, BEN, CLEO)
INVESTORS = (*FUNDERS, DAN)
PARTIES = (*INVESTORS, OAK)

TARGET_MINOR = sum(party.commitment_minor for party in FUNDERS)
MAXIMUM_MINOR = 300_000_00
DISTRIBUTION_MINOR = 260_000_00

OPENING = datetime(2024, 12, 3, 15, tzinfo=UTC)
DEADLINE = "2024-12-31T23:59:59Z"
CLOSING = datetime(2025, 1, 1, 15, tzinfo=UTC)
DISTRIBUTING = datetime(2026, 1, 1, 15, tzinfo=UTC)
PAYING_AGAIN = datetime(2026, 1, 2, 16, tzinfo=UTC)  # a day after the new bank account was confirmed

# What each tier pays: (to investors, to the sponsor).
TIERS = MappingProxyType(
    {
        "RETURN_OF_CAPITAL": (200_000_00, 0),
        "PREFERRED_RETURN": (16_000_00, 0),
        "CATCH_UP": (0, 6_857_14),
        "SPLIT": (26_000_00, 11_142_86),
    }
)
# What each payee gets: (capital, preferred return, catch-up, split).
ALLOCATIONS = MappingProxyType(
    {
        "inv-001": (100_000_00, 8_000_00, 0, 13_000_00),  # 121,000.00
        "inv-002": (55_555_55, 4_444_44, 0, 7_222_22),  # 67,222.21
        "inv-003": (44_444_45, 3_555_56, 0, 5_777_78),  # 53,777.79
        SPONSOR: (0, 0, 6_857_14, 11_142_86),  # 18,000.00
    }
)
