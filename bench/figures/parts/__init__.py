"""What charts are made of: axes, dots, panels, curves, bands and choices."""
