"""The forward pass of a sparse convolution by numba, beside the one in C: what the choice rests on."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np
import torch

from methods.core.contractions import Conv2d
from methods.kernels.contraction import Arranged, geometry
from methods.kernels.library import library, pointer

CHANNELS, SIZE, BATCH = 64, 32, 32


def compare(rounds: int, interleaved: Any, timed: Any) -> list[dict[str, Any]]:
    """Milliseconds of a 3×3 convolution of 64 channels (no padding) at density 0.05 and 0.1, one thread."""
    try:
        import numba
    except ImportError:
        return []

    @numba.njit(fastmath=True, error_model="numpy")
    def mean(x, starts, offsets, means, y, width, row):  # type: ignore[no-untyped-def]
        """Four weights a pass over a row of outputs, which then is loaded and stored a quarter as often."""
        blocks, out, positions = y.shape
        for b in range(blocks):
            for first in range(0, positions, width):
                source = x[b, first // width * row :]
                for o in range(out):
                    to = y[b, o, first : first + width]
                    k, end = starts[o], starts[o + 1]
                    while k + 4 <= end:
                        x0, x1 = source[offsets[k] * 16 :], source[offsets[k + 1] * 16 :]
                        x2, x3 = source[offsets[k + 2] * 16 :], source[offsets[k + 3] * 16 :]
                        m0, m1, m2, m3 = means[k], means[k + 1], means[k + 2], means[k + 3]
                        for i in range(width):
                            to[i] += m0 * x0[i] + m1 * x1[i] + m2 * x2[i] + m3 * x3[i]
                        k += 4
                    while k < end:
                        x0, m0 = source[offsets[k] * 16 :], means[k]
                        for i in range(width):
                            to[i] += m0 * x0[i]
                        k += 1

    @numba.njit(fastmath=True, error_model="numpy")
    def moments(x, starts, offsets, means, variances, y, v, width, row):  # type: ignore[no-untyped-def]
        """The same of both moments."""
        blocks, out, positions = y.shape
        for b in range(blocks):
            for first in range(0, positions, width):
                source = x[b, first // width * row :]
                for o in range(out):
                    to, square = y[b, o, first : first + width], v[b, o, first : first + width]
                    k, end = starts[o], starts[o + 1]
                    while k + 4 <= end:
                        x0, x1 = source[offsets[k] * 16 :], source[offsets[k + 1] * 16 :]
                        x2, x3 = source[offsets[k + 2] * 16 :], source[offsets[k + 3] * 16 :]
                        m0, m1, m2, m3 = means[k], means[k + 1], means[k + 2], means[k + 3]
                        s0, s1, s2, s3 = variances[k], variances[k + 1], variances[k + 2], variances[k + 3]
                        for i in range(width):
                            a, b_, c, d = x0[i], x1[i], x2[i], x3[i]
                            to[i] += m0 * a + m1 * b_ + m2 * c + m3 * d
                            square[i] += s0 * (a * a) + s1 * (b_ * b_) + s2 * (c * c) + s3 * (d * d)
                        k += 4
                    while k < end:
                        x0, m0, s0 = source[offsets[k] * 16 :], means[k], variances[k]
                        for i in range(width):
                            to[i] += m0 * x0[i]
                            square[i] += s0 * (x0[i] * x0[i])
                        k += 1

    rows = []
    inside = SIZE + 2
    shape = torch.Size((CHANNELS, CHANNELS, 3, 3))
    for density in (0.1, 0.05):
        count = round(density * shape.numel())
        index = torch.randperm(shape.numel())[:count].sort().values.to(torch.int32)
        plan = geometry(Conv2d(), shape, (inside, inside))
        arranged = Arranged(plan, index)
        means, variances = torch.randn(count), torch.rand(count)
        x = torch.randn(BATCH // 16, CHANNELS, inside, inside, 16)
        y = torch.empty(BATCH // 16, CHANNELS, SIZE, SIZE, 16)
        slope = torch.empty_like(y)
        starts, offsets = (part.numpy() for part in arranged._memory[0][:2])
        flat_x, flat_y = x.view(BATCH // 16, -1).numpy(), y.view(BATCH // 16, CHANNELS, -1).numpy()
        flat_v = slope.view(BATCH // 16, CHANNELS, -1).numpy()
        wide, row = SIZE * 16, inside * 16

        def by_c(with_noise: bool) -> None:
            library().forward(
                ctypes.byref(plan), ctypes.byref(arranged.forward), count, BATCH, pointer(x), pointer(means),  # noqa: B023
                pointer(variances) if with_noise else None, None, 0.0, 1, pointer(y),  # noqa: B023
                pointer(slope) if with_noise else None, 1,  # noqa: B023
            )  # fmt: skip

        def by_numba(both: bool) -> None:
            flat_y[:] = 0  # noqa: B023
            m = means.numpy()  # noqa: B023
            if both:
                flat_v[:] = 0  # noqa: B023
                moments(flat_x, starts, offsets, m, variances.numpy(), flat_y, flat_v, wide, row)  # noqa: B023
            else:
                mean(flat_x, starts, offsets, m, flat_y, wide, row)  # noqa: B023

        by_c(False)
        expected = y.clone()
        began = time.perf_counter()
        by_numba(False)
        compiling = time.perf_counter() - began
        assert np.allclose(y.numpy(), expected.numpy(), atol=1e-3)
        competitors = {
            "C, mean": timed(lambda: by_c(False)),
            "C, mean, variance and noise": timed(lambda: by_c(True)),
            "numba, mean": timed(lambda: by_numba(False)),
            "numba, mean and variance": timed(lambda: by_numba(True)),
        }
        times = interleaved(competitors, rounds)
        rows += [
            {
                "density": density, "what": name, "ms": 1e3 * times.median(name), "first_call_s": compiling
                if "numba" in name and density == 0.1 else None,
            }
            for name in competitors
        ]  # fmt: skip
    return rows
