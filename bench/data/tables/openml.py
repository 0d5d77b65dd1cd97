"""Read any classification table of OpenML through scikit-learn, which keeps downloads in the data folder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.error import URLError

import numpy as np
import torch

from bench.data.files import data_root
from bench.data.tables.npz import numbered
from bench.data.tables.resampling import Resampled, ResamplingOptions, Rows
from methods.core.errors import UserError
from methods.core.options import option


@dataclass(frozen=True)
class OpenMLOptions(ResamplingOptions):
    """Options that name a table: by its id, or by name and version."""

    id: int = option(0, "OpenML's number of the data set; 0 if it is named", within="[0, inf)")
    table: str = option("", "OpenML's name of the data set; empty if the id is given")
    table_version: int = option(1, "version of the named data set", within="[1, inf)")
    target: str = option("", "column that holds the classes; empty for the one that OpenML names")

    def __post_init__(self) -> None:
        if self.id and self.table:
            raise UserError(f"id {self.id} and table {self.table!r}: give one of them")


class OpenML(Resampled):
    """A classification table of openml.org, named by ``dataset.id`` or ``dataset.table``.

    Numbers are features as they are; a category becomes one feature of 0 and 1 for each of its values.
    Missing numbers become the mean of the training rows, a missing category is 0 in all its features.
    """

    name = "openml"
    Options = OpenMLOptions

    def rows(self) -> Rows:
        """Return the rows in OpenML's order.

        Raises
        ------
        UserError
            The table is not there or cannot be fetched, is no classification, or has columns of text.
        """
        chosen = self.options
        if not chosen.id and not chosen.table:
            raise UserError("data set openml: set dataset.id, or dataset.table and dataset.table_version")
        return _rows(chosen.id, chosen.table, chosen.table_version, chosen.target, str(data_root()))


@lru_cache(maxsize=2)
def _rows(number: int, table: str, version: int, target: str, folder: str) -> Rows:
    place = f"data set openml: {number or f'{table} (version {version})'}"
    found = _fetched(number, table, version, target, folder, place)
    if found.target is None or getattr(found.target, "ndim", 1) != 1:
        raise UserError(f"{place}: names no single column of classes; set dataset.target to one")
    inputs = _features(found.data, place)
    labels = found.target
    if bool(np.asarray(labels.isna() if hasattr(labels, "isna") else labels != labels).any()):
        raise UserError(f"{place}: column {found.target_names[0]!r} of classes has missing values")
    plain = np.asarray(labels)
    plain = plain.astype(str) if plain.dtype == object else plain
    whole, classes = numbered(plain, f"{place}: column {found.target_names[0]!r}")
    return Rows(torch.from_numpy(inputs), whole, classes)


def _fetched(number: int, table: str, version: int, target: str, folder: str, place: str) -> Any:
    from sklearn.datasets import fetch_openml  # imported here since it takes seconds

    named: dict[str, Any] = {"data_id": number} if number else {"name": table, "version": version}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fetch_openml(
                **named,
                target_column=target or "default-target",
                data_home=folder,
                n_retries=1,
                delay=0.2,
            )
    except KeyError as error:
        if "target_column" not in str(error):
            raise UserError(f"{place}: its description has no {error}") from None
        raise UserError(f"{place}: has no column {target!r}; dataset.target must name one") from None
    except (URLError, OSError) as error:
        if getattr(error, "code", None) in (404, 412):
            raise UserError(f"{place}: openml.org has no such data set") from None
        raise UserError(
            f"{place}: is not in {folder}/openml, and openml.org cannot be reached "
            f"({getattr(error, 'reason', error)}); fetch it once where there is a network"
        ) from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        if "not found" in reason or reason.startswith("No "):
            raise UserError(f"{place}: openml.org has no such data set") from None
        raise UserError(f"{place}: {reason[:300]}") from None


def _features(data: Any, place: str) -> np.ndarray:
    """Return the features (N, p), float32: numbers, and a 0 or 1 for each value of a category."""
    if not hasattr(data, "dtypes"):  # a sparse matrix has numbers only
        return np.asarray(data.toarray(), np.float32)
    import pandas as pd

    text = [name for name, kind in data.dtypes.items() if str(kind).startswith(("object", "str"))]
    if text:
        more = f" and {len(text) - 1} more" if len(text) > 1 else ""
        raise UserError(f"{place}: column {text[0]!r}{more} holds text; features are numbers or categories")
    wide = pd.get_dummies(data, columns=[*data.select_dtypes("category").columns], dtype=np.float32)
    return np.ascontiguousarray(wide.to_numpy(np.float32, na_value=np.nan))
