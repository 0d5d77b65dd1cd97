"""Code that several methods share: variational, sparse, moving, pruned, adaptive and gradual families."""
