"""Which weights are active: removing and adding slots, pruning, allocation to layers, and records of it."""
