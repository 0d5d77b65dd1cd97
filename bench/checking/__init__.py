"""Check methods, criteria, data sets and networks against their contracts, for ``bench.check``."""
