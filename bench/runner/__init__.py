"""Compute one run from its folder to its results: attempt, execution, provenance and measured costs."""
