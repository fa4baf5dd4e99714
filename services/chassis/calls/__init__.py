"""gRPC in and out: who calls, what may be called, how a failure is told."""
