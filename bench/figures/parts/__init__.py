"""The parts that charts share: axes, dots, panels, curves, bands, and names of configurations."""
