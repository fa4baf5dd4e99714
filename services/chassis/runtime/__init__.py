"""A service's process, put together: checks before it serves, the gRPC server, how it runs and ends."""
