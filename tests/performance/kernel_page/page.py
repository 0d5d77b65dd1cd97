"""``docs/performance.md`` and its plots from the figures of ``kernels.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INTRODUCTION = """# How fast sparse execution is

`python tests/performance/kernels.py --out docs` measures these figures and writes this page. [docs/kernels.md](kernels.md) says how the
kernels work and how to choose between them. **A ratio says how many times as fast as the named competitor something is: the
median of alternating rounds, with the smallest and the largest round in brackets.** Machines differ, and the load of a shared
machine changes by the hour, so run the command on yours.
"""


def text(found: dict[str, Any], folder: Path | None) -> str:
    """The page from the sections that were measured; the plots go to ``folder``."""
    parts = [INTRODUCTION]
    for name, render in _RENDER.items():
        if found.get(name, {}).get("rows"):
            parts.append(render(found[name]["rows"], folder))
            parts.append(_conditions(found[name]))
    return "\n".join(parts)


def _conditions(section: dict[str, Any]) -> str:
    return (
        f"*{section['rounds']} rounds, {section['threads']} threads; {section['cpu']}, {section['capability']}; torch "
        f"{section['torch']}, Python {section['python']}; commit {(section['commit'] or 'unknown')[:8]}.*\n"
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _ratio(values: list[float]) -> str:
    return f"{values[0]:.1f} ({values[1]:.1f}–{values[2]:.1f})"


def _layers(rows: list[dict[str, Any]], folder: Path | None) -> str:
    densities = sorted({row["density"] for row in rows}, reverse=True)
    lines = []
    for label in dict.fromkeys(row["layer"] for row in rows):
        mine = {row["density"]: row for row in rows if row["layer"] == label}
        cells = [f"{_ratio(mine[d]['ratio'])}<br>{mine[d]['sparse_ms']:.2f} ms" for d in densities]
        lines.append([label, f"{mine[densities[0]]['dense_ms']:.1f} ms", *cells])
    head = ["layer", "dense VI", *(f"density {d:g}" for d in densities)]
    return (
        "## Layers\n\nForward and backward of one layer, noise included, batch 32 unless another is named, in the kernels' "
        "layout, against dense VI in float32 with local reparameterisation (two contractions and autograd).\n\n"
        + _table(head, lines)
    )


def _steps(rows: list[dict[str, Any]], folder: Path | None) -> str:
    text = (
        "## Training steps\n\nForward, KL, backward and SGD with momentum. *One weight sample* draws the weights once for "
        "the whole batch: a user needs two lines for it, and the gradient has a higher variance.\n"
    )
    for label in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == label]
        head = ["", "ms a step", "times as fast as dense VI"]
        lines = [[row["competitor"], f"{row['ms']:.1f}", _ratio(row["ratio"])] for row in mine]
        text += f"\n### {label}\n\n" + _table(head, lines)
    return text


def _avx2(rows: list[dict[str, Any]], folder: Path | None) -> str:
    lines = [[row["competitor"], f"{row['ms']:.1f}", _ratio(row["ratio"])] for row in rows]
    return (
        "### AVX2\n\nResNet-18, batch 32, with torch and the kernels limited to AVX2 on the same processor "
        "(`ATEN_CPU_CAPABILITY=avx2`).\n\n" + _table(["", "ms a step", "times as fast as dense VI"], lines)
    )


def _update(rows: list[dict[str, Any]], folder: Path | None) -> str:
    lines = [
        [row["what"], f"{row['ms']:.0f}", "{:.2f} ({:.2f}–{:.2f})".format(*row["plain_steps"])]
        for row in rows
    ]
    return (
        "## Subspace updates\n\nSSVI on ResNet-18 at density 0.05, batch 32. An update ranks every inactive weight by its "
        "gradient, which is a dense contraction with or without kernels. There is one update in `replace_every` steps.\n\n"
        + _table(["", "ms", "plain steps"], lines)
    )


def _prediction(rows: list[dict[str, Any]], folder: Path | None) -> str:
    lines = [[row["method"], f"{row['images_per_second']:.0f}", _ratio(row["ratio"])] for row in rows]
    head = ["", "images a second", "times as fast as dense VI"]
    return (
        "## Prediction\n\nTen posterior samples of ResNet-18, batches of 32 (the size that the benchmark evaluates it by).\n\n"
        + _table(head, lines)
    )


def _memory(rows: list[dict[str, Any]], folder: Path | None) -> str:
    middle = {row["method"]: {key: sorted(row[key])[len(row[key]) // 2] for key in _PEAKS} for row in rows}
    lines = []
    for row in rows:
        cells = [f"{row['state_mb']:.0f}"]
        for key in _PEAKS:
            peak, base = middle[row["method"]][key], middle["dense VI"][key]
            cells += [f"{peak:.0f} ({min(row[key]):.0f}–{max(row[key]):.0f})", f"{peak / base:.3f}"]
        lines.append([row["method"], *cells])
    head = [
        "",
        "parameters, gradients, momentum",
        "peak, few activations",
        "of dense VI's",
        "peak, CIFAR-10",
        "of dense VI's",
    ]
    return (
        "## Memory\n\nTraining steps of ResNet-18 in processes of their own: peak resident memory above that of an idle "
        "process, in 10⁶ bytes. *Few activations*: a batch of 16 images of 8×8, so that nearly all memory is state and what is "
        "computed from it; *CIFAR-10*: a batch of 32 images of 32×32, where activations take most of the memory.\n\n"
        + _table(head, lines)
    )


_PEAKS = ("few_activations_mb", "usual_mb")


def _cap(rows: list[dict[str, Any]], folder: Path | None) -> str:
    lines = [
        [row["method"], f"{row['ms']:.0f} ms a step" if "ms" in row else f"fails: {row['failed']}"]
        for row in rows
    ]
    first = rows[0]
    return (
        f"### Under a limit\n\nAn MLP 784-10240-10240-10, whose parameters, gradients and momentum take "
        f"{first['dense_state_mb']:.0f} · 10⁶ bytes under dense VI, in a process whose data may take {first['cap_mb']:.0f} · 10⁶ "
        "(`RLIMIT_DATA`).\n\n" + _table(["", "outcome"], lines)
    )


def _curves(found: dict[str, Any], folder: Path | None) -> str:
    text = "## Where it pays\n\n"
    if _plot(found, folder):
        text += "![Step time against density, width and batch](performance.svg)\n\n"
    head = ["layer", "density", "dense VI", "scattered", "kernel", "`auto` takes"]
    text += (
        "Milliseconds of forward and backward. *Scattered* is what `--execution dense` does with a sparse layer: dense "
        "contractions of scattered weights.\n\n"
        + _table(
            head,
            [
                [row["layer"], f"{row['density']:g}", *(f"{row[k]:.2f}" for k in ("dense", "scattered", "kernel")),
                 "the kernel" if row["auto"] else "scattered weights"] for row in found["density"]
            ],
        )
    )  # fmt: skip
    worst = max(found["auto"], key=lambda row: row["share"])
    text += (
        f"\nWhere `auto` takes the kernel, the kernel takes at most {worst['share']:.2f} of the time of scattered weights "
        f"({worst['layer']}, density {worst['density']:g}).\n\n"
    )
    for key, label in (
        ("width", "3×3, 16×16, batch 32, density 0.05: channels"),
        ("batch", "3×3, 128→128, 16×16, density 0.05: batch"),
    ):
        lines = [
            [str(r[key]), f"{r['dense']:.2f}", f"{r['kernel']:.2f}", f"{r['dense'] / r['kernel']:.1f}"]
            for r in found[key]
        ]
        text += _table([label, "dense VI, ms", "kernel, ms", "ratio"], lines) + "\n"
    lines = [
        [r["layer"], f"{r['density']:g}", r["what"], f"{r['ms']:.2f}", _ratio(r["kernel_is_faster"])]
        for r in found["others"]
    ]
    text += (
        "### Other sparse operators\n\nEach operator is called twice, for the mean and for the variance, without noise, in the layout that it "
        "requires. The time of the kernel includes its noise.\n\n"
        + _table(["layer", "density", "", "ms", "the kernel is faster by"], lines)
    )
    return text


def _plot(found: dict[str, Any], folder: Path | None) -> bool:
    if folder is None:
        return False
    try:
        import matplotlib
    except ImportError:
        return (folder / "performance.svg").exists()
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "performance", "font.size": 9})
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for colour, label in zip(
        ("C0", "C1", "C2"), dict.fromkeys(r["layer"] for r in found["density"]), strict=False
    ):
        mine = [r for r in found["density"] if r["layer"] == label]
        axes[0].plot(
            [r["density"] for r in mine], [r["kernel"] for r in mine], "o-", color=colour, label=label, ms=3
        )
        axes[0].plot([r["density"] for r in mine], [r["scattered"] for r in mine], ":", color=colour)
    axes[0].set(xscale="log", yscale="log", xlabel="density", ylabel="ms, forward and backward")
    axes[0].set_title("kernel (line) and dense execution (dots)")
    axes[0].legend(fontsize=7)
    for axis, key in zip(axes[1:], ("width", "batch"), strict=True):
        for name, style in (("dense", ":"), ("kernel", "o-")):
            axis.plot([r[key] for r in found[key]], [r[name] for r in found[key]], style, label=name, ms=3)
        axis.set(xscale="log", yscale="log", xlabel={"width": "channels", "batch": "batch"}[key])
        axis.set_xticks([r[key] for r in found[key]], [str(r[key]) for r in found[key]])
        axis.minorticks_off()
        axis.set_title("density 0.05")
        axis.legend(fontsize=7)
    figure.savefig(folder / "performance.svg", metadata={"Date": None})
    plt.close(figure)
    return True


def _technology(rows: list[dict[str, Any]], folder: Path | None) -> str:
    lines = [
        [
            f"{r['density']:g}",
            r["what"],
            f"{r['ms']:.2f}",
            f"{r['first_call_s']:.1f} s" if r["first_call_s"] else "—",
        ]
        for r in rows
    ]
    return (
        "## Why C, compiled by zig\n\nForward pass of a 3×3 convolution of 64 channels, 32×32, batch 32, on one thread, with the same "
        "pattern in the same layout (`tests/performance/kernel_page/technologies.py`).\n\n"
        + _table(["density", "", "ms", "first call, with compilation"], lines)
        + "\nNumba needs no compiler either. But it compiles in every new process or keeps a cache that processes share, "
        "and it keeps no tile of sums in registers. C with the compiler's vector types is one source for AVX2 and AVX-512. "
        "clang comes from PyPI (`ziglang`) when the package is installed, so users need no compiler, and nothing is compiled while "
        "runs are computed. A machine without the compiled kernels computes densely.\n"
    )


def _training(rows: list[dict[str, Any]], folder: Path | None) -> str:
    lines = []
    for row in rows:
        cells = [row["network"], f"{row['density']:g}"]
        for key, scale in (("accuracy", 100), ("nll", 1)):
            for how in ("dense", "sparse"):
                values = [scale * run[key] for run in row[how]]
                cells.append(" / ".join(f"{value:.2f}" if scale > 1 else f"{value:.3f}" for value in values))
        ratios = [d["seconds"] / s["seconds"] for d, s in zip(row["dense"], row["sparse"], strict=True)]
        cells.append(f"{sum(ratios) / len(ratios):.2f}")
        lines.append(cells)
    head = [
        "network",
        "density",
        "accuracy %, dense",
        "sparse",
        "NLL, dense",
        "sparse",
        "whole run, times as fast",
    ]
    return (
        "## Trained to the end\n\nSSVI on Fashion-MNIST, three epochs, seeds 0 / 1, test set: the same runs by dense and by sparse "
        "execution. They differ only in their noise. The time of the whole run includes evaluation and everything else.\n\n"
        + _table(head, lines)
    )


_RENDER = {
    "layers": _layers,
    "steps": _steps,
    "avx2": _avx2,
    "update": _update,
    "prediction": _prediction,
    "memory": _memory,
    "cap": _cap,
    "curves": _curves,
    "training": _training,
    "technology": _technology,
}
