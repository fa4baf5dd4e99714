"""How messages are spelled in JSON, one dialect for REST and for what is stored and hashed; what of them is told."""
