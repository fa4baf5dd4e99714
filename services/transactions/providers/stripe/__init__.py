"""Stripe: draws ACH debits, takes cards on pages of its own, answers questions, sends webhooks (docs/providers.md)."""

NAME = "stripe"
