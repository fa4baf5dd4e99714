"""The rules of the book: no I/O, no clock, no protobuf."""
