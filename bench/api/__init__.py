"""The Python interface that ``bench`` exports: train a run, plan and compute a suite, read tables."""
