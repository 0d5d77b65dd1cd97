"""The data sets, and what one of your own is made with: ``from bench.data import Dataset, Split, Splits``."""

from bench.data.base import Dataset, DatasetOptions, Split, Splits
from bench.data.splitting import stratified

__all__ = ["Dataset", "DatasetOptions", "Split", "Splits", "stratified"]
