"""The network architectures, one file each, and what they share."""
