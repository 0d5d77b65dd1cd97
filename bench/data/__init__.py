"""The data sets, and what one of your own is made with: ``from bench.data import Dataset, Split, Splits``."""

from bench.data.base import Dataset, DatasetOptions, Split, Splits
from bench.data.shifts.tables import table_shifts
from bench.data.splitting import stratified
from bench.data.unknown.tables import table_sets

__all__ = ["Dataset", "DatasetOptions", "Split", "Splits", "stratified", "table_sets", "table_shifts"]
