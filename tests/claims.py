"""Write the tables behind the claims of docs/findings.md anew: ``python -m tests.claims``.

A table of comparisons follows the command of its report, up to the mark of its end. The answers to the
questions of a suite stand between ``<!-- answers: SUITE SCALE -->`` and ``<!-- end of the answers -->``, what
averaging gains between ``<!-- gains: SUITE SCALE -->`` and ``<!-- end of the gains -->``, and each part of
``bench.reporting.findings`` between ``<!-- part: NAME -->`` and ``<!-- end of the part -->``.
"""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path

import pandas as pd

from bench.figures import Answer, Look, answers, axes, posterior_gain, ranked_by, signed
from bench.figures.posterior import GAINS
from bench.reporting.claims import claims
from bench.reporting.document import Section
from bench.reporting.findings import findings
from bench.results.store import Store
from bench.results.styles import CRITERIA, METHODS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "findings.md"
REPORTED = ROOT / "results" / "paper_reported.csv"
REFERENCE = Store(ROOT / "results" / "reference")
_COMMAND = (
    r"`python -m bench\.report --suite (?P<suite>\w+) --scale (?P<scale>\w+) --score (?P<score>\w+)[^`]*`\n"
)
_ANSWERS = re.compile(
    r"(?P<head><!-- answers: (?P<suite>\w+) (?P<scale>\w+) -->\n).*?(?P<end><!-- end of the answers -->)",
    re.DOTALL,
)
_GAINS = re.compile(
    r"(?P<head><!-- gains: (?P<suite>\w+) (?P<scale>\w+) -->\n).*?(?P<end><!-- end of the gains -->)",
    re.DOTALL,
)
_PART = re.compile(
    r"(?P<head><!-- part: (?P<name>[\w ]+) -->\n).*?(?P<end><!-- end of the part -->)", re.DOTALL
)
_BLOCK = re.compile(f"(?P<head>{_COMMAND}).*?(?P<end><!-- end of the table -->)", re.DOTALL)


def written(text: str, store: Store = REFERENCE) -> str:
    """Return ``text`` with the tables and answers that it names, from the results in ``store``."""
    text = _BLOCK.sub(lambda block: f"{block['head']}\n{_table(store, block)}\n{block['end']}", text)
    text = _ANSWERS.sub(lambda block: f"{block['head']}\n{_answers(store, block)}\n{block['end']}", text)
    text = _GAINS.sub(lambda block: f"{block['head']}\n{_gains(store, block)}\n{block['end']}", text)
    if _PART.search(text) is None:
        return text
    parts = findings(store, REPORTED)
    return _PART.sub(lambda block: f"{block['head']}\n{parts[block['name']]}\n{block['end']}", text)


def unwritten(text: str) -> str:
    """Return ``text`` without what ``written`` writes."""
    for block in (_BLOCK, _ANSWERS, _GAINS, _PART):
        text = block.sub("", text)
    return text


def _table(store: Store, block: re.Match[str]) -> str:
    suite, scale = block["suite"], block["scale"]
    tables = store.read_tables(suite, ["runs", "criteria_pairs"])
    runs, pairs = tables["runs"], tables["criteria_pairs"]
    references = store.references(suite, scale)
    return claims(
        "", runs[runs["scale"] == scale], references, block["score"], _look(store, suite), pairs
    ).markdown()


def _answers(store: Store, block: re.Match[str]) -> str:
    """Return each answer: its question, its sentences, and its table, folded."""
    suite, scale = block["suite"], block["scale"]
    plan, table = store.plan(suite, scale), cache(partial(store.read_table, suite, scale))
    found = answers(table, store.references(suite, scale), ranked_by(plan), _look(store, suite))
    return "\n".join(_answer(each, str(plan["question"])) for each in found)


def _answer(answer: Answer, question: str) -> str:
    lines = "\n".join(f"- {sentence}" for sentence in answer.sentences)
    text = f"### {answer.question or question}\n\n{lines}\n"
    if answer.table is None:
        return text
    rows = Section("", [answer.how], answer.table).markdown()
    return f"{text}\n<details><summary>Every comparison</summary>\n\n{rows}\n</details>\n"


def _look(store: Store, suite: str) -> Look:
    return Look("light", store.read_styles(suite, METHODS), store.read_styles(suite, CRITERIA))


def _gains(store: Store, block: re.Match[str]) -> str:
    """Return what averaging gains in each configuration, in NLL and ECE, largest gain in NLL first."""
    runs = store.read_tables(block["suite"], ["runs"])["runs"]
    runs = runs[runs["scale"] == block["scale"]]
    words, columns, look = [], {}, _look(store, block["suite"])
    for gain in GAINS:
        chart, axis = posterior_gain(runs, gain, look), axes()[gain]
        words.append(f"{axis.name[0].upper()}{axis.name[1:]}: {chart.alt[0].lower()}{chart.alt[1:]}")
        rows = chart.data.set_index("config_label")
        columns["n"] = rows[f"{gain}_n"]
        columns[f"{axis.name} ({axis.step})"] = pd.Series(
            {
                label: signed(row[f"{gain}_mean"], row[f"{gain}_half_width"], axis.digits, axis.factor)
                for label, row in rows.iterrows()
            }
        )
    order = posterior_gain(runs, GAINS[0], look).data["config_label"]
    table = pd.DataFrame(columns).loc[list(order)].rename_axis("configuration").reset_index()
    table["configuration"] = table["configuration"].map(look.configuration)
    return Section("", words, table).markdown()


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
