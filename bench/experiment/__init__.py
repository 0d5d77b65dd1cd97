"""Describe a run as a value: its settings and id, recipes, how it is executed, and its data and network."""
