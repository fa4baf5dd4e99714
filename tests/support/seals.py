"""What the services of the tests seal their rows with."""

from __future__ import annotations

from pathlib import Path

from services.chassis.data.roles import SESSION_PROOF
from services.chassis.data.seals import Seals

KEY = bytes(range(32))
SEALS = Seals([KEY])
# With what a session begins whose service seals with these.
OF_SERVICE = {SESSION_PROOF: SEALS.list_session_proofs()[0]}


def data_key_settings(folder: Path) -> dict[str, str]:
    """Writes the file of keys, and returns where: a service's environment."""
    file = folder / "data.key"
    file.touch(mode=0o600)
    file.write_text(KEY.hex())
    return {"DATA_KEY_FILE": str(file)}
