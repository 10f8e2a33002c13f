"""A listener in the loop: votes -> reward head -> expert iteration -> a blind page of before and after."""

from experiments.listener.command import main

__all__ = ["main"]
