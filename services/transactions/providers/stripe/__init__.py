"""Stripe: draws ACH debits as PaymentIntents, answers questions, sends webhooks (docs/providers.md)."""

NAME = "stripe"
