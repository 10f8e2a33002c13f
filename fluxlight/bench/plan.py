"""What the chain costs on 1, 8 and 64 devices: numbers of a scale times seconds that were measured on one device.

Training keeps its batch whatever the number of devices, so each has a smaller part of it, at the speed measured for
that size, and gradients are added up in a ring: every device sends ``2 (N - 1) / N`` times their bytes (Patarasuk
and Yuan, 2009), here without overlap. Everything else is shared out evenly. Networks that are not measured by
themselves (the codec, T5) are counted, at the FLOP/s that the backbone's forward reached. Not in it: judges, decoding
of audio files, waiting for a disk, start-up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fluxlight.bench.measure import operations
from fluxlight.bench.networks import S44
from fluxlight.files import read_json, read_yaml

T5_LAYERS, T5_WIDTH, T5_FEED, T5_TOKENS = 24, 1024, 2816, 77
"""flan-t5-large's encoder, from its published config.json; 77 tokens a caption (FACTS section 6)."""
PARAMETERS = 120_231_848
"""Trainable parameters of FluxAudio-S at 44.1 kHz (FACTS section 6)."""
SLICE = 100
"""Prompts of the slice (FACTS section 1)."""
TABLE_ROWS = 6
"""Renderings of the slice for the table: rows 0 to 4 and the untrained model."""


@dataclass(frozen=True)
class Speed:
    """What was measured on one device.

    Attributes:
        device, precision: for the table.
        training, sampling, forward: batch size -> seconds of the batch; sampling is the guided one of 25 steps.
        rate: FLOP/s of the best forward.
    """

    device: str
    precision: str
    training: dict[int, float]
    sampling: dict[int, float]
    forward: dict[int, float]
    rate: float

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], device: str) -> Speed:
        """From the numbers of the part ``s44`` (``--json``): our way, eager or compiled, whichever is faster."""
        ours = [row for row in rows if row.get("part") == "s44" and row.get("way") in ("eager", "compiled")]
        precision = "bf16" if any(row["precision"] == "bf16" for row in ours) else "fp32"
        ours = [row for row in ours if row["precision"] == precision]
        found: dict[str, dict[int, float]] = {"training step": {}, "sampling": {}, "forward": {}}
        for row in ours:
            for kind, times in found.items():
                if row["kind"].startswith(kind):
                    times[row["batch"]] = min(row["seconds"], times.get(row["batch"], math.inf))
        if lacking := [kind for kind, times in found.items() if not times]:
            raise ValueError(f"no {lacking[0]} of FluxAudio-S was measured: run python -m fluxlight.bench --only s44")
        rate = max(row["flops"] / row["seconds"] for row in ours if row["kind"] == "forward")
        return cls(device, precision, found["training step"], found["sampling"], found["forward"], rate)


@dataclass(frozen=True)
class Cost:
    """A step of the chain.

    Attributes:
        what, work: for the table.
        seconds: on each number of devices.
    """

    what: str
    work: str
    seconds: tuple[float, ...]


def batch_seconds(times: Mapping[int, float], size: float) -> float:
    """Seconds of a batch between, below or above the sizes measured: never less than the smallest's."""
    sizes = sorted(times)
    if size <= sizes[0]:
        return times[sizes[0]]
    if size >= sizes[-1]:
        return times[sizes[-1]] * size / sizes[-1]
    above = next(k for k in sizes if k >= size)
    below = max(k for k in sizes if k <= size)
    share = 0.0 if above == below else (size - below) / (above - below)
    return times[below] + share * (times[above] - times[below])


def codec_flops() -> tuple[int, int]:
    """FLOPs of encoding and of decoding one clip with MMAudio's VAE and BigVGAN, counted where nothing is computed."""
    from fluxlight.codec.bigvgan import CONFIG_44K, BigVGAN
    from fluxlight.codec.mmaudio_vae import MelVAE

    with torch.device("meta"), torch.no_grad():
        vae, vocoder = MelVAE(), BigVGAN(CONFIG_44K)
        mel, latent = torch.empty(1, 128, 2 * S44["latent_seq_len"]), torch.empty(1, 40, S44["latent_seq_len"])
        encode = operations(lambda: vae.encode(mel))
        return encode, operations(lambda: vae.decode(latent)) + operations(lambda: vocoder(mel))


def t5_flops() -> int:
    """FLOPs of one caption: products with the weights, then attention's two products, in every layer."""
    weights = 4 * T5_WIDTH**2 + 3 * T5_WIDTH * T5_FEED
    return T5_LAYERS * (2 * T5_TOKENS * weights + 4 * T5_TOKENS**2 * T5_WIDTH)


