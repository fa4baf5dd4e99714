"""What the service works with, put together once by `__main__` and handed to the edges."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.chassis.data.heard_persons import KnownParties
from services.chassis.data.operations import Operations
from services.chassis.process.health import Alarms
from services.chassis.process.loops import Failures
from services.transactions.clients import Peers
from services.transactions.domain.actor import ACTOR as ACTOR
from services.transactions.domain.actor import NAME as NAME
from services.transactions.providers.protocols import Providers
from services.transactions.vault import Vault


@dataclass(frozen=True, kw_only=True)
class Dependencies(Operations):
    """How this service reads and writes, and whom it asks."""

    vault: Vault
    providers: Providers
    peers: Peers
    # Whose staff sees what belongs to no organization; empty: the log alone has it.
    operator_org_id: str = ""
    # Of the process: what a job finds that somebody has to see to.
    alarms: Alarms = field(default_factory=dict)
    # Of files of the bank that wait (jobs/bank_files.py): by its place there, whether what was said was of us.
    applied: dict[str, dict[int, bool]] = field(default_factory=dict, init=False)
    _failures: dict[str, Failures] = field(default_factory=dict, init=False)

    def failures_of(self, about: str) -> Failures:
        """Those of a part of a job, whose other parts go on: an alarm once it has failed for minutes."""
        return self._failures.setdefault(about, Failures(self.alarms, about))

    @property
    def known_parties(self) -> KnownParties:
        return KnownParties(self.database, self.peers.compliance.batch_get_clearances)
