"""The rules of moving money: no I/O, no clock, no protobuf."""
