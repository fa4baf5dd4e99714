"""The write side's SQL: rows in, domain values out."""
