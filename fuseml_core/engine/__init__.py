"""The engine: triggers, runs, steps and services, driven by what the database says and nothing else."""
