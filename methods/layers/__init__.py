"""Layers with posteriors: how networks are converted to them, how they are computed, what they cost."""
