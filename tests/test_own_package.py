"""The package of a user's own that docs/datasets-and-networks.md shows: found by entry point, and trained."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from bench.results.store import Store

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = (ROOT / "docs" / "datasets-and-networks.md").read_text()


def installed(folder):
    """``my_package`` as the document's blocks say, as an installer would leave it in ``folder``."""
    blocks = re.findall(r"^```(python|toml)\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "toml"] * 2
    metadata = folder / "my_package-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = []
    for (_, code), (_, toml) in zip(blocks[::2], blocks[1::2], strict=True):
        ((group, points),) = tomllib.loads(toml)["project"]["entry-points"].items()
        ((name, target),) = points.items()
        module = folder / f"{target.partition(':')[0].replace('.', '/')}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(code)
        lines += [f"[{group}]", f"{name} = {target}"]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return folder


def test_the_document_s_data_set_and_network_are_found_and_learn(tmp_path):
    (line,) = re.findall(r"^    python -m (bench\.run --set dataset=rings.*)$", DOCUMENT, re.MULTILINE)
    command = [sys.executable, "-m", *shlex.split(line), "--results", str(tmp_path / "results")]
    path = os.pathsep.join(str(entry) for entry in (ROOT, installed(tmp_path / "site-packages")))
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert (result.returncode, result.stderr) == (0, "")
    store = Store(tmp_path / "results")
    (run_id,) = store.run_ids()
    rows = store.run(run_id).read("metrics")["metrics"]
    ((examples, accuracy),) = {
        (row["n"], row["value"])
        for row in rows
        if (row["predictor"], row["split"], row["metric"]) == ("samples", "test", "accuracy")
    }
    assert examples == 200 and accuracy > 0.9
