"""Runs as jobs of SLURM: profiles of sites, what SLURM is asked, what was submitted, a job's life."""
