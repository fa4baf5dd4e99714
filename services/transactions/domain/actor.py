"""Who did what no person did."""

from __future__ import annotations

from typing import Final

NAME: Final = "transactions"
# Who moves a transaction, or finds an exception, when no person does.
ACTOR: Final = f"service:{NAME}"
