"""Write the tables behind the claims of docs/findings.md anew: ``python -m tests.claims``."""

from __future__ import annotations

import re
from pathlib import Path

from bench.figures import Look
from bench.reporting.claims import claims
from bench.results.store import Store

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "findings.md"
_COMMAND = (
    r"`python -m bench\.report --suite (?P<suite>\w+) --scale (?P<scale>\w+) --score (?P<score>\w+)[^`]*`\n"
)
_BLOCK = re.compile(f"(?P<head>{_COMMAND}).*?(?P<end><!-- end of the table -->)", re.DOTALL)


def written(text: str) -> str:
    """Return ``text`` with the table of comparisons of each report that it names, up to the closing mark."""
    return _BLOCK.sub(lambda block: f"{block['head']}\n{_table(block)}\n{block['end']}", text)


def _table(block: re.Match[str]) -> str:
    store, suite, scale = Store(ROOT / "results" / "reference"), block["suite"], block["scale"]
    tables = store.read_tables(suite, ["runs", "criteria_pairs"])
    runs, pairs = tables["runs"], tables["criteria_pairs"]
    references = store.references(suite, scale)
    return claims(
        "", runs[runs["scale"] == scale], references, block["score"], Look.of(runs), pairs
    ).markdown()


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
