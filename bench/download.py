"""Download image data sets: ``python -m bench.download cifar10 fashion_mnist``.

They are stored in the folder that ``BENCH_DATA_ROOT`` names, or in ``~/.cache/ssvi-bench/data``. Files that
are already there and complete are not downloaded again.
"""

from __future__ import annotations

from bench.cli import arguments, typed
from bench.cli.entry import entry
from methods.core.errors import unknown


def main(argv: list[str] | None = None) -> int:
    """Download the named data sets, and print where they are."""
    parser = arguments.parser("bench.download", __doc__)
    parser.add_argument(
        "name", nargs="+", metavar="NAME", help="a data set of images, as `bench.list datasets` shows them"
    )
    names = parser.parse_args(argv).name
    for name in names:
        typed.check_name("dataset", name)
    from bench.data.files import data_root
    from bench.data.images import download, image_sets

    sets = image_sets()
    for name in names:
        if name not in sets:
            raise unknown("image set", name, sets)
    for name in names:
        download(sets[name])
        print(f"{name}: in {data_root()}")
    return 0


if __name__ == "__main__":
    entry(main)
