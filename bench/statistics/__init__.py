"""Statistics over seeds: means and intervals, paired differences, ranks, and tests for small samples."""
