"""What moves transactions without a request: one job a file. Each does one bounded batch and says how much it did.

A job commits what it intends before it asks anybody, and what it learned afterwards. What it takes is leased
(services/chassis/data/leases.py), so what a crash left is taken again (reliability rule c23). To find or take work
spans organizations; the work itself is one transaction an organization.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from services.chassis.process.jobs import WORK_SECONDS, Job
from services.transactions.dependencies import Dependencies
from services.transactions.jobs.apply_webhooks import apply_webhooks
from services.transactions.jobs.book_payouts import book_payouts
from services.transactions.jobs.end_return_risk import end_return_risk
from services.transactions.jobs.evaluate_initiated import evaluate_initiated
from services.transactions.jobs.forget_webhook_bodies import forget_webhook_bodies
from services.transactions.jobs.look_up import look_up_settled, look_up_submitted
from services.transactions.jobs.make_final import make_final
from services.transactions.jobs.queue_retries import queue_retries
from services.transactions.jobs.start_queued import start_queued
from services.transactions.jobs.submit_payments import submit_payments
from services.transactions.store import transactions, webhooks

_Work = Callable[[Dependencies], Awaitable[int]]

# What goes on with a transaction, each step with what the one before left to do.
STEPS: tuple[_Work, ...] = (
    evaluate_initiated,
    start_queued,
    book_payouts,
    submit_payments,
    apply_webhooks,
)
# What time makes due, and how often it is looked for.
TIMERS: Mapping[_Work, float] = {
    queue_retries: WORK_SECONDS,
    look_up_submitted: WORK_SECONDS,
    look_up_settled: 5.0,  # nobody waits for a payment that may come back late
    end_return_risk: WORK_SECONDS,
    make_final: WORK_SECONDS,
    forget_webhook_bodies: 3600.0,
}


# Looked at by `watch_overdue`.
WORK = (
    transactions.UNMOVED,
    transactions.UNSETTLED,
    transactions.RETRY_DUE,
    transactions.RETURN_RISK_OVER,
    transactions.FINALITY_DUE,
    webhooks.UNAPPLIED,
)


def build_jobs(dependencies: Dependencies) -> list[Job]:
    steps = [Job(job.__name__, partial(job, dependencies), WORK_SECONDS, follows_work=True) for job in STEPS]
    return steps + [Job(job.__name__, partial(job, dependencies), seconds) for job, seconds in TIMERS.items()]
