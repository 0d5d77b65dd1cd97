"""Example plug-ins: a method, a criterion, a data set and a network; pyproject.toml registers them."""
