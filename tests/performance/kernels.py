"""What sparse kernels gain on this machine: time, memory, and against which competitors.

    python tests/performance/kernels.py [--sections steps,memory] [--rounds 5] [--threads 2] [--out docs]

Measures the sections asked for (all of them take about ten minutes on two cores) and prints them as a page.
With ``--out`` it keeps the figures in that folder's ``performance.json`` and writes ``performance.md`` there,
with tables and plots from all that it holds. Times are medians of ``--rounds`` rounds in which competitors
take turns, ratios are taken within a round, ranges are the smallest and the largest. ``torch.sparse`` and,
where they are installed, ``sparseprop`` and ``numba`` are measured beside
(``pip install matplotlib numba sparseprop``). Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the benchmark's own processes
sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.nn.functional as F
from _options import parsed

from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS
from bench.runner.git_state import git_sha
from bench.runner.provenance import cpu_model
from methods.base import METHODS, Context, Method, Progress, Task
from methods.core import passes
from methods.core.contractions import Contraction, Conv2d, Linear
from methods.core.streams import Streams
from methods.core.style import Style
from methods.kernels.blocks import Blocks
from methods.kernels.contraction import Kernel
from methods.kernels.library import absent
from methods.layers import costs, execution
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import SparseGaussian

Timed = Callable[[], float]
T = TypeVar("T")
IMAGES, ROWS = (3, 32, 32), (1, 28, 28)


@dataclass(frozen=True)
class Sizes:
    """How much is measured. few: of each list, so many entries from its head, or all; wide: what a limit on
    memory is put on; curve: densities; dataset, epochs: what is trained to the end.
    """

    few: int | None
    resnet: dict[str, Any]
    wide: dict[str, Any]
    curve: tuple[float, ...]
    dataset: dict[str, Any]
    epochs: int

    def some(self, entries: Iterable[T]) -> list[T]:
        """Those of ``entries`` that are measured."""
        return list(entries)[: self.few]


FULL = Sizes(
    None, {"name": "resnet18"}, {"name": "mlp", "hidden": [10240, 10240]},
    (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005),
    {"name": "fashion_mnist", "augment": False}, 3,
)  # fmt: skip
TINY = Sizes(
    1, {"name": "resnet18", "width": 8, "blocks": [1, 1]}, {"name": "mlp", "hidden": [64, 64]},
    (1.0, 0.01), {"name": "fashion_mnist_sample"}, 1,
)  # fmt: skip
#: With ``--smoke`` the tiny ones.
SIZES = FULL


# -- measuring --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """Seconds by competitor and round."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Seconds."""
        return _median(self.seconds[name])

    def ratio(self, name: str, base: str) -> list[float]:
        """How many times as fast as ``base``: median, smallest, largest over rounds."""
        ratios = [b / a for a, b in zip(self.seconds[name], self.seconds[base], strict=True)]
        return [_median(ratios), min(ratios), max(ratios)]


