"""The services: each room has the same plan, and none imports another."""
