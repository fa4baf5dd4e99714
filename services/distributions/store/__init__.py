"""Write-side SQL: rows in, rows and domain values out.

Locks are FOR NO KEY UPDATE, and whoever locks anything of an offering locks the offering first (a saga before it).
So no two transactions wait for each other.
"""
