"""Checks of the parts of a run other than its method: criteria, data sets, networks."""
