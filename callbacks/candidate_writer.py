"""CandidateWriter: what ``fluxlight predict`` leaves, a candidates folder that a second call completes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.render_slice import check_codec, weights_hash
from fluxlight.clips.candidates import done_in, open_folder, put_in_order, read_candidates
from fluxlight.clips.spread import pooled
from fluxlight.codec import Codec
from fluxlight.postprocess import PostProcess
from fluxlight.render import Renderer
from fluxlight.types import PromptBatch


class CandidateWriter(L.Callback):
    """Decodes candidates and appends them to the run folder (format: `fluxlight.clips.candidates`).

    Each row has the spread of its normalised latent (`fluxlight.clips.spread`); at the end that of all is printed.

    Batches that are there already (same id, seed and weights) are not sampled again.

    Args:
        codec: latents -> audio.
        postprocess: callables on a `Clip`, applied in order.
        device: where the codec runs: cpu, cuda, mps, or auto for the GPU where there is one; clips of two devices are
            equal to float tolerance only.
    """

    def __init__(
        self, codec: Codec, postprocess: list[PostProcess] | None = None, device: str = "cpu"
    ) -> None:
        self.renderer = Renderer(codec, postprocess, device)
        self.checkpoint = ""
        self.done: set[tuple[str, int, str]] = set()

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Check the codec and look at what is there."""
        if stage != "predict":
            return
        check_codec(trainer, self.renderer.codec)
        # Lightning calls this before the stage's own setup, and the hash is of the weights with the store's statistics
        pl_module.adopt_store()
        folder = Path(trainer.default_root_dir)
        self.checkpoint = weights_hash(pl_module.model)
        # what a kill cut short is mended by one process; the others wait for it when they are set up
        self.done = open_folder(folder) if trainer.is_global_zero else done_in(folder)
        self._refuse_other_settings(folder, pl_module)
        data = getattr(trainer, "datamodule", None)
        if data is not None and hasattr(data, "skip"):
            data.skip({(id, seed) for id, seed, checkpoint in self.done if checkpoint == self.checkpoint})

    def _refuse_other_settings(self, folder: Path, stage: Any) -> None:
        for row in read_candidates(folder, missing_ok=True):
            if row.checkpoint == self.checkpoint and not row.error and row.extra.get("sampler") != stage.sampling:
                raise ValueError(
                    f"{folder} holds candidates of these weights drawn with {row.extra.get('sampler')}, "
                    f"now it is {stage.sampling}: "
                    "choose another --trainer.default_root_dir"
                )

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Decode and append a batch; a clip that is not finite becomes a failed row."""
        if outputs is None:
            return
        rows = self.renderer.render(batch.id, batch.prompt, outputs.detach(), pl_module.model.normalize)
        extra = {"sampler": pl_module.sampling, **self.renderer.facts}
        self.renderer.write(
            Path(trainer.default_root_dir), rows, batch.seed.tolist(), self.checkpoint, extra, self.done
        )
        if trainer.received_sigterm:
            raise SIGTERMException  # Lightning looks for it in training and validation alone

    def on_predict_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Bring the rows of all processes into the order that one process writes; say how wide their latents lie."""
        trainer.strategy.barrier("candidates")
        data = getattr(trainer, "datamodule", None)
        if trainer.is_global_zero and data is not None and hasattr(data, "planned"):
            keys = [(id, seed, self.checkpoint) for id, seed in data.planned()]
            put_in_order(Path(trainer.default_root_dir), keys)
        rows = [row for row in read_candidates(Path(trainer.default_root_dir), missing_ok=True) if not row.error]
        wide = pooled([row.extra.get("spread") for row in rows])
        if wide is not None and trainer.is_global_zero:
            print(f"{wide.clips} candidates: {wide.line()}", file=sys.stderr)
