"""Follow and cancel runs: progress from run folders, files of launches, and the SLURM queue. No torch."""
