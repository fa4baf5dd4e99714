"""Stand-ins for the outside world: reached as the real thing is, over HTTP, and ignorant of our services."""
