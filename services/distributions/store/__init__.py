"""Write-side SQL: rows in, rows and domain values out."""
