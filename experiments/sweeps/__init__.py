"""Sweeps: the YAML files that wandb takes, and their trials."""
