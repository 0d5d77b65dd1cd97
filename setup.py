"""Compiles the sparse kernels (methods/kernels/source) into the package; the rest is in pyproject.toml.

The compiler is clang from the package ziglang, which comes from the package index as all else does, so
that installing needs none of the system's. Where it fails, or the machine is of another kind, the package
installs without kernels, and layers are computed densely.
"""

import hashlib
import importlib.util
import os
import platform
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
SOURCE = HERE / "methods" / "kernels" / "source"
LEVELS = {"x86_64_v4": ["-mprefer-vector-width=512"], "x86_64_v3": []}
# Vectors are spelled out in the source: the compiler's own guesses at others only get in their way.
FLAGS = [
    "-std=c11",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-vectorize",
    "-fno-slp-vectorize",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
]


def compile_kernels(folder: Path) -> str | None:
    """One library for each instruction set into ``folder``; why not, where it can't be done."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"they need Linux on x86-64, not {platform.system()} on {platform.machine()}"
    if importlib.util.find_spec("ziglang") is None:
        return "the package ziglang, their compiler, is not here"
    problem, digest = None, runpy.run_path(str(SOURCE.parent / "digest.py"))["digest"](SOURCE)
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        for level, flags in LEVELS.items():
            target = ["-target", "x86_64-linux-gnu.2.17", f"-march={level}", f'-DSOURCE_DIGEST="{digest}"']
            made = Path(cache) / f"{level}.so"
            command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *target, *flags]
            command += [*map(str, sorted(SOURCE.glob("*.c"))), "-o", str(made), "-lpthread", "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                problem = " ".join(done.stderr.split())[-500:]
            else:
                whole = hashlib.sha256(made.read_bytes()).hexdigest()
                made.replace(folder / made.name)  # whoever has the old one open keeps it
                (folder / f"{level}.sha256").write_text(whole + "\n")
    return problem


class BuildWithKernels(build_py):
    """Python files, and the kernels beside them."""

    def run(self) -> None:
        super().run()
        root = HERE if self.editable_mode else Path(self.build_lib)
        folder = root / "methods" / "kernels" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        problem = compile_kernels(folder)
        # installers show no output of a build that succeeds: the package tells it when kernels are missed
        reason = folder / "missing.txt"
        reason.unlink(missing_ok=True)
        if problem is not None:
            reason.write_text(problem + "\n")
            print(f"warning: installed without sparse kernels: {problem}", file=sys.stderr)


class WithBinaries(Distribution):
    """Says that a wheel of this is for one platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildWithKernels}, distclass=WithBinaries)
