"""Fine-tuning: the stage that trains a network on after it was pruned."""

from __future__ import annotations

from methods.base import Budget, Stage
from methods.core.errors import UserError

#: Name of the stage that trains the network on after pruning.
FINETUNE = "finetune"


def with_finetuning(budget: Budget, share: float, option: str) -> list[Stage]:
    """Return two stages, of which the second is fine-tuning after pruning.

    Parameters
    ----------
    budget
        Length of training.
    share
        Share of the epochs for fine-tuning; at least one epoch is taken.
    option
        Option that asks for fine-tuning, for the error message.

    Raises
    ------
    UserError
        If there are fewer than two epochs.
    """
    if budget.epochs < 2:
        raise UserError(f"{option} needs at least two epochs: one to train, one to fine-tune")
    after = min(max(round(share * budget.epochs), 1), budget.epochs - 1)
    return [Stage("train", budget.epochs - after), Stage(FINETUNE, after, start="keep")]
