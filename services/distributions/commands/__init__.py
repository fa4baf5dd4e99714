"""Writes: load, rule, write, publish, inside the caller's transaction; and the steps of sagas between transactions."""