def interleaved(competitors: dict[str, Timed], rounds: int) -> Times:
    """Each in turn, ``rounds`` times, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(rounds + 1):
        for name, run in competitors.items():
            took = run()
            if number:
                seconds[name].append(took)
    return Times(seconds)


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def timed(function: Callable[[], Any]) -> Timed:
    """``function``, timed."""

    def run() -> float:
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    return run


# -- what is measured -------------------------------------------------------------------------


class Step:
    """A training step of one method on one network, on random inputs of the shape of its data."""

    def __init__(
        self,
        network: dict[str, Any],
        method: dict[str, Any],
        shape: tuple[int, ...],
        batch: int,
        how: str = "auto",
        autocast: bool = False,
        sample: bool = False,
    ) -> None:
        spec = parse_spec(nest({"dataset": "digits", "network": network, "method": method}))
        task, streams = Task(shape, 10, 50_000), Streams(0)
        self.method = METHODS.get(spec.method[0])(spec.method[1])
        plain = NETWORKS.get(spec.network[0])(spec.network[1]).initialised(task, streams)
        self.module = self.method.build(plain, streams, task)
        costs.trace(self.module, shape)
        execution.choose(self.module, how, shape, batch)
        self.optimiser = torch.optim.SGD(self.module.parameters(), lr=1e-3, momentum=0.9, fused=True)
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(batch, *shape, generator=generator)
        self.labels = torch.randint(10, (batch,), generator=generator)
        self.task, self.streams, self.autocast, self.sample = task, streams, autocast, sample
        self.module.train()

    def __call__(self, number: int = 1) -> float:
        """Step ``number``, in seconds."""
        progress = Progress("train", 1, 1, number, 10**6, 50_000, self.streams["noise"])
        context = Context(
            self.module, self.optimiser, self.streams, self.task, progress, {"updates": 0},
            record=lambda *_: None, watch=False,
        )  # fmt: skip
        context.begin_step((self.inputs, self.labels), number)
        started = time.perf_counter()
        if number > 1:
            self.method.before_step(context)
        with passes.dense_gradients(context.gradient_consumer) as gradients:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                loss = self._loss(progress)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if gradients is not None:
                gradients.finish()
        self.optimiser.step()
        if number > 1:
            self.method.after_step(context)
        return time.perf_counter() - started

    def _loss(self, progress: Progress) -> torch.Tensor:
        batch = (self.inputs, self.labels)
        if not self.sample:
            return self.method.loss(self.module, batch, progress)
        # one draw of the weights for the whole batch (Blundell et al. 2015), gradients through it
        draw = {}
        for layer in self.module.modules():
            if isinstance(layer, VariationalLayer):
                mean, std = layer.posterior.mean, layer.posterior.variance.sqrt()
                draw[layer] = mean + std * torch.randn(mean.shape, generator=progress.noise)
        with passes.weights(draw):
            data = F.cross_entropy(self.module(batch[0]), batch[1])
        return data + self.method.kl_weight(progress) * self.method.kl(self.module)  # type: ignore[attr-defined]


def dense(network: dict[str, Any], shape: tuple[int, ...], batch: int, **how: Any) -> Step:
    """Dense VI."""
    return Step(network, {"name": "dense_vi"}, shape, batch, "dense", **how)


def sparse(
    network: dict[str, Any], shape: tuple[int, ...], batch: int, density: float, **options: Any
) -> Step:
    """SSVI at ``density``, as ``auto`` runs it."""
    method = {"name": "ssvi", "sparsity": 1 - density, "replace_every": 100, **options}
    return Step(network, method, shape, batch, "auto")


@METHODS.register
class Deterministic(Method):
    """The plain network by cross-entropy."""

    name = "plain_network"
    style = Style("Plain network", hue="#000000", hue_dark="#FFFFFF")


def layer(shape: tuple[int, ...], contraction: Contraction, density: float) -> VariationalLayer:
    """A sparse layer with a uniform random pattern."""
    size = torch.Size(shape)
    index = torch.randperm(size.numel())[: max(1, round(density * size.numel()))].sort().values
    count = index.numel()
    posterior = SparseGaussian(size, index, torch.randn(count) * 0.1, torch.full((count,), 0.02), "softplus")
    return VariationalLayer(contraction, posterior, None)


@dataclass(frozen=True)
class Case:
    """A layer and a batch."""

    label: str
    shape: tuple[int, ...]
    contraction: Contraction
    size: tuple[int, ...]
    batch: int

    def inputs(self) -> torch.Tensor:
        """A batch of them."""
        return torch.randn(self.batch, self.shape[1], *self.size)


SAME = Conv2d((1, 1), (1, 1))
RESNET_LAYERS = [Case(f"3×3, {c}→{c}, {s}×{s}", (c, c, 3, 3), SAME, (s, s), 32) for c, s in
                 ((64, 32), (128, 16), (256, 8), (512, 4))]  # fmt: skip
OTHER_LAYERS = [
    Case("3×3 stride 2, 64→128", (128, 64, 3, 3), Conv2d((2, 2), (1, 1)), (32, 32), 32),
    Case("3×3 stride 2, 256→512", (512, 256, 3, 3), Conv2d((2, 2), (1, 1)), (8, 8), 32),
    Case("1×1 stride 2, 64→128", (128, 64, 1, 1), Conv2d((2, 2)), (32, 32), 32),
    Case("1×1 stride 2, 256→512", (512, 256, 1, 1), Conv2d((2, 2)), (8, 8), 32),
    Case("Linear 784→1024, batch 128", (1024, 784), Linear(), (), 128),
    Case("Linear 4096→4096, batch 128", (4096, 4096), Linear(), (), 128),
]


def dense_layer(case: Case) -> Timed:
    """Forward and backward of a dense layer by local reparameterisation, as autograd has it."""
    x = case.inputs().requires_grad_()
    mean = torch.randn(case.shape).mul_(0.1).requires_grad_()
    variance = torch.full(case.shape, 4e-4, requires_grad=True)
    grad = torch.randn_like(case.contraction.forward(x, mean, None))

    def run() -> None:
        for tensor in (x, mean, variance):
            tensor.grad = None
        m = case.contraction.forward(x, mean, None)
        v = case.contraction.forward(x.square(), variance, None)
        (m + (v + 1e-8).sqrt() * torch.randn_like(m)).backward(grad)

    return timed(run)


def sparse_layer(case: Case, density: float, kernel: bool = True) -> Timed:
    """The same of a sparse layer: by its kernel in the kernels' layout, or by scattered dense weights."""
    made = layer(case.shape, case.contraction, density)
    generator, x = torch.Generator().manual_seed(0), case.inputs()
    grad = torch.randn_like(made(x).detach())
    if kernel:
        made.kernel, made.keeps_layout = Kernel(case.contraction, torch.Size(case.shape)), True
        x, grad = Blocks.of(x).values, Blocks.of(grad).values
    x.requires_grad_()

    def run() -> None:
        x.grad = None
        made.zero_grad()
        with passes.local_noise(generator):
            out = made(Blocks(x, case.batch) if kernel else x)
        (out.values if kernel else out).backward(grad)

    return timed(run)


