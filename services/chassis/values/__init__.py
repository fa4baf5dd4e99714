"""Values and pure rules: money, ids, time, errors. No I/O."""
