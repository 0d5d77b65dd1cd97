"""What to run: suites expanded into plans, filters, estimates, searches and chosen settings."""
