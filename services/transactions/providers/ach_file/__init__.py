"""Files of the ACH network, for a bank that takes them: entries wait for the next file, and returns are read from
files that the bank puts into a folder (docs/providers.md)."""

NAME = "ach_file"
