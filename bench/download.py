"""Download image data sets: ``python -m bench.download cifar10 fashion_mnist``.

They are stored in the folder that ``BENCH_DATA_ROOT`` names, or in ``~/.cache/ssvi-bench/data``. Files that
are already there and complete are not downloaded again.
"""

from __future__ import annotations

from bench.cli import arguments
from bench.cli.entry import entry
from bench.data.images import data_root, download, image_sets


def main(argv: list[str] | None = None) -> int:
    """Download the named data sets, and print where they are."""
    sets = image_sets()
    parser = arguments.parser("bench.download", __doc__)
    parser.add_argument("name", nargs="+", metavar="NAME", help=f"any of: {', '.join(sets)}")
    for name in parser.parse_args(argv).name:
        if name not in sets:
            parser.error(f"unknown image set {name!r}; valid: {', '.join(sets)}")
        download(sets[name])
        print(f"{name}: in {data_root()}")
    return 0


if __name__ == "__main__":
    entry(main)
