"""Where runs stand: progress from run folders, launches, and the SLURM queue. No torch."""
