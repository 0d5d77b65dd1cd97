"""Read and write chosen settings: ``SUITE.tuned.yaml`` beside the suite's file, which ``bench.tune`` writes.

For each scale the file has a list with an entry for each family: the settings that a search chose, how
these and the suite's own settings scored on validation data, and the search that chose them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench.experiment.notation import parse_yaml, read_yaml
from bench.experiment.settings import locate, section_keys, valid_keys
from bench.planning.search_spec import FamilySearch, Search, check_searchable, searchable
from bench.planning.tuning_family import Family, parse_family
from bench.results.files import write_bytes
from methods.core.errors import UserError, unknown
from methods.core.options import option, parse

SUFFIX = ".tuned.yaml"
_HEAD = """\
# Settings chosen on validation data by `python -m bench.tune`, which writes this file (docs/tuning.md).
# Delete an entry, or the file, to be without them. Every trial is in {table}.
"""


@dataclass(frozen=True)
class Record:
    """The settings that a search chose for a family.

    Parameters
    ----------
    family
        The family.
    chosen
        Full key to value.
    metric
        Metric on validation data.
    value, sd
        Mean and standard deviation of the metric over ``final_seeds``, or over ``seeds`` if there are none.
    untuned, untuned_sd
        The same with the suite's own settings; None if that trial failed.
    trial
        Number of the chosen trial.
    trials, failed
        Number of all trials, and of those that did not finish.
    seeds
        Seeds of every trial.
    start
        Id of the configuration that the search started from, the suite's own.
    search
        Digest of the search; None in files from before it was recorded. This and ``start`` show whether the
        suite still declares the same search.
    command
        Command line of the search.
    final_seeds
        Seeds by which the choice was made among the best trials and the suite's own settings; None if the
        trials alone decided.
    choice_sd
        Standard deviation of the best trial's value if as many trials were drawn anew from these; None in
        files from before it was recorded.
    check_loss
        By how much the chosen settings are worse at ``check_at`` than the finalist that is best there; None
        if it was not looked at.
    """

    family: Family
    chosen: dict[str, Any]
    metric: str
    value: float
    sd: float | None
    untuned: float | None
    untuned_sd: float | None
    trial: int
    trials: int
    failed: int
    seeds: tuple[int, ...]
    start: str
    search: str | None
    command: str
    final_seeds: tuple[int, ...] | None = None
    choice_sd: float | None = None
    check_loss: float | None = None

    @property
    def every_seed(self) -> tuple[int, ...]:
        """The seeds of trials and finalists."""
        return (*self.seeds, *(self.final_seeds or ()))


@dataclass(frozen=True)
class Layer:
    """Chosen settings as a layer of an expansion.

    Parameters
    ----------
    settings
        Full key to value.
    where
        The file and the entry, for error messages.
    origin
        The same without the folder, for readers of a plan.
    fair
        Whether the search that the suite declares now chose them, and gave all rivals as many trials.
    """

    settings: dict[str, Any]
    where: str
    origin: str
    fair: bool


@dataclass(frozen=True)
class _Entry:
    """The keys of an entry of the file."""

    method: str | dict[str, Any] = option()
    recipe: str | None = option()
    dataset: str | dict[str, Any] = option()
    network: str | dict[str, Any] = option()
    chosen: dict[str, Any] = option()
    metric: str = option()
    value: float = option()
    sd: float | None = option()
    untuned: float | None = option()
    untuned_sd: float | None = option()
    trial: int = option(within="[0, inf)")
    trials: int = option(within="[1, inf)")
    failed: int = option(within="[0, inf)")
    seeds: tuple[int, ...] = option()
    start: str = option()
    command: str = option()
    search: str | None = option(None)
    final_seeds: tuple[int, ...] | None = option(None)
    choice_sd: float | None = option(None)
    check_loss: float | None = option(None)


_OF_FAMILY = ("method", "recipe", "dataset", "network")
_REST = tuple(field.name for field in fields(Record) if field.name != "family")
#: Keys that are not written where they are None.
_OPTIONAL = ("final_seeds", "choice_sd", "check_loss")


def path_of(suite: Path) -> Path:
    """Return the path of the chosen settings for the suite in the file ``suite``."""
    return suite.with_name(suite.stem + SUFFIX)


def read(path: Path, scales: Sequence[str]) -> dict[str, list[Record]]:
    """Read the chosen settings.

    Parameters
    ----------
    path
        File to read; it need not exist.
    scales
        Names of the suite's scales.

    Returns
    -------
    dict
        Records by scale.

    Raises
    ------
    UserError
        If the file is malformed, or has a key or name that does not exist.
    """
    if not path.exists():
        return {}
    content = read_yaml(path)
    if content is None:  # the last entry was deleted
        return {}
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected scales, each with a list of entries, got {content!r}")
    found: dict[str, list[Record]] = {}
    for scale, entries in content.items():
        if scale not in scales:
            raise unknown("scale", scale, scales, str(path))
        if not isinstance(entries, list):
            raise UserError(f"{path}: {scale}: expected a list of entries, got {entries!r}")
        records = [_record(entry, f"{path}: {scale}: entry {n}") for n, entry in enumerate(entries, 1)]
        seen: set[str] = set()
        for record in records:
            if record.family.key in seen:
                raise UserError(f"{path}: {scale}: {record.family} has two entries")
            seen.add(record.family.key)
        found[str(scale)] = records
    return found


def write(path: Path, records: Mapping[str, Sequence[Record]], table: str) -> None:
    """Write the chosen settings by scale to ``path``.

    Parameters
    ----------
    path
        File to write.
    records
        Records by scale.
    table
        Name of the table with all trials, for the head of the file.
    """
    lines = [_HEAD.format(table=table)]
    for scale, entries in records.items():
        lines.append(f"{scale}:")
        for record in entries:
            rest = {key: getattr(record, key) for key in _REST}
            known = {key: value for key, value in rest.items() if value is not None or key not in _OPTIONAL}
            plain = record.family.to_dict() | known
            for number, (key, value) in enumerate(plain.items()):
                lines.append(f"{'  - ' if number == 0 else '    '}{key}: {_yaml(value)}")
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def layers(
    path: Path, records: Sequence[Record], search: Search | None, found: Sequence[FamilySearch]
) -> dict[str, Layer]:
    """Return the chosen settings by the key of their family.

    Parameters
    ----------
    path
        File of the chosen settings, for error messages.
    records
        Its content for one scale.
    search, found
        The search that the suite declares now, and its families.
    """
    fair = _fair(records, search, found) if search else set()
    return {
        record.family.key: Layer(
            record.chosen,
            f"{path}: {record.family}",
            f"{path.name}: {record.family}",
            record.family.key in fair,
        )
        for record in records
    }


def is_of(record: Record, search: Search, found: FamilySearch) -> bool:
    """Return whether the search that the suite declares now, from its present settings, made ``record``.

    The number of trials may differ, because more trials continue the same search.
    """
    return (
        record.search == search.digest
        and record.start == found.start.config_id
        and set(record.chosen) == set(found.ranges)
    )


def is_current(record: Record, search: Search, found: FamilySearch) -> bool:
    """Return whether ``is_of`` holds and the record has at least as many trials as the suite declares."""
    return is_of(record, search, found) and record.trials >= search.trials


def _fair(records: Sequence[Record], search: Search, found: Sequence[FamilySearch]) -> set[str]:
    """Return the keys of the families of which all rivals were searched too, in the same number of trials.

    A rival needs no search if its cells write all searched keys themselves, or if it has none of them.
    """
    known = {record.family.key: record for record in records}
    trials: dict[str, set[int]] = {}
    for item in found:
        if item.ranges or item.written:
            record = known.get(item.family.key)
            current = record is not None and is_current(record, search, item)
            trials.setdefault(item.family.rivals, set()).add(record.trials if record and current else 0)
    even = {rivals for rivals, counts in trials.items() if len(counts) == 1 and 0 not in counts}
    return {item.family.key for item in found if item.family.rivals in even}


def _record(entry: Any, where: str) -> Record:
    parsed = parse(_Entry, entry, where)
    family = parse_family({key: getattr(parsed, key) for key in _OF_FAMILY}, where)
    names = {"dataset": family.dataset[0], "network": family.network[0], "method": family.method}
    keys = section_keys(names, where)
    for key in parsed.chosen:
        if locate(key, keys, where) != key:
            raise unknown("key", key, searchable(valid_keys(keys)), f"{where}: chosen")
        check_searchable(key, f"{where}: chosen")
    return Record(family, **{key: getattr(parsed, key) for key in _REST})


def _yaml(value: Any) -> str:
    """Format ``value`` as YAML on one line: as JSON, but without quotes where text needs none."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, str) and _is_plain(value):
        return value
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    return text.replace("_", "a").isalnum() and text.isascii() and parse_yaml(text, "") == text
