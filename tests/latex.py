"""Compile LaTeX, where pdflatex is; CI installs it, others skip the test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dashboard_server import ROOT


def compile_fitting(body: str, packages: str, folder: Path) -> None:
    """Compile ``body``; fails if anything in it is wrong, or does not fit on the page."""
    head = rf"\documentclass{{article}}\usepackage{{{packages}}}\begin{{document}}"
    (folder / "text.tex").write_text(f"{head}\n{body}\n\\end{{document}}\n")
    subprocess.run([_pdflatex(), "-interaction=batchmode", "text.tex"], cwd=folder, check=True)
    log = (folder / "text.log").read_text(errors="replace")
    too_wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert max(too_wide, default=0) < 2 and "Float too large" not in log


def _pdflatex() -> str:
    if (found := shutil.which("pdflatex")) is None:
        if "CI" not in os.environ:
            pytest.skip("no pdflatex here; tests/install_latex.sh installs it")
        subprocess.run([ROOT / "tests" / "install_latex.sh"], check=True)
        found = shutil.which("pdflatex")
    assert found is not None
    return found
