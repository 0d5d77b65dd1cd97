"""Which weights are active: surgery on slots, exchanges, pruning, allocation, and records of them."""
