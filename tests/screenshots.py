"""The pictures of the README, from the reference results: ``make screenshots``."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import quote_plus

from PIL import Image

from tests.dashboard_server import ROOT, chromium, served, settled

REFERENCE = ROOT / "results" / "reference"
TARGET = ROOT / "docs" / "screenshots"
#: Page, what stands in its address, and the height to show.
SHOWN = (
    ("overview", "suite=baselines · demo&score=NLL", 1000),
    ("tradeoff", "suite=sparsity_sweep · demo&score=accuracy", 1000),
    ("criteria", "suite=criteria_ablation · demo&sparsity=0.98", 1000),
    ("calibration", "suite=baselines · demo", 1000),
)
_WIDTH = 1200


def main() -> None:
    """Take each picture and keep it as a small PNG."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with chromium() as browser, served(REFERENCE) as address:
        for name, chosen, height in SHOWN:
            page = browser.new_page(viewport={"width": _WIDTH, "height": height})
            page.goto(f"{address}/{'' if name == 'overview' else name}?{quote_plus(chosen, safe='=&')}")
            settled(page)
            picture = Image.open(io.BytesIO(page.screenshot()))
            page.close()
            path = TARGET / f"{name}.png"
            picture.convert("RGB").save(path, optimize=True)
            print(f"{path.relative_to(Path.cwd())}: {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
