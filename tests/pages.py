"""Pages of ``docs/`` that a reader follows from the first block to the last, and the reader."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from shutil import copytree, ignore_patterns

from tests.packages import install

ROOT = Path(__file__).resolve().parent.parent
#: Where files of plug-ins lie in a clone.
FOLDERS = ("methods", "methods/criteria", "bench/data", "bench/networks")


class Page:
    """A page of ``docs/``: its text, and language and content of every block, in order."""

    def __init__(self, name):
        self.text = (ROOT / "docs" / name).read_text()
        self.blocks = re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        self.rest = re.sub(r"^```\w*\n.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    def assert_no_code_but_in_blocks(self):
        assert "```" not in self.rest and "~~~" not in self.rest
        assert re.findall(r"^(?: {4}|\t).*$", self.rest, re.MULTILINE) == []

    def files(self):
        """The Python files among its blocks: name and code, in order."""
        return [
            (file_of(code), code) for language, code in self.blocks if language == "python" and file_of(code)
        ]

    def contract(self):
        """The first column of the tables below its heading ``The contract``."""
        return re.findall(r"^\| (`.*?) \|", self.text.partition("## The contract")[2], re.MULTILINE)


def file_of(code):
    """The file that a block is, as its first line says; None where it is none."""
    found = re.match(r"# (\S+\.\w+)\n", code)
    return found and found[1]


class Reader:
    """One who follows the page in a clone of the tree; outputs are kept, in order."""

    def __init__(self, folder):
        self.clone, self.site, self.package = folder / "clone", folder / "site-packages", folder / "package"
        for name in ("bench", "methods"):
            copytree(ROOT / name, self.clone / name, ignore=ignore_patterns("__pycache__"))
        self.unused, self.outputs = set(), []

    def follow(self, page):
        """Do what every block says; what a block writes must be used by a later one."""
        for language, code in page.blocks:
            assert language in ("python", "bash", "yaml", "toml"), f"{language!r} can't be run:\n{code}"
            getattr(self, language)(code)
        assert self.unused == set(), "no command uses it after its block"

    def run(self, *words, text=None):
        path = os.pathsep.join(map(str, (self.clone, self.site)))
        environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, *words],
            input=text, env=environment, cwd=self.clone, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), f"{words}\n{done.stdout}{done.stderr}"
        self.outputs.append(done.stdout)

    def python(self, code):
        """A file of a plug-in, which a later command must use, or a script."""
        if (file := file_of(code)) is None:
            self.run("-", text=code)
        else:
            assert file.rpartition("/")[0] in FOLDERS
            (self.clone / file).write_text(code)
            self.unused.add(re.search(r'^    name = "(\w+)"$', code, re.MULTILINE)[1])

    def yaml(self, code):
        (self.clone / file_of(code)).write_text(code)
        self.unused.add(file_of(code))

    def bash(self, code):
        for line in code.splitlines():
            interpreter, *words = shlex.split(line)
            assert interpreter == "python"
            self.run(*words)
            self.unused -= {name for name in self.unused if re.search(rf"\b{re.escape(name)}\b", line)}

    def toml(self, code):
        """The package with the page's files, in place of the clone's."""
        assert file_of(code) == "pyproject.toml"
        self.package.mkdir()
        (self.package / "pyproject.toml").write_text(code)
        for module in tomllib.loads(code)["tool"]["setuptools"]["py-modules"]:
            (file,) = (
                found for folder in FOLDERS if (found := self.clone / folder / f"{module}.py").exists()
            )
            file.rename(self.package / file.name)
        install(self.package, self.site)
        self.run("-m", "bench.list")
