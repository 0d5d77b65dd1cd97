"""Score a trained network: predictions, metrics and temperature scaling."""
