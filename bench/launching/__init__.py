"""Have runs computed: a launch in its parts, worker processes of this machine, and jobs of SLURM."""
