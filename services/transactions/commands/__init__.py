"""Use cases that change something. Each runs inside the caller's transaction, unless it says that it asks a peer."""
