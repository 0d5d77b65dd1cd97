"""Shift test inputs while their labels stay right: one family of shifts in each file.

The fifteen corruptions are those of Hendrycks and Dietterich, Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations (2019), with the constants of their CIFAR-10-C.
"""
