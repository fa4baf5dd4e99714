"""The book's SQL for writing: rows in, domain values out. What changes balances or holds goes through its functions."""