# -- sections ---------------------------------------------------------------------------------


def layers_section(rounds: int) -> list[dict[str, Any]]:
    """Forward and backward of one layer."""
    rows = []
    for case in SIZES.some(RESNET_LAYERS + OTHER_LAYERS):
        for density in SIZES.some((0.1, 0.05, 0.02, 0.01)):
            times = interleaved({"dense": dense_layer(case), "sparse": sparse_layer(case, density)}, rounds)
            rows.append(
                {
                    "layer": case.label, "density": density, "dense_ms": 1e3 * times.median("dense"),
                    "sparse_ms": 1e3 * times.median("sparse"), "ratio": times.ratio("sparse", "dense"),
                }
            )  # fmt: skip
    return rows


DENSITIES = (0.5, 0.3, 0.1, 0.05, 0.02, 0.01)


def networks_measured() -> dict[str, tuple[dict[str, Any], tuple[int, ...], int, tuple[float, ...]]]:
    """Network, shape of its inputs, batch and densities by label."""
    return {
        "ResNet-18, batch 32": (SIZES.resnet, IMAGES, 32, DENSITIES),
        "MLP 784-1024-1024-10, batch 128": ({"name": "mlp", "hidden": [1024, 1024]}, ROWS, 128, DENSITIES),
        "WRN-28-10, batch 32": ({"name": "wide_resnet"}, IMAGES, 32, (0.05,)),
    }


def steps_section(rounds: int) -> list[dict[str, Any]]:
    """Whole training steps, and what else a user has in two lines."""
    rows = []
    for label, (network, shape, batch, densities) in SIZES.some(networks_measured().items()):
        competitors: dict[str, Timed] = {"dense VI, float32": dense(network, shape, batch)}
        if "WRN" not in label:
            competitors |= {
                "dense VI, bfloat16": dense(network, shape, batch, autocast=True),
                "one weight sample, float32": dense(network, shape, batch, sample=True),
                "one weight sample, bfloat16": dense(network, shape, batch, sample=True, autocast=True),
                "deterministic, float32": Step(network, {"name": "plain_network"}, shape, batch, "dense"),
            }
        competitors |= {f"SSVI at {d:g}": sparse(network, shape, batch, d) for d in SIZES.some(densities)}
        times = interleaved(competitors, rounds)
        base = "dense VI, float32"
        rows += [
            {
                "network": label,
                "competitor": name,
                "ms": 1e3 * times.median(name),
                "ratio": times.ratio(name, base),
            }
            for name in competitors
        ]
    return rows


def update_section(rounds: int) -> list[dict[str, Any]]:
    """Steps with a subspace update beside plain ones, and the dense gradient that an update needs."""
    step = sparse(SIZES.resnet, IMAGES, 32, 0.05)

    def with_gradient() -> float:
        """A step that has the dense gradient of every layer computed, and does nothing with it."""
        started = time.perf_counter()
        progress = Progress("train", 1, 1, 1, 10**6, 50_000, step.streams["noise"])
        with passes.dense_gradients(lambda layer, gradient: None) as gradients:
            loss = step.method.loss(step.module, (step.inputs, step.labels), progress)
            step.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            assert gradients is not None
            gradients.finish()
        step.optimiser.step()
        return time.perf_counter() - started

    competitors: dict[str, Timed] = {
        "a plain step": step,
        "a plain step and the dense gradient of every layer": with_gradient,
        "a step with an update": lambda: step(100),
        "the step after it, which arranges the weights anew": step,
    }
    times = interleaved(competitors, rounds)
    return [
        {"what": name, "ms": 1e3 * times.median(name), "plain_steps": times.ratio("a plain step", name)}
        for name in competitors
    ]


