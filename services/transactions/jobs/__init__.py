"""What moves transactions without a request: one job a file. Each does one bounded batch and says how much it did.

A job commits what it intends before it asks anybody, and what it learned afterwards. What it takes is leased
(services/chassis/data/leases.py), so what a crash left is taken again (reliability rule c23). To find or take work
spans organizations; the work itself is one transaction an organization.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import sqlalchemy as sa

from services.chassis.process.jobs import Job
from services.transactions.dependencies import Dependencies
from services.transactions.jobs.apply_webhooks import TAKING_WEBHOOKS, apply_webhooks
from services.transactions.jobs.book_payouts import NOT_BOOKED, book_payouts
from services.transactions.jobs.end_announcements import end_announcements
from services.transactions.jobs.evaluate_initiated import INITIATED, evaluate_initiated
from services.transactions.jobs.forget_webhook_bodies import forget_webhook_bodies
from services.transactions.jobs.look_up_submitted import SUBMITTED, look_up_submitted
from services.transactions.jobs.queue_retries import queue_retries
from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.jobs.read_provider_events import read_provider_events
from services.transactions.jobs.read_sweeps import read_sweeps
from services.transactions.jobs.start_queued import QUEUED, start_queued
from services.transactions.jobs.submit_payments import READY, submit_payments
from services.transactions.jobs.watch_ach_files import watch_ach_files
from services.transactions.jobs.watch_return_rates import watch_return_rates
from services.transactions.jobs.watch_settled import WATCHED, watch_settled
from services.transactions.jobs.write_ach_files import write_ach_files
from services.transactions.store import transactions, webhooks

_Work = Callable[[Dependencies], Awaitable[int]]

# What goes on with transactions, and in how many seconds there are any to go on with.
STEPS: Mapping[_Work, sa.ColumnElement[float]] = {
    evaluate_initiated: INITIATED.first_due,
    start_queued: QUEUED.first_due,
    book_payouts: NOT_BOOKED.first_due,
    submit_payments: READY.first_due,
    apply_webhooks: TAKING_WEBHOOKS.first_due,
    queue_retries: transactions.RETRY_DUE.first_due,
    look_up_submitted: SUBMITTED.first_due,
    end_announcements: transactions.ANNOUNCEMENT_DUE.first_due,
    watch_settled: WATCHED.first_due,
}
# What no commit makes due, and how often it is done.
TIMERS: Mapping[_Work, float] = {
    forget_webhook_bodies: 3600.0,
    # Where this process makes files at all.
    write_ach_files: 60.0,
    watch_ach_files: 60.0,
    read_ach_files: 60.0,
    # Where this process orders there; a webhook has it done at once.
    read_provider_events: 60.0,
    watch_return_rates: 3600.0,
    read_sweeps: 3600.0,
}


# Looked at by `watch_overdue`.
WORK = (
    transactions.UNMOVED,
    transactions.UNSETTLED,
    transactions.RETRY_DUE,
    transactions.ANNOUNCEMENT_DUE,
    transactions.LOOK_DUE,
    webhooks.NOT_APPLIED,
)


def build_jobs(dependencies: Dependencies) -> list[Job]:
    steps = [Job(step.__name__, partial(step, dependencies), work=work) for step, work in STEPS.items()]
    return steps + [Job(timer.__name__, partial(timer, dependencies), seconds) for timer, seconds in TIMERS.items()]
