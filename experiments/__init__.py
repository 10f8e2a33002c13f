"""Experiments: the chain, one change over it at a time, sweeps, and what they found."""
