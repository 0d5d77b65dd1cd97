"""Draw charts about removal criteria: paired differences, sets of removed weights, and scores of weights."""
