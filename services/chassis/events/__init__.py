"""Events out and in over NATS JetStream."""
