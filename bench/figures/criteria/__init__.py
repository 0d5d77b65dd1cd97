"""Charts about removal criteria: paired differences, removed sets and scores of weights."""
