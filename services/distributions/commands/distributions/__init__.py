"""Distributions: drafted, calculated, approved, executed."""
