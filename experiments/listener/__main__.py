"""``python -m experiments.listener``."""

from experiments.listener.command import main

if __name__ == "__main__":
    raise SystemExit(main())
