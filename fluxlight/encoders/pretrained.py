"""What transformers reads from a published folder, made safe: a tokenizer with its vocabulary, and no chatter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fluxlight.prompts import note_cut


class Tokenizer:
    """Texts -> token ids, from a folder and checked.

    A folder without its vocabulary loads without a word and turns every text into the same few ids, so the
    vocabulary is held against the embedding table of the weights it feeds.

    Args:
        folder: with the tokenizer's files.
        kind: class name in transformers.
        rows: of the embedding table.
        special: token -> id, as the weights were trained with.
        spare: rows the table may have beyond the vocabulary (T5 rounds up).
        length: tokens of the longest text, special ones included; longer texts are cut with one warning.
    """

    def __init__(
        self, folder: Path, kind: str, rows: int, special: Mapping[str, int], spare: int = 0, length: int = 77
    ) -> None:
        import transformers

        self.length = length
        try:
            with silent():
                self._tokenizer = getattr(transformers, kind).from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # the classes of tokenizers' own errors are not importable
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"the tokenizer in {folder} cannot be read ({reason}): fetch the folder again") from None
        size = len(self._tokenizer)
        if not rows - spare <= size <= rows:
            raise ValueError(
                f"the tokenizer in {folder} has {size} tokens, the weights {rows}: "
                "it is empty or another model's, fetch the folder again"
            )
        got = {token: self._tokenizer.convert_tokens_to_ids(token) for token in special}
        if got != dict(special):
            raise ValueError(f"the tokenizer in {folder} numbers its special tokens {got}, not {dict(special)}")
        probe = self._tokenizer("fiddle waltz")["input_ids"]
        if len(probe) < 3 or self._tokenizer.unk_token_id in probe:
            raise ValueError(f"the tokenizer in {folder} does not know its words: fetch the folder again")

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, special tokens included, at most ``length``."""
        if isinstance(texts, str):
            raise ValueError("texts is one string: pass a list of strings")
        ids = self._tokenizer(list(texts), verbose=False)["input_ids"] if len(texts) else []
        note_cut(texts, [len(tokens) for tokens in ids], self.length)
        # the last token, the end of the text, stays
        return [[*tokens[: self.length - 1], tokens[-1]] if len(tokens) > self.length else tokens for tokens in ids]


@contextmanager
def silent() -> Iterator[None]:
    """Within this block transformers shows no progress bar and no advice; what is wrong is checked here instead."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
