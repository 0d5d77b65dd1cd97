"""Layers with posteriors: what a network is converted to, how it is computed, and what it costs."""
