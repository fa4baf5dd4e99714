"""Another service of the company, which brings journal entries into the book: what was decided elsewhere, in bulk."""

from __future__ import annotations

import json
from pathlib import Path

from joserfc.jwk import ECKey

from deploy.local.instance import Instance
from services.chassis.calls.tokens import ServiceIdentity

NAME = "importer"
_RPCS = (
    "JournalService/PostJournalEntry",
    "JournalService/BatchPostJournalEntries",
    "JournalService/GetTrialBalance",
    "BulkPostingsService/StreamPostJournalEntries",
)


def write_grants(folder: Path) -> Path:
    """Returns: the file that lets it call what it needs."""
    path = folder / "grants.json"
    path.write_text(json.dumps({NAME: [f"realco.escrow.v1.{rpc}" for rpc in _RPCS]}))
    return path


def sign_in(instance: Instance) -> ServiceIdentity:
    """Makes it known to a running instance, as the documentation of services says."""
    identity = ServiceIdentity(NAME, ECKey.generate_key("P-256"))
    path = instance.identity.service_jwks_file
    keys = json.loads(path.read_text())
    keys["keys"].append(identity.public_jwk())
    path.write_text(json.dumps(keys))
    return identity
