"""Download image data sets: ``python -m bench.download cifar10 fashion_mnist``.

They are stored in the folder that ``BENCH_DATA_ROOT`` names, or in ``~/.cache/ssvi-bench/data``. Files that
are already there and complete are not downloaded again.
"""

from __future__ import annotations

from bench.cli import arguments
from bench.cli.entry import entry
from bench.data.base import DATASETS
from bench.data.images import ImageDataset, data_root, fetch
from methods.core.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Download each set named."""
    sets = {name: found for name in DATASETS.names() if issubclass(found := DATASETS.get(name), ImageDataset)}
    parser = arguments.parser("bench.download", __doc__)
    parser.add_argument("name", nargs="+", metavar="NAME", help=f"any of: {', '.join(sets)}")
    for name in parser.parse_args(argv).name:
        if name not in sets:
            parser.error(f"unknown image set {name!r}; valid: {', '.join(sets)}")
        get(name, sets[name].source)
        print(f"{name}: in {data_root()}")
    return 0


def get(name: str, source: str) -> None:
    """Download one set, with torchvision's progress bar; ``UserError`` when the network fails."""
    try:
        data_root().mkdir(parents=True, exist_ok=True)
        for train in (True, False):
            fetch(source, train, download=True)
    except (OSError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"data set {name}: cannot be downloaded to {data_root()}: {first}") from None


if __name__ == "__main__":
    entry(main)
