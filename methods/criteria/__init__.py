"""Removal criteria: how important a weight is."""
