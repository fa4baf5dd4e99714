"""Stripe: its webhooks are proved and stored. Applying them is for the day payments go through Stripe."""

NAME = "stripe"
