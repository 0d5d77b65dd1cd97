"""Basics of every method: options, the registry, errors, random streams, forward passes, contractions."""
