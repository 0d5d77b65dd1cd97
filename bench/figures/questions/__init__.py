"""Charts and sentences that answer the question of a suite: responses to settings, rest, comparisons."""
