"""What any process is made of: settings, telemetry, health, jobs and other loops, how it is stopped."""
