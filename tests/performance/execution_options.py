"""What precision, memory layout and compilation do to the time and memory of training, on this device.

    python tests/performance/execution_options.py [--device cuda] [--network resnet18] [--seconds 420]

(with ``PYTHONPATH=.`` where the package is not installed; it needs torch, torchvision, pandas and pyarrow).
Trains a few steps of a deterministic network, dense VI and SSVI at two sparsities, in float32 and
bfloat16, plain, with channels last and compiled, through the benchmark's own loop (data path and
subspace updates included), and prints seconds a step (after a warm-up), seconds an epoch of
CIFAR-10, peak memory, and counted FLOPs over the rate of a large matrix product: the share of what
the device could do. On a GPU it then checks that a step never waits for the device, and trains a
short schedule for its accuracy. What does not fit into ``--seconds`` is left out, and named.

Data: CIFAR-10 from the data folder; the training batches that are there, if not all are; random
images if none is. The results are written to ``--out`` as JSON too.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
import numpy as np
import torch
from _options import parsed

from bench.data.base import DATASETS, Split, Splits
from bench.data.files import data_root
from bench.data.images import CIFAR10, ImageOptions
from bench.experiment.execution import Execution, resolve_device
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import RunSpec, parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training.optimisers import make_optimiser
from bench.training.resume import State
from bench.training.trainer import Trainer
from methods.base import METHODS, Method
from methods.core.options import option
from methods.core.streams import Streams
from methods.core.style import Style

EPOCH_IMAGES = 50_000
VAL = 1000


@METHODS.register
class Deterministic(Method):
    """The plain network by cross-entropy: what VI is compared with here."""

    name = "plain_network"
    style = Style("Plain network", hue="#000000", hue_dark="#FFFFFF")


@dataclass(frozen=True)
class SomeOptions(ImageOptions):
    """As many test images as asked for: evaluation is not what is measured."""

    test: int = option(1000, "test images", within="[1, inf)")


@DATASETS.register
class SomeOfCIFAR10(CIFAR10):
    """What is there of CIFAR-10: its batches need not be complete, and random images stand in for none."""

    name = "some_of_cifar10"
    Options = SomeOptions
    #: Random images in its place, whatever is there: of the training part, of validation, of the test part.
    few: tuple[int, int, int] | None = None
    missing = False

    def task(self, refit: bool = False) -> None:
        """Not known before it is loaded."""

    def load(self, split: torch.Generator) -> Splits:
        folder = data_root() / "cifar-10-batches-py"
        batches = sorted(folder.glob("data_batch_*"))
        count, val, tested = self.few or (2000, VAL, 1000)
        if self.few is None and batches and (folder / "test_batch").exists():
            train, test = _read(batches), _read([folder / "test_batch"])
        else:
            type(self).missing = True
            train, test = _random(count + val, split), _random(tested, split)
        held_out, rest = _first(train, val), Split(train.inputs[val:], train.labels[val:])
        return Splits(rest, held_out, _first(test, self.options.test), 10)


def _read(paths: list[Path]) -> Split:
    parts = [pickle.loads(path.read_bytes(), encoding="bytes") for path in paths]
    images = np.concatenate([part[b"data"] for part in parts]).reshape(-1, 3, 32, 32)
    labels = [label for part in parts for label in part[b"labels"]]
    return Split(torch.from_numpy(images), torch.tensor(labels))


def _first(split: Split, count: int) -> Split:
    return Split(split.inputs[:count], split.labels[:count])


def _random(count: int, generator: torch.Generator) -> Split:
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(10, (count,), generator=generator))


@dataclass(frozen=True)
class Variant:
    """One way to compute one method."""

    method: str
    sparsity: float
    precision: str
    layout: str

    @property
    def label(self) -> str:
        """For the table."""
        name = self.method if not self.sparsity else f"{self.method} {self.sparsity:g}"
        return f"{name:<14} {self.precision:<9} {self.layout:<14}"


LAYOUTS = ("plain", "channels_last", "compile")
METHOD_CELLS = (("plain_network", 0.0), ("dense_vi", 0.0), ("ssvi", 0.9), ("ssvi", 0.95))


def variants(layouts: list[str], device: str) -> list[Variant]:
    """All of them, those that matter most first: compilation takes the longest."""
    found = []
    for layout in layouts:
        for precision in precisions(device):
            found += [Variant(method, s, precision, layout) for method, s in METHOD_CELLS]
    return found


def spec_of(variant: Variant, arguments: argparse.Namespace, **extra: Any) -> RunSpec:
    """The run of ``variant``."""
    chosen: dict[str, Any] = {
        "dataset": "some_of_cifar10",
        "network": arguments.network,
        "method": variant.method,
        "precision": variant.precision,
        "batch_size": arguments.batch_size,
        "lr": 0.01,
        "samples": 1,
        "epochs": 200,
        **arguments.network_options,
        **extra,
    }
    if variant.sparsity:
        chosen |= {"sparsity": variant.sparsity, "replace_every": arguments.replace_every}
    return parse_spec(nest(chosen))


def execution_of(variant: Variant, arguments: argparse.Namespace) -> Execution:
    """How ``variant`` is computed."""
    return Execution(
        device=arguments.device,
        threads=arguments.threads,
        channels_last=variant.layout == "channels_last",
        compile=variant.layout == "compile",
        mode="dense",  # the options are those of torch's contractions
        checkpoint_seconds=1e9,
    )


def precisions(device: str) -> list[str]:
    """Those that ``device`` tells apart."""
    return ["float32", "bfloat16"] if device == "cpu" else ["float32", "tf32", "bfloat16"]


def matrix_rate(device: str, precision: str) -> float:
    """FLOPs a second of a large matrix product."""
    torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    size = 8192 if device != "cpu" else 2048
    a = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(5):
        _synchronise(device)
        started = time.perf_counter()
        a @ a
        _synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def measure(variant: Variant, arguments: argparse.Namespace, store: Store) -> dict[str, Any]:
    """Train ``--steps`` steps; the figures of the run."""
    spec = spec_of(variant, arguments, max_steps=arguments.steps)
    store.set_aside(spec.run_id, "measured again") if store.run(spec.run_id).path.exists() else None
    outcome = execute(spec, store, execution_of(variant, arguments))
    folder = store.run(spec.run_id)
    if outcome != "done":
        return {"error": (folder.read("status") or {}).get("error")}
    costs = folder.read("costs") or {}
    return {
        "seconds_per_step": costs["seconds_per_step"],
        "flops_per_step": costs["train_flops"] / costs["steps_total"],
        "memory": costs["peak_device_memory_bytes"] or costs["peak_memory_bytes"],
    }


def waits_in_a_step(arguments: argparse.Namespace) -> str | None:
    """The operation for which a plain training step waits for the device; None where it never does."""
    variant = Variant("ssvi", 0.9, "float32", "plain")
    problem = make_problem(spec_of(variant, arguments), execution_of(variant, arguments))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            problem, Store(Path(folder) / "r", create=True).run("0" * 12), stage_done=lambda *_: {},
            stop=lambda: False, checkpoint_seconds=1e9, report=lambda _: None, started=time.perf_counter(),
        )  # fmt: skip
        streams = Streams(problem.spec.seed, problem.device)
        state = trainer.state = State(problem.build(streams), streams)
        state.optimiser = make_optimiser(problem, state.module)
        context = trainer._context(trainer.stages[0])
        batches = problem.training_batches(streams)
        try:
            for step in range(1, 8):
                if step == 4:
                    torch.cuda.set_sync_debug_mode("error")
                context.begin_step(next(batches), step)
                trainer._step(context)
        except RuntimeError as error:
            return str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return None


def short_schedule(arguments: argparse.Namespace, store: Store) -> None:
    """Accuracy on the test part of dense VI and SSVI after ``--epochs``, in bfloat16."""
    for method, sparsity in (("dense_vi", 0.0), ("ssvi", 0.9)):
        variant = Variant(method, sparsity, "bfloat16", "channels_last")
        spec = spec_of(
            variant, arguments, epochs=arguments.epochs, samples=10, lr=0.1, lr_scale=10.0, test=10_000
        )
        started = time.perf_counter()
        outcome = execute(spec, store, execution_of(variant, arguments))
        rows = (store.run(spec.run_id).read("metrics") or {}).get("metrics", [])
        found = [
            r["value"]
            for r in rows
            if (r["predictor"], r["split"], r["metric"]) == ("samples", "test", "accuracy")
        ]
        print(
            f"{method} {sparsity:g}, {arguments.epochs} epochs of {spec.dataset[0]}: test accuracy {found}, "
            f"{time.perf_counter() - started:.0f} s ({outcome})"
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--width", type=int, help="of resnet18 (default: 64; 16 on a CPU)")
    parser.add_argument(
        "--blocks", type=int, nargs="+", help="of resnet18 (default: 2 2 2 2; 1 1 1 on a CPU)"
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, help="of each measurement (default: 110; 30 on a CPU)")
    parser.add_argument("--replace-every", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=0, help="of a short schedule; 0 for none")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--seconds", type=float, default=420.0, help="no measurement begins after so many")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parsed(
        parser, device="cpu", threads=1, network="cnn", batch_size=8, steps=14, replace_every=6, epochs=1,
        layouts=["plain", "channels_last"],
    )  # fmt: skip
    arguments.device = resolve_device(arguments.device)
    on_cpu = arguments.device == "cpu"
    arguments.steps = arguments.steps or (30 if on_cpu else 110)
    arguments.network_options = {}
    if arguments.smoke:
        SomeOfCIFAR10.few = (200, 64, 64)
    if arguments.network == "resnet18":
        width, blocks = (16, [1, 1, 1]) if on_cpu else (64, [2, 2, 2, 2])
        arguments.network_options = {
            "network.width": arguments.width or width, "network.blocks": arguments.blocks or blocks,
        }  # fmt: skip
    elif arguments.smoke and arguments.network == "cnn":
        arguments.network_options = {"network.channels": [8, 8]}
    torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    rates = {
        precision: matrix_rate(arguments.device, precision) for precision in precisions(arguments.device)
    }
    name = torch.cuda.get_device_name() if arguments.device != "cpu" else f"{arguments.threads} CPU threads"
    print(
        f"{name}, torch {torch.__version__}; matrix products: "
        + ", ".join(f"{rate / 1e12:.3g} TFLOP/s in {precision}" for precision, rate in rates.items())
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results", create=True)
        print(f"{'':<39} {'ms/step':>9} {'s/epoch':>9} {'of bound':>9} {'GB':>6}")
        for variant in variants(arguments.layouts, arguments.device):
            if time.perf_counter() - started > arguments.seconds:
                print(f"{variant.label} left out: no time")
                continue
            found = measure(variant, arguments, store)
            rows.append({**asdict(variant), **found})
            if "error" in found:
                print(f"{variant.label} failed: {found['error'][:200]}")
                continue
            step, bound = found["seconds_per_step"], found["flops_per_step"] / rates[variant.precision]
            print(
                f"{variant.label} {1e3 * step:9.1f} {step * EPOCH_IMAGES / arguments.batch_size:9.1f} "
                f"{bound / step:9.1%} {found['memory'] / 1e9:6.2f}"
            )
        if arguments.device != "cpu":
            print(f"a plain step waits for the device: {waits_in_a_step(arguments) or 'never'}")
        if arguments.epochs:
            short_schedule(arguments, store)
    if SomeOfCIFAR10.missing:
        print("random images in the place of CIFAR-10: accuracies mean nothing")
    if arguments.out:
        arguments.out.write_text(json.dumps({"device": name, "rates": rates, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
