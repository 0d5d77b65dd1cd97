"""A run as a value: its settings and id, recipes, how it is executed, and what it works on."""
