"""Train a network: the training loop, its checkpoints, and the stored model."""
