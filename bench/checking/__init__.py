"""The checks of ``bench.check``: a method is trained on small problems and compared with its contract."""
