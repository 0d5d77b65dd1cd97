"""The tables of a suite: define columns, read run folders, and build, store and update the tables."""
