"""Read four tables of gene expression: 62 to 102 samples of 2,000 to 7,129 genes.

They are files of numpy's ``npz`` format in ``gene-expression/`` of the data folder (see
``bench.data.files.data_root``), with the arrays that ``bench.data.tables.npz`` describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from bench.data.files import data_root
from bench.data.tables.npz import read
from bench.data.tables.resampling import Resampled, ResamplingOptions, Rows
from bench.data.tables.tabular import Tabular
from methods.core.errors import UserError
from methods.core.options import option


@dataclass(frozen=True)
class GeneOptions(ResamplingOptions):
    """Options of a table that holds intensities or their logarithms."""

    logarithm: bool = option(True, "take the logarithm of tables that hold raw intensities")


class GeneExpression(Tabular, Resampled):
    """Base class of a table of gene expression.

    Features are genes. Each is standardised by the training rows alone.
    """

    Options = GeneOptions

    #: Name of the file.
    file: ClassVar[str]
    #: Lowest and highest intensity, between which values are clipped before the logarithm to base 2; None for
    #: tables of logarithms.
    intensities: ClassVar[tuple[float, float] | None] = None

    def rows(self) -> Rows:
        """Return the samples in the order of the file.

        Raises
        ------
        UserError
            The file is missing or damaged.
        """
        path = data_root() / "gene-expression" / self.file
        if not path.is_file():
            raise UserError(
                f"data set {self.name}: no file gene-expression/{self.file} in {data_root()}; set "
                "BENCH_DATA_ROOT to the folder that has it"
            )
        found = read(path, f"data set {self.name}")
        if self.intensities is None or not self.options.logarithm:
            return found
        return Rows(found.inputs.clip(*self.intensities).log2(), found.labels, found.classes, found.tested)


class Golub(GeneExpression):
    """Leukaemia, ALL or AML: 72 samples of 7,129 genes (Golub et al. 1999)."""

    name = "golub"
    file = "golub_leukemia_72x7129.npz"
    known, known_tested = (72, 2, (7129,)), 34
    # Dudoit, Fridlyand & Speed 2002
    intensities = (100.0, 16_000.0)


class Alon(GeneExpression):
    """Colon tissue, normal or tumour: 62 samples of 2,000 genes (Alon et al. 1999)."""

    name = "alon"
    file = "alon_colon_62x2000.npz"
    known = (62, 2, (2000,))
    intensities = (1.0, torch.inf)


class Khan(GeneExpression):
    """Small round blue-cell tumours of four kinds: 83 samples of 2,308 genes (Khan et al. 2001)."""

    name = "khan"
    file = "khan_srbct_83x2308.npz"
    known, known_tested = (83, 4, (2308,)), 20


class Singh(GeneExpression):
    """Prostate tissue, healthy or cancer: 102 samples of 6,033 genes (Singh et al. 2002)."""

    name = "singh"
    file = "singh_prostate_102x6033.npz"
    known = (102, 2, (6033,))
