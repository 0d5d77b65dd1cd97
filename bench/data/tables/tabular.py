"""Give data sets whose examples are rows of a table their unknown and shifted inputs."""

from __future__ import annotations

from collections.abc import Mapping

from bench.data.base import Dataset, Shift, Unknown
from bench.data.shifts.tables import table_shifts
from bench.data.unknown.tables import table_sets


class Tabular(Dataset):
    """Base class of tables: a row is an example, a column a feature."""

    def unknown(self) -> Mapping[str, Unknown]:
        """Return rows whose columns are shuffled or permuted, and noise."""
        return table_sets()

    def shifts(self) -> Mapping[str, Shift]:
        """Return additive noise, missing features and scaled features."""
        return table_shifts()