def costs(
    chain: Mapping[str, Any], plan: Mapping[str, Any], speed: Speed, devices: Sequence[int], clips: int,
    each: float, bandwidth: float,
) -> Iterator[Cost]:  # fmt: skip
    """Every step of a chain.

    Args:
        chain: a file of configs/chain.
        plan: the plan of its scale overlay.
        speed: what one device does.
        devices: how many there are.
        clips: of the training set.
        each: clips of a caption.
        bandwidth: bytes a second that a device sends while gradients are added up.
    """
    encode, decode = (flops / speed.rate for flops in codec_flops())

    def shared(what: str, work: str, seconds: float) -> Cost:
        return Cost(what, work, tuple(seconds / n for n in devices))

    def trained(what: str, name: str, pairs: bool = False) -> Cost:
        step = plan[name]
        batch = step["batch"] * step["accumulate"] * (2 if pairs else 1)
        units = batch // 2 if pairs else batch
        seconds = []
        for n in devices:
            used = min(n, units)
            own = math.ceil(units / used) * (2 if pairs else 1)
            # pairs are seen by the frozen reference, too
            one = batch_seconds(speed.training, own) + (batch_seconds(speed.forward, own) if pairs else 0.0)
            seconds.append(step["updates"] * (one + 2 * (used - 1) / used * 4 * PARAMETERS / bandwidth))
        said = f"{step['updates']:,} updates of {units} {'pairs' if pairs else 'clips'}"
        return Cost(what, said, tuple(seconds))

    most = max(speed.sampling)
    drawn = speed.sampling[most] / most + decode

    yield shared("prepare: codec", f"{clips:,} clips", clips * encode)
    yield shared("prepare: T5", f"{round(clips / each):,} captions", clips / each * t5_flops() / speed.rate)
    if chain["trunk"] is True:
        yield trained("trunk", "trunk")
    yield trained("row 0", "sft")
    yield trained("row 1", "sft")
    for name in ("experts", "pairs"):
        count = chain[name]["prompts"] * chain[name]["per_prompt"]
        yield shared(f"candidates for {name}", f"{count:,} clips", count * drawn)
    yield trained("row 2, mixture", "expert_iter")
    yield trained("row 2, experts alone", "expert_polish")
    yield trained("row 4", "crpo", pairs=True)
    shown = TABLE_ROWS * SLICE + chain["sweep"]["points"] * chain["sweep"]["prompts"]
    yield shared("rendering the slice and the sweep", f"{shown:,} clips", shown * drawn)


def report(
    chain_file: Path, speed: Speed, devices: Sequence[int], clips: int, each: float, bandwidth: float
) -> tuple[list[str], list[Cost]]:
    """The table, and what is in it."""
    chain = read_yaml(chain_file)
    overlay = Path(chain["overlay"])
    # named from the project's root, where the chain's file may not be asked from
    root = next((folder for folder in chain_file.resolve().parents if (folder / overlay).is_file()), Path())
    plan = read_yaml(root / overlay)["plan"]
    found = list(costs(chain, plan, speed, devices, clips, each, bandwidth))
    total = [sum(cost.seconds[k] for cost in found) for k in range(len(devices))]
    heads = " | ".join(f"{n} device{'s' * (n > 1)}" for n in devices)
    lines = [
        f"fluxlight.bench --plan {chain_file}: hours, from what one device did ({speed.device}, {speed.precision})",
        "",
        f"| step | work | {heads} |",
        "| --- | --- |" + " ---: |" * len(devices),
        *(f"| {cost.what} | {cost.work} | {' | '.join(map(hours, cost.seconds))} |" for cost in found),
        f"| all | hours | {' | '.join(map(hours, total))} |",
        f"| all | device-hours | {' | '.join(hours(t * n) for t, n in zip(total, devices, strict=True))} |",
        "",
        f"Gradients at {bandwidth / 1e9:g} GB/s, not overlapped; {each:g} clips a caption; codec and T5 by their FLOPs "
        f"at {speed.rate / 1e12:.3g} TFLOP/s, the backbone's forward. Not in it: judges, audio files, disks, start-up.",
    ]
    return lines, found


def hours(seconds: float) -> str:
    """Seconds as hours in three digits or so."""
    value = seconds / 3600
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def read_speed(path: Path) -> Speed:
    """What an earlier run wrote with ``--json``, perhaps on another machine."""
    kept = read_json(path)
    if not isinstance(kept, dict) or "lines" not in kept:
        raise ValueError(f"{path} holds no benchmark: give the --json file of python -m fluxlight.bench --only s44")
    return Speed.of(kept["lines"], str(kept.get("device", "?")))
