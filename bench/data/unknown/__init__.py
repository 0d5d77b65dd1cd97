"""Make inputs that belong to no class of a data set: one kind of them in each file.

Each function here returns an ``Unknown`` for ``Dataset.unknown``, or is one itself.
"""
