"""Plaid: its webhooks are proved and stored. Applying them is for the day Plaid moves money."""

NAME = "plaid"
