"""Tables of a suite: their columns, what is read of each run, and how they are built, stored and updated."""
