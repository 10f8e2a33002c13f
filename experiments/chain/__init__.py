"""The chain: the rows of the decomposition table as steps that run once, one command line each."""

from experiments.chain.command import main

__all__ = ["main"]
