"""A method, a criterion, a data set and a network, a file each; pyproject.toml registers them."""
