"""What drives a running instance from outside, over REST: shared by the demo and the end-to-end tests."""


class HarnessError(Exception):
    """The instance did not do what whoever drives it needs; the message says what it did."""
