"""Raises: offerings from opening to closing or refund, and the investments in them."""
