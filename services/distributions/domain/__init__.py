"""The rules of distributions and closings: pure, readable aloud, without I/O or a clock."""
