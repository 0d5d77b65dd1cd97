"""Check methods and criteria against their contracts, for ``bench.check``; methods train on small data."""
