"""Reads of the book: SQL to messages, past the domain."""
