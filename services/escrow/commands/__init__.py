"""Writes: each runs in the caller's transaction."""
