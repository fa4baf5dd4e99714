"""Reads: rows to messages. The organization is the caller's; an investor sees what belongs to its parties."""
