"""Train a network: the loop, its checkpoints, and the stored model."""
