"""Launch runs: read what was asked for, prepare, and compute in this process, by workers or by SLURM jobs."""
