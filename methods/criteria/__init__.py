"""Removal criteria, a file each: by which score weights are kept."""
