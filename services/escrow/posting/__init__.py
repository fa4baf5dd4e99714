"""The one way of this service into the book: group_commit collects what waits, booking books a batch of it."""
