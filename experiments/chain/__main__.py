"""``python -m experiments.chain``."""

from experiments.chain.command import main

if __name__ == "__main__":
    raise SystemExit(main())
