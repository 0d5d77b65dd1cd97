"""Who computes runs: a launch from what was asked to what was computed, workers of this machine, and jobs of SLURM."""
