"""``fluxlight votes``: listeners' votes on pairs of clips to inputs of a reward head."""

from __future__ import annotations

from collections.abc import Sequence

from fluxlight.rewards.votes import prepare


def main(args: Sequence[str] | None = None) -> int:
    """`fluxlight votes --table votes.csv --out train.safetensors`: the embedded CLAP by default."""
    from fluxlight.cli.arguments import settings_of

    defaults = {"clap": {"class_path": "fluxlight.encoders.clap_a.ClapA"}}
    given = settings_of(prepare, "fluxlight votes", __doc__.split("\n\n")[0], defaults, args)
    made, clap, mert = prepare(**given), given["clap"], given["mert"]
    widths = [("clap_audio", clap.dim), *([("mert", mert.dim)] if mert else [])]
    widths += [("clap_text", clap.dim)] if given["text"] else []
    inputs = ", ".join(f"[{name}, {width}]" for name, width in widths)
    ties = int((made.pairs.target == 0.5).sum())
    print(f"{len(made.pairs.target)} votes, {ties} of them ties -> {given['out']}; --model.head.inputs '[{inputs}]'")
    return 0
