"""What a process is made of: settings, checks at start, telemetry, timers, its life."""
