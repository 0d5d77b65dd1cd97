"""Check the stored model: its size, and that it predicts as the trained one did."""

from __future__ import annotations

import numpy as np
import torch

from bench.checking.trial import Trial, results
from bench.checking.verdicts import Failed
from bench.evaluation.evaluate import fixed_draws
from bench.results.predictions import PREDICTIONS
from bench.training import checkpoints, packed_model

#: Bytes that a stored model may take for an active weight (four values of 4 bytes), and for each other
#: parameter. One bit for each weight of a kernel may be added, for the positions of the active ones.
STORED_PER_WEIGHT, STORED_PER_OTHER = 16, 16
#: Bytes of each number that the method collects for a weight (``Method.held_per_weight``).
STORED_BY_METHOD = 4


@torch.no_grad()
def packed(trial: Trial) -> str:
    """Check that the stored model has the size of the active weights, and predicts the same."""
    module = trial.stored()
    counts = trial.problem.method.counts(module)
    content = checkpoints.load(trial.first.path / packed_model.MODEL)
    # beside the bytes of a tensor, which begin at a multiple of 64, the archive has a record for it
    tensors = {name: value for name, value in content.items() if not packed_model.is_extra(name)}
    empty = {name: tensor.new_empty(0) for name, tensor in tensors.items()}
    archive = len(packed_model.to_bytes(content | empty))
    size = trial.cost("checkpoint_bytes") - archive
    own = STORED_BY_METHOD * trial.problem.method.held_per_weight()
    limit = (STORED_PER_WEIGHT + own) * counts.active + counts.kernel // 8
    limit += (STORED_PER_OTHER + own) * counts.other
    if size > limit + 64 * len(content):
        largest = sorted(tensors, key=lambda name: -tensors[name].nbytes)[:3]
        raise Failed(
            f"{packed_model.MODEL} holds {size} bytes; {counts.active} active weights allow {limit}: "
            f"{', '.join(f'{name} ({tensors[name].nbytes})' for name in largest)}, ..."
        )
    _require_unchanged(trial)
    each = size / max(counts.active, 1)
    return f"{each:.1f} bytes an active weight are stored, and predict as the trained model did"


def _require_unchanged(trial: Trial) -> None:
    """Raise ``Failed`` if the stored model predicts otherwise than the trained one did.

    The mean network is compared; without one, the draws that scored the run.
    """
    module = trial.stored()
    stage = trial.problem.method.stages(trial.problem.budget)[-1]
    mean, inputs = trial.problem.method.mean(module), trial.inputs()

    def probabilities() -> np.ndarray:
        predictors = [mean] if mean is not None else fixed_draws(trial.problem, module, stage)
        found: np.ndarray = (
            torch.stack([predict(inputs).softmax(-1) for predict in predictors]).mean(0).numpy()
        )
        return found

    again = probabilities()
    if not np.array_equal(again, probabilities()):
        return  # the check `draws` reports draws that change
    name = f"{PREDICTIONS} {'samples' if mean is None else 'mean'}/probabilities"
    off = np.abs(again - results(trial.first)[name][: len(inputs)]).max()
    if not off < 1e-4:
        raise Failed(
            f"the stored model gives other probabilities than the trained one (by {off:.2g}): pack leaves "
            "out something that predictions need"
        )
