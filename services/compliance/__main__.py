"""Starts the compliance service: `python -m services.compliance`."""

from __future__ import annotations

import sys

from services.chassis.approvals.jobs import APPROVAL_WORK, build_approval_jobs
from services.chassis.approvals.service import APPROVALS_SERVICE, ApprovalsServicer
from services.chassis.calls.serving import servers_of
from services.chassis.data.audit import audit_seals
from services.chassis.data.overdue import watch_overdue
from services.chassis.process.main import run
from services.chassis.runtime.runtime import Runtime
from services.compliance.api import (
    ApiKeysServicer,
    ClearancesServicer,
    ComplianceServicer,
    NotaryServicer,
    OwnParties,
    PartiesServicer,
    PersonsServicer,
)
from services.compliance.approvals import build_approvals
from services.compliance.clients import Peers, TransactionsClient
from services.compliance.dependencies import NAME, Dependencies
from services.compliance.inbox import Inbox
from services.compliance.jobs import WORK, build_jobs
from services.compliance.key_tokens import KeyTokens
from services.compliance.settings import Settings
from services.compliance.subscribers import SUBSCRIPTIONS
from services.compliance.tables import metadata


async def main(settings: Settings) -> None:
    async with Runtime.start(NAME, settings) as runtime:
        settings.require("api_token_key_file")
        assert settings.api_token_key_file is not None  # just required
        key_tokens = KeyTokens.load(settings, settings.api_token_key_file)
        peers = Peers(transactions=TransactionsClient(runtime.channel("transactions")))
        dependencies = Dependencies(
            runtime.database, runtime.clock, runtime.work_due, key_tokens=key_tokens, peers=peers
        )
        approvals, own_parties = build_approvals(dependencies), OwnParties(runtime.database, runtime.clock)
        _, *others = servers_of(APPROVALS_SERVICE)
        kept_here = ApprovalsServicer(dependencies, approvals, own_parties)
        inbox = Inbox(kept_here, [runtime.channel(name) for name in others])
        await runtime.serve(
            servicers=[
                ComplianceServicer(dependencies, approvals),
                PartiesServicer(dependencies, approvals),
                ApiKeysServicer(dependencies),
                ClearancesServicer(dependencies),
                PersonsServicer(dependencies),
                NotaryServicer(dependencies),
                inbox,
            ],
            subscriptions=SUBSCRIPTIONS,
            jobs=[
                *build_jobs(dependencies),
                *build_approval_jobs(NAME, dependencies, approvals),
                audit_seals(runtime.database, metadata, runtime.alarms),
                watch_overdue(runtime.database, runtime.clock, runtime.alarms, [*WORK, *APPROVAL_WORK]),
            ],
            parties=own_parties,
            # Each write of a person asks here whether its session is good.
            answers_for_persons=True,
        )


if __name__ == "__main__":
    sys.exit(run(main, Settings))
