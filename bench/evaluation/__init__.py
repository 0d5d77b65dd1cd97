"""How a trained network is scored: predictions, metrics and temperature scaling."""