def prediction_section(rounds: int) -> list[dict[str, Any]]:
    """Ten posterior samples of ResNet-18 by the benchmark's own draws."""
    samples, batch = 10, 32
    inputs = torch.randn(batch, *IMAGES)

    def predict(step: Step) -> Timed:
        step.module.eval()

        @torch.no_grad()
        def run() -> None:
            for draw in step.method.draws(step.module, samples, torch.Generator().manual_seed(0)):
                draw(inputs)

        return timed(run)

    competitors = {"dense VI": predict(dense(SIZES.resnet, IMAGES, 32))}
    for density in SIZES.some((0.1, 0.05, 0.02)):
        competitors[f"SSVI at {density:g}"] = predict(sparse(SIZES.resnet, IMAGES, 32, density))
    times = interleaved(competitors, rounds)
    return [
        {
            "method": name,
            "images_per_second": batch / times.median(name),
            "ratio": times.ratio(name, "dense VI"),
        }
        for name in competitors
    ]


def memory_section(rounds: int) -> list[dict[str, Any]]:
    """Peak memory of training in processes of their own: with few activations, and with those of CIFAR-10."""
    rows = []
    for label in SIZES.some(("dense VI", "SSVI at 0.1", "SSVI at 0.05", "SSVI at 0.01")):
        small, usual = (
            [_in_process(f"peak {size}", label) for _ in range(rounds)] for size in ("8 16", "32 32")
        )
        rows.append(
            {
                "method": label, "state_mb": small[0]["state_mb"],
                "few_activations_mb": [one["peak_mb"] - one["idle_mb"] for one in small],
                "usual_mb": [one["peak_mb"] - one["idle_mb"] for one in usual],
            }
        )  # fmt: skip
    return rows


CAP = 2_700_000_000


def cap_section(rounds: int) -> list[dict[str, Any]]:
    """An MLP of 10240 wide layers under a limit on memory that its dense state exceeds."""
    weights = 784 * 10240 + 10240 * 10240 + 10240 * 10
    return [
        {"method": label, "cap_mb": CAP / 1e6, "dense_state_mb": 24 * weights / 1e6}
        | _in_process("cap", label)
        for label in SIZES.some(("dense VI", "SSVI at 0.05", "SSVI at 0.01"))
    ]


def curves_section(rounds: int) -> dict[str, Any]:
    """Over density, width and batch; and against what others offer."""
    found: dict[str, Any] = {"density": [], "width": [], "batch": [], "others": [], "auto": []}
    for case in SIZES.some((RESNET_LAYERS[0], RESNET_LAYERS[2], OTHER_LAYERS[4])):
        for density in SIZES.curve:
            times = interleaved(
                {
                    "scattered": sparse_layer(case, density, kernel=False),
                    "kernel": sparse_layer(case, density),
                    "dense": dense_layer(case),
                },
                rounds,
            )
            row = {name: 1e3 * times.median(name) for name in times.seconds}
            made = layer(case.shape, case.contraction, density)
            reason = execution.dearer(made, case.batch)
            faster = times.ratio("kernel", "scattered")[0]
            # what `auto` takes, beside what it leaves
            found["density"].append({"layer": case.label, "density": density, "auto": reason is None} | row)
            if reason is None:
                found["auto"].append({"layer": case.label, "density": density, "share": 1 / faster})
    for factor in SIZES.some((1, 2, 4)):
        width = 64 * factor
        case = Case(f"3×3, {width}→{width}, 16×16", (width, width, 3, 3), SAME, (16, 16), 32)
        times = interleaved({"dense": dense_layer(case), "kernel": sparse_layer(case, 0.05)}, rounds)
        found["width"].append({"width": width} | {n: 1e3 * times.median(n) for n in times.seconds})
    for batch in SIZES.some((8, 16, 32, 64, 128, 256)):
        case = Case("3×3, 128→128, 16×16", (128, 128, 3, 3), SAME, (16, 16), batch)
        times = interleaved({"dense": dense_layer(case), "kernel": sparse_layer(case, 0.05)}, rounds)
        found["batch"].append({"batch": batch} | {n: 1e3 * times.median(n) for n in times.seconds})
    for case in (RESNET_LAYERS[1], OTHER_LAYERS[4]):
        for density in SIZES.some((0.1, 0.05, 0.02)):
            competitors = {"kernel": sparse_layer(case, density), **others(case, density)}
            times = interleaved(competitors, rounds)
            found["others"] += [
                {"layer": case.label, "density": density, "what": name, "ms": 1e3 * times.median(name),
                 "kernel_is_faster": times.ratio("kernel", name)} for name in competitors if name != "kernel"
            ]  # fmt: skip
    return found


