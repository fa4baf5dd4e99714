"""The main job end to end, played through REST on a throw-away instance: `make demo`, `python -m demo`."""
