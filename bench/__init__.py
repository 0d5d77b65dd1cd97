"""How methods are compared. From Python, ``bench.load`` gives the model that a run has trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.training.trained_model import Model


# Threads that wait for others by spinning take the cores that those need: where cores are shared, a step of
# two threads took ten times as long. It must be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def load(run_id: str, results: str | Path = "results", device: str = "cpu") -> Model:
    """The model that the finished run ``run_id`` of a results folder has stored, to predict with.

    Needs no data set; nothing in the folder is executed. Raises ``StoreError`` when there is no
    such run, it is not done or a file of it is damaged, and ``UserError`` when its method or
    network is unknown here, or at another version; either says so in one line.
    """
    from bench.training.trained_model import load_model  # here, so that importing this package needs no torch

    return load_model(run_id, results, device)
