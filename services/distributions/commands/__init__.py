"""Writes: load, rule, save, enqueue, inside the caller's transaction; and the sagas' steps between transactions."""
