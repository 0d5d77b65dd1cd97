"""The training loop, its checkpoints, and the packed model that is left."""
