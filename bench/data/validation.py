"""Check what a data set loaded before anything is trained on it: parts, labels, inputs, statistics.

Each fault is a ``UserError`` of one line that names the data set, the part, the index and the remedy. The
checks read each tensor about once; uint8 images are not read at all.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from bench.data.fingerprint import row_bytes
from methods.core import global_generators
from methods.core.errors import UserError

if TYPE_CHECKING:
    from bench.data.base import Dataset, Split, Splits

#: Number of examples of each part that are prepared for the network, to see whether that works.
_PREPARED = 16
#: Standard deviation relative to the mean below which rounding may hide that a feature is constant.
_ROUNDING = 1e-3


def checked(name: str, splits: Splits) -> Splits:
    """Check the parts of a data set, and return them with labels of type int64.

    Parameters
    ----------
    name
        Name of the data set, for messages.
    splits
        What its ``load`` returned.

    Raises
    ------
    UserError
        A part is no part or is empty, a label is no class, or an input is not finite.
    """
    loaded: Any = splits
    if not hasattr(loaded, "train") or not hasattr(loaded, "classes"):
        raise _fault(name, f"load returns {type(loaded).__name__}; return bench.data.Splits")
    classes: Any = splits.classes
    if type(classes) is not int or classes < 1:
        raise _fault(name, f"classes is {classes!r}; valid: a whole number from 1 on, labels being 0, 1, …")
    found: dict[str, Any] = {
        part: _checked_part(f"{name}: {part}", split, classes)
        for part, split in _parts(splits)
        if split is not None or part != "val"
    }
    shape = found["train"].inputs.shape[1:]
    for part, split in found.items():
        if split.inputs.shape[1:] != shape:
            raise _fault(
                f"{name}: {part}",
                f"inputs of one example have shape {tuple(split.inputs.shape[1:])}, those of train "
                f"{tuple(shape)}; all parts need the same shape",
            )
    return replace(splits, **found)


def _parts(splits: Splits) -> Iterator[tuple[str, Any]]:
    for part in ("train", "val", "test"):
        yield part, getattr(splits, part)


def _fault(place: str, words: str) -> UserError:
    return UserError(f"data set {place}: {words}")


def _checked_part(place: str, split: Any, classes: int) -> Split:
    for name in ("inputs", "labels"):
        value = getattr(split, name, None)
        if not isinstance(value, torch.Tensor):
            kind = type(split if value is None else value).__name__
            raise _fault(place, f"{name} are of type {kind}; give Split(inputs, labels) of torch tensors")
    inputs, labels = split.inputs, split.labels
    if labels.dim() != 1:
        columns = labels.dim() == 2 and labels.shape[1] > 1
        remedy = "one-hot rows become classes by labels.argmax(1)" if columns else "use labels.flatten()"
        raise _fault(place, f"labels have shape {tuple(labels.shape)}, not (N,); {remedy}")
    if inputs.dim() == 0 or len(inputs) != len(labels):
        given = len(inputs) if inputs.dim() else 0
        at = min(given, len(labels))
        missing = "label" if given > len(labels) else "input"
        raise _fault(
            place, f"{given} inputs and {len(labels)} labels; example {at} has no {missing}: give one of each"
        )
    if len(labels) == 0:
        remedy = "set val to None if there is none" if place.endswith(": val") else "it needs an example"
        raise _fault(place, f"has no examples; {remedy}")
    if inputs.numel() == 0:
        raise _fault(place, f"inputs have shape {tuple(inputs.shape)}, so an example has no number in it")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise _fault(place, f"labels are {labels.dtype}, not integers; use labels.long() if they are classes")
    _require_classes(place, labels, classes)
    _require_finite(place, "inputs", inputs, "drop such examples, or fill the gaps before the split")
    return replace(split, labels=labels.long())


def _require_classes(place: str, labels: torch.Tensor, classes: int) -> None:
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest >= 0 and highest < classes:
        return
    wrong = int(((labels < 0) | (labels >= classes)).nonzero()[0])
    if lowest >= 1 and highest == classes:
        remedy = "they count from 1: use labels - 1"
    elif lowest < 0:
        remedy = "drop examples without a label, and number classes from 0"
    else:
        remedy = f"set classes to {highest + 1}, or number classes from 0 without gaps"
    raise _fault(
        place,
        f"labels[{wrong}] is {int(labels[wrong])}; valid: 0 to {classes - 1} (classes {classes}); {remedy}",
    )


def _require_finite(place: str, name: str, values: torch.Tensor, remedy: str) -> None:
    if not (values.is_floating_point() or values.is_complex()) or bool(values.isfinite().all()):
        return
    wrong = (~values.isfinite()).nonzero()
    at = wrong[0].tolist()
    others = f", and {len(wrong) - 1} more numbers are not finite" if len(wrong) > 1 else ""
    value = values[tuple(at)].item()
    raise _fault(place, f"{name}{at if at else ''} is {value}{others}; {remedy}")


def standardising(name: str, splits: Splits) -> Splits:
    """Check mean and standard deviation, and return them so that constant features become 0.

    A feature or channel that has one value in the whole training part gets that value as mean and 1 as
    standard deviation, as in scikit-learn's ``StandardScaler``. All others keep theirs.

    Parameters
    ----------
    name
        Name of the data set, for messages.
    splits
        Checked parts, with statistics.

    Raises
    ------
    UserError
        A statistic is not finite, or a standard deviation is negative, or 0 where inputs vary.
    """
    mean, std, inputs = splits.mean, splits.std, splits.train.inputs
    for key, value in (("mean", mean), ("std", std)):
        if not isinstance(value, torch.Tensor):
            raise _fault(name, f"{key} is of type {type(value).__name__}; it must be a tensor")
        remedy = "statistics(train) must return a finite mean and std"
        _require_finite(name, key, value, remedy)
    if bool((std < 0).any()):
        at = (std < 0).nonzero()[0].tolist()
        raise _fault(name, f"std{at if at else ''} is {std[tuple(at)].item():g}; it can't be negative")
    if not bool((std <= _ROUNDING * mean.abs()).any()):
        return splits
    one = (1, *inputs.shape[1:])
    try:
        mean, std = torch.broadcast_tensors(mean, std)
        fits = torch.broadcast_shapes(std.shape, one) == one
    except RuntimeError:
        fits = False
    if not fits:  # an own `prepare` may still use them
        return splits
    wide = (1,) * (len(one) - std.dim()) + tuple(std.shape)
    over = [axis for axis, size in enumerate(wide) if size == 1]
    low = inputs.amin(over, keepdim=True).reshape(std.shape)
    constant = low == inputs.amax(over, keepdim=True).reshape(std.shape)
    if bool((varies := (std == 0) & ~constant).any()):
        at = varies.nonzero()[0].tolist()
        raise _fault(name, f"std{at if at else ''} is 0, but inputs vary there; give the one of inputs")
    if not bool(constant.any()):
        return splits
    return replace(splits, mean=torch.where(constant, low, mean), std=torch.where(constant, 1, std))


def require_prepared(name: str, dataset: Dataset, splits: Splits) -> None:
    """Prepare some examples of each part, with and without augmentation, and check what networks would get.

    Parameters
    ----------
    name
        Name of the data set, for messages.
    dataset
        The data set.
    splits
        Its checked parts.

    Raises
    ------
    UserError
        ``prepare`` does not return finite floating-point inputs of the shape that was loaded.
    """
    for part, split in _parts(splits):
        if split is None:
            continue
        inputs = split.inputs[:_PREPARED]
        streams = (None, torch.Generator().manual_seed(0)) if part == "train" else (None,)
        for stream in streams:
            require_prepared_batch(f"{name}: {part}", dataset, inputs, splits, stream)


def require_prepared_batch(
    place: str, dataset: Dataset, inputs: torch.Tensor, splits: Splits, stream: torch.Generator | None
) -> None:
    """Prepare a batch and check the result; see ``require_prepared``."""
    try:
        with global_generators.restored():
            found: Any = dataset.prepare(inputs, splits, stream)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        shapes = f"mean {tuple(splits.mean.shape)}, std {tuple(splits.std.shape)}"
        raise _fault(place, f"prepare fails on inputs {tuple(inputs.shape)}, {shapes}: {reason}") from None
    if not isinstance(found, torch.Tensor) or not found.is_floating_point():
        kind = str(found.dtype) if isinstance(found, torch.Tensor) else type(found).__name__
        raise _fault(place, f"prepare returns {kind}; it must return a floating-point tensor")
    if found.shape != inputs.shape:
        raise _fault(
            place,
            f"prepare turns inputs of shape {tuple(inputs.shape)} into {tuple(found.shape)}; mean and std "
            "must broadcast against a batch, and another shape is made in load",
        )
    _require_finite(place, "prepared inputs", found, "mend prepare, or the statistics that it uses")


def require_unknown(name: str, chosen: str, found: Any, splits: Splits) -> None:
    """Check the inputs of an unknown set.

    Parameters
    ----------
    name, chosen
        Names of the data set and of its unknown set, for messages.
    found
        What the function of ``Dataset.unknown`` returned.
    splits
        The parts of the data set.

    Raises
    ------
    UserError
        They are not finite inputs (M, ...) of the shape and dtype of the test part, or there are none.
    """
    place = f"{name}: unknown set {chosen}"
    _require_like(place, found, splits.test.inputs, "M")
    if len(found) == 0:
        raise _fault(place, "has no inputs")
    _require_finite(place, "inputs", found, "drop such inputs")


def require_shifted(name: str, chosen: str, found: Any, batch: torch.Tensor) -> None:
    """Check a shifted batch.

    Parameters
    ----------
    name, chosen
        Names of the data set and of the shift, for messages.
    found
        What the function of ``Dataset.shifts`` returned.
    batch
        The batch that it was given.

    Raises
    ------
    UserError
        It is not finite, or has not the shape and dtype of the batch.
    """
    place = f"{name}: shift {chosen}"
    _require_like(place, found, batch, len(batch))
    _require_finite(place, "inputs", found, "a shift must keep inputs finite")


def _require_like(place: str, found: Any, stored: torch.Tensor, count: int | str) -> None:
    """Raise a ``UserError`` unless ``found`` has examples like those of ``stored``, and ``count`` of them."""
    if not isinstance(found, torch.Tensor):
        raise _fault(place, f"inputs are of type {type(found).__name__}; they must be a tensor")
    example, size = tuple(stored.shape[1:]), tuple(found.shape[:1])
    right = (tuple(found.shape[1:]), found.dtype) == (example, stored.dtype) and size != ()
    if not right or (isinstance(count, int) and size != (count,)):
        wanted = ", ".join(map(str, (count, *example)))
        given = f"{found.dtype} of shape {tuple(found.shape)}"
        raise _fault(place, f"inputs are {given}, not {stored.dtype} of shape ({wanted}) as stored ones")


def warnings(name: str, splits: Splits) -> list[str]:
    """Return one line for each thing that is suspicious, but may be meant.

    Parameters
    ----------
    name
        Name of the data set, for messages.
    splits
        Its checked parts.

    Returns
    -------
    list
        Parts that share rows, and classes without a training example.
    """
    lines = []
    present = splits.train.labels.bincount(minlength=splits.classes)
    if absent := (present == 0).nonzero().flatten().tolist():
        named = ", ".join(map(str, absent[:5])) + (", …" if len(absent) > 5 else "")
        lines.append(
            f"data set {name}: train: no example of {len(absent)} of the {splits.classes} classes ({named}): "
            "do labels count from 0?"
        )
    dtype = splits.train.inputs.dtype
    rows = {part: _digests(split.inputs.to(dtype)) for part, split in _parts(splits) if split is not None}
    for one, other in itertools.combinations(rows, 2):
        where = {digest: number for number, digest in reversed(list(enumerate(rows[one])))}
        both = [number for number, digest in enumerate(rows[other]) if digest in where]
        if both:
            count = "all" if len(both) == len(rows[other]) else f"{len(both)} of"
            example = f"{other}[{both[0]}] is {one}[{where[rows[other][both[0]]]}]"
            lines.append(
                f"data set {name}: {other}: {count} {len(rows[other])} rows are also in {one} ({example}): "
                "draw disjoint parts, or drop duplicates"
            )
    return lines


def _digests(inputs: torch.Tensor) -> list[bytes]:
    return [hashlib.blake2b(row, digest_size=8).digest() for row in row_bytes(inputs)]
