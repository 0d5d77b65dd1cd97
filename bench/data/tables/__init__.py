"""Data sets whose rows are resampled: tables of features, files of the user, simulated problems, pixels."""

from bench.data.tables.gene_expression import Alon, Golub, Khan, Singh
from bench.data.tables.npz import Npz
from bench.data.tables.openml import OpenML
from bench.data.tables.pixels import IndianPines
from bench.data.tables.planted import Planted

__all__ = ["Alon", "Golub", "IndianPines", "Khan", "Npz", "OpenML", "Planted", "Singh"]
