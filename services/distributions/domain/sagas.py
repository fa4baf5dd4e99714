"""What goes on step by step, in this service and others, until it is done."""

from __future__ import annotations

from enum import Enum


class SagaKind(Enum):
    CLOSING = "CLOSING"
    REFUND = "REFUND"
    EXECUTION = "EXECUTION"
    RESEND = "RESEND"
