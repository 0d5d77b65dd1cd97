"""Who computes runs: the session, pools of workers of this machine, and jobs of SLURM."""
