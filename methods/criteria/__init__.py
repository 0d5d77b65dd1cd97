"""The removal criteria, a file each: a criterion computes the score by which weights are kept or removed."""