def others(case: Case, density: float) -> dict[str, Timed]:
    """Sparse operators of others, called for the mean and again for the variance, without noise."""
    weight = torch.zeros(torch.Size(case.shape).numel())
    weight[torch.randperm(weight.numel())[: round(density * weight.numel())]] = 0.1
    weight = weight.view(case.shape)
    found: dict[str, Timed] = {}
    x = case.inputs().requires_grad_()
    grad = torch.randn_like(case.contraction.forward(x, weight, None).detach())
    if isinstance(case.contraction, Linear):
        matrices = [weight.to_sparse_csr().requires_grad_() for _ in range(2)]

        def by_csr() -> None:
            m = torch.sparse.mm(matrices[0], x.t())
            v = torch.sparse.mm(matrices[1], x.square().t())
            torch.autograd.backward([m, v], [grad.t(), grad.t()])

        found["torch.sparse, CSR"] = timed(by_csr)
    try:
        from sparseprop.modules import SparseLinear, sparsify_conv2d_auto
    except ImportError:
        return found
    if isinstance(case.contraction, Linear):
        modules = [SparseLinear(weight.clone()) for _ in range(2)]
    else:
        plain = torch.nn.Conv2d(case.shape[1], case.shape[0], 3, padding=1, bias=False)
        plain.weight.data = weight
        modules = [sparsify_conv2d_auto(plain, case.inputs().shape) for _ in range(2)]

    def by_sparseprop() -> None:
        torch.autograd.backward([modules[0](x), modules[1](x.square())], [grad, grad])

    found["sparseprop"] = timed(by_sparseprop)
    return found


def technology_section(rounds: int) -> list[dict[str, Any]]:
    """The forward pass, one thread, without padding: C as it is built, with and without noise, and numba."""
    from kernel_page.technologies import compare

    return compare(rounds, interleaved, timed)


def avx2_section(rounds: int) -> list[dict[str, Any]]:
    """ResNet-18 where torch and the kernels are held to AVX2."""
    found = _in_process("avx2", str(rounds), ATEN_CPU_CAPABILITY="avx2")
    rows: list[dict[str, Any]] = found.get("rows", [])
    return rows


def training_section(rounds: int) -> list[dict[str, Any]]:
    """Fashion-MNIST to the end, sparse beside dense execution, through ``bench.run``."""
    import tempfile

    from bench.data.files import data_root
    from bench.experiment.execution import Execution
    from bench.results.store import Store
    from bench.runner.execute import execute

    if SIZES is FULL and not (data_root() / "FashionMNIST").exists():
        return []
    networks = {"LeNet-5": {"name": "lenet5"}, "CNN 16-32": {"name": "cnn", "channels": [16, 32]}}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for label, network in SIZES.some(networks.items()):
            for density in SIZES.some((0.1, 0.05, 0.02)):
                found: dict[str, list[dict[str, Any]]] = {"dense": [], "sparse": []}
                for seed in SIZES.some(range(2)):
                    for how in found:
                        chosen = {
                            "dataset": SIZES.dataset, "network": network,
                            "seed": seed, "epochs": SIZES.epochs,
                            "method": {"name": "ssvi", "sparsity": 1 - density, "replace_every": 100},
                            "batch_size": 128, "optimiser": "adam", "lr": 0.002, "lr_scale": 0.01,
                            "samples": 5,
                        }  # fmt: skip
                        spec = parse_spec(nest(chosen))
                        store = Store(Path(folder) / how, create=True)
                        execute(spec, store, Execution(mode=how, threads=torch.get_num_threads()))
                        run = store.run(spec.run_id)
                        metrics = {
                            row["metric"]: row["value"] for row in (run.read("metrics") or {})["metrics"]
                            if row["split"] == "test" and row["predictor"] == "samples"
                        }  # fmt: skip
                        costs_ = run.read("costs") or {}
                        found[how].append(
                            {k: metrics[k] for k in ("accuracy", "nll")} | {"seconds": costs_["wall_seconds"]}
                        )
                rows.append({"network": label, "density": density, **found})
    return rows


