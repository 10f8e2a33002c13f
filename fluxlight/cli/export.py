"""``fluxlight export``: a bundle to a model folder with its card, ready for ``fluxlight generate`` and the hub."""

from __future__ import annotations

import argparse
import sys
import warnings

from fluxlight.cli.arguments import Arguments


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight export",
        description="Write a model folder: model.yaml, weights.safetensors, config.json, a card and samples.",
        epilog="Example: fluxlight export runs/tiny/row4 --out models/row4 --table runs/tiny/table.json; "
        "upload it with: hf upload USER/NAME models/row4",
    )
    add = p.add_argument
    add("bundle", help="bundle, or a run folder with one in it")
    add("--out", required=True, help="the model folder")
    add("--name", help="of the model in its card (default: the folder's)")
    add("--weights", choices=("raw", "ema"), default="raw", help="raw or averaged weights (raw)")
    add("--table", help="table.json of `fluxlight evaluate`: the card's metrics")
    add("--row", help="row of the table, where the weights do not tell")
    add("--data", help="what the model was trained on (default: as its run says)")
    add("--license", dest="licence", help="of the weights, a hub identifier (default: follows from the parts)")
    add("--pipeline", help="YAML with codec, text, clap, reward, postprocess, sampler, prefix, suffix that differ")
    add("--half", action="store_true", help="keep the weights in half precision: half the size")
    add("--samples", type=int, default=3, metavar="N", help="clips beside the card, the first its run rendered (3)")
    add("--trust", action="append", default=[], metavar="PACKAGE",
        help="package beside fluxlight whose classes the bundle may name; runs its code")  # fmt: skip
    return p


def main(args: list[str]) -> int:
    """Run the verb."""
    given = vars(parser().parse_args(args))
    from fluxlight.export.folder import export
    from fluxlight.generate.pipeline import Notice

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", Notice)
        warnings.showwarning = lambda message, *_, **__: print(f"fluxlight export: {message}", file=sys.stderr)
        out = export(given.pop("bundle"), given.pop("out"), **given)
    print(f'{out}: try `fluxlight generate "a calm piano piece" --model {out}`')
    return 0
