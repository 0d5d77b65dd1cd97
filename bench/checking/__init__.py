"""What ``bench.check`` does: a method is trained in small, and held against what the contract promises."""
