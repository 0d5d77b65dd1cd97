"""Draw and tell what happens while runs train: convergence, updates, the dimension, and coming to rest."""
