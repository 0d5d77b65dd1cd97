"""Sparse kernels for CPUs: layers whose time and memory are proportional to their active weights.

``library`` loads the compiled functions (from ``source/``), ``contraction`` computes the map of a layer
with them, ``blocks`` is the memory layout in which activations travel between such layers, ``normalise``
is batch normalisation in this layout, and ``scales`` computes variances and KL.
``methods.layers.execution`` decides which layers are computed by kernels;
``methods.subspace.surgery`` uses them to find the largest magnitudes.
"""
