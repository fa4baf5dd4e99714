"""Payouts: asked for, and what became of them."""