# -- processes of their own -------------------------------------------------------------------


def _in_process(what: str, label: str, **environment: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--process", what, label, "--threads", str(torch.get_num_threads())]
    command += ["--smoke"] if SIZES is TINY else []
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        if SIZES is TINY:  # for which there is room everywhere
            raise SystemExit(f"{what}: {done.stderr}")
        return {
            "failed": done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else done.returncode
        }
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _step_of(label: str, network: dict[str, Any], shape: tuple[int, ...], batch: int) -> Step:
    if label == "dense VI":
        return dense(network, shape, batch)
    return sparse(network, shape, batch, float(label.rsplit(" ", 1)[1]))


def _process(what: str, label: str) -> dict[str, Any]:
    from bench.runner.memory import PeakMemory

    if what == "avx2":
        competitors: dict[str, Timed] = {"dense VI, float32": dense(SIZES.resnet, IMAGES, 32)}
        competitors |= {
            f"SSVI at {d:g}": sparse(SIZES.resnet, IMAGES, 32, d) for d in SIZES.some((0.1, 0.05, 0.01))
        }
        times = interleaved(competitors, int(label))
        return {
            "rows": [
                {"competitor": n, "ms": 1e3 * times.median(n), "ratio": times.ratio(n, "dense VI, float32")}
                for n in competitors
            ]
        }
    if what == "cap":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (CAP, CAP))
        step = _step_of(label, SIZES.wide, ROWS, 128)
        seconds = [step() for _ in range(3)]
        return {"ms": 1e3 * min(seconds)}
    small = {"name": "cnn", "channels": [16]}
    for other in ("dense VI", "SSVI at 0.1"):  # what torch and the kernels need for themselves
        _step_of(other, small, IMAGES, 16)()
    idle = PeakMemory(torch.device("cpu")).bytes or 0
    side, batch = map(int, what.split()[1:])
    step = _step_of(label, SIZES.resnet, (3, side, side), batch)
    step()
    memory = PeakMemory(torch.device("cpu"))  # without what building took
    for _ in range(2):
        step()
    parameters = list(step.module.parameters())
    momentum = [v for s in step.optimiser.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    kept = [
        *parameters,
        *parameters,
        *momentum,
        *step.module.buffers(),
    ]  # gradients are as large as parameters
    state = sum(t.numel() * t.element_size() for t in kept)
    return {"idle_mb": idle / 1e6, "peak_mb": (memory.bytes or 0) / 1e6, "state_mb": state / 1e6}


SECTIONS: dict[str, Callable[[int], Any]] = {
    "layers": layers_section,
    "steps": steps_section,
    "update": update_section,
    "prediction": prediction_section,
    "memory": memory_section,
    "cap": cap_section,
    "curves": curves_section,
    "avx2": avx2_section,
    "technology": technology_section,
    "training": training_section,
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, by comma (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for the page and its figures (default: print it)")
    parser.add_argument("--process", nargs=2, help=argparse.SUPPRESS)
    arguments = parsed(parser, rounds=1)
    if arguments.smoke and arguments.out is not None:
        parser.error("--out keeps figures, and those of --smoke mean nothing")
    global SIZES
    SIZES = TINY if arguments.smoke else FULL
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.process:
        print(json.dumps(_process(*arguments.process)))
        return
    if (reason := absent()) is not None:
        parser.error(reason)
    if arguments.out is not None and not arguments.out.is_dir():
        parser.error(f"--out {arguments.out}: no such folder")
    path = None if arguments.out is None else arguments.out / "performance.json"
    found = json.loads(path.read_text()) if path is not None and path.exists() else {}
    for name in arguments.sections.split(","):
        if name not in SECTIONS:
            parser.error(f"unknown section {name!r}; valid: {', '.join(SECTIONS)}")
        started = time.perf_counter()
        rows = SECTIONS[name](arguments.rounds)
        found[name] = {
            "rows": rows, "rounds": arguments.rounds, "threads": arguments.threads, "cpu": cpu_model(),
            "torch": torch.__version__, "python": platform.python_version(), "commit": git_sha(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        }  # fmt: skip
        if path is not None:
            path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    from kernel_page import page

    if arguments.out is None:
        print(page.text(found, None))
    else:
        (arguments.out / "performance.md").write_text(page.text(found, arguments.out))


if __name__ == "__main__":
    main()
