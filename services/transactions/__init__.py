"""How money moves: the transactions service."""
