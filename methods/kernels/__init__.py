"""Sparse kernels for CPUs: layers whose time and memory follow their active weights.

``library`` loads the compiled functions (``source/``), ``contraction`` is a layer's map by them,
``blocks`` the layout in which activations travel between such layers, ``normalise`` batch
normalisation in it, ``scales`` variances and KL. ``methods.layers.execution`` decides which layers run how,
and ``methods.subspace.surgery`` selects by them too.
"""
