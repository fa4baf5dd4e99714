"""A whole instance on one machine, from wheels alone: PostgreSQL, NATS, the services and the gateway one supervisor."""
