"""The latent store against one npz a clip (FACTS section 8), on the same rows: bytes, random rows a second, opening."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from fluxlight.bench.measure import Line, Settings, duration
from fluxlight.data.builder import StoreBuilder
from fluxlight.data.rows import key_of
from fluxlight.data.store import LatentStore

LENGTH, CHANNELS, TOKENS, WIDTH, GLOBAL = 430, 40, 77, 1024, 512
"""A row of the published features at 44.1 kHz, every text with its padding (FACTS section 8)."""
PUBLISHED = 535_000
"""Rows of the published training set (FACTS section 2)."""
BATCH, READS = 16, 20
"""Rows of a batch, batches that are timed."""


def lines(settings: Settings) -> Iterator[Line]:
    """Sizes and speeds; the files lie in the folder of temporary files, about 600 MB of them."""
    rows = 500 if settings.full else 100
    with TemporaryDirectory(prefix="fluxlight-store-") as folder:
        root = Path(folder)
        settings.say(f"store: {rows} rows of the published size as npz files")
        npz = write_npz(root / "npz", rows)
        size = sum(path.stat().st_size for path in npz)
        for each, said in ((10, "ten clips a caption"), (1, "captions distinct")):
            settings.say(f"store: {said}")
            write_store(root / f"store{each}", npz, each)
            ours = sum(path.stat().st_size for path in (root / f"store{each}").iterdir())
            data = {"each": each, "bytes_a_row": ours / rows, "npz_bytes_a_row": size / rows, "share": ours / size}
            yield Line("store", f"a row, {said}", f"{ours / rows / 1e3:.1f} kB", f"{ours / size:.2f} of npz", data)
            yield from _speed(settings, root / f"store{each}", npz, said)
    yield from _opening(settings, PUBLISHED if settings.full else 20_000)


def write_npz(folder: Path, rows: int) -> list[Path]:
    """Files of random features."""
    folder.mkdir()
    draw = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape, np.float32)

    for number in range(rows):
        np.savez(
            folder / f"{number}.npz", mean=normal(LENGTH, CHANNELS), std=np.abs(normal(LENGTH, CHANNELS)),
            text_features=normal(TOKENS, WIDTH), text_features_c=normal(GLOBAL),
        )  # fmt: skip
    return [folder / f"{number}.npz" for number in range(rows)]


def write_store(folder: Path, npz: Sequence[Path], each: int) -> None:
    """A store of the same rows, ``each`` of which share the text of the first."""
    folder.mkdir()
    rows = [{"id": path.stem, "caption": f"caption {k // each}"} for k, path in enumerate(npz)]
    with StoreBuilder(folder, "float16") as builder:
        for _ in range(2):
            builder.text(np.zeros((TOKENS, WIDTH)), np.zeros(GLOBAL))
        for number, path in enumerate(npz):
            with np.load(path) as file:
                builder.clips(file["mean"][None], file["std"][None], np.zeros(1))
                if number % each == 0:
                    builder.text(file["text_features"], file["text_features_c"])
        facts = {"identities": {}, "text_len": TOKENS, "recipe": {}}
        builder.finish(((row, key_of(row)) for row in rows), np.arange(len(rows)) // each + 2, facts)


def read_npz(paths: Sequence[Path]) -> list[torch.Tensor]:
    """A batch from npz files: every array stacked, float32."""
    held: dict[str, list[torch.Tensor]] = {}
    for path in paths:
        with np.load(path) as file:
            for name in ("mean", "std", "text_features", "text_features_c"):
                held.setdefault(name, []).append(torch.from_numpy(file[name]))
    return [torch.stack(values) for values in held.values()]


def forget(paths: Sequence[Path]) -> None:
    """Ask the system to drop files from memory."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _speed(settings: Settings, folder: Path, npz: Sequence[Path], said: str) -> Iterator[Line]:
    store = LatentStore(folder)
    files = [*npz, *folder.glob("*.npy")]
    draw = np.random.default_rng(1)
    for state in ("warm", "cold"):
        taken = {"store": 0.0, "npz": 0.0}
        for turn in range(READS + 1):
            index = draw.integers(0, len(npz), BATCH)
            for name, read in (
                ("npz", lambda index=index: read_npz([npz[k] for k in index])),
                ("store", lambda index=index: store.batch(index)),
            ):
                if state == "cold":
                    forget(files)
                begin = time.perf_counter()
                read()
                if turn:
                    taken[name] += time.perf_counter() - begin
        ours, theirs = (READS * BATCH / taken[name] for name in ("store", "npz"))
        data = {"state": state, "rows_a_second": ours, "npz_rows_a_second": theirs, "ratio": ours / theirs}
        what = f"random rows, {state}, {said}"
        yield Line("store", what, f"{ours:,.0f} rows/s", f"{ours / theirs:.1f} times npz ({theirs:,.0f} rows/s)", data)


def _opening(settings: Settings, rows: int) -> Iterator[Line]:
    """What opening a store of many rows takes; its latents are tiny, which opening does not look at."""
    settings.say(f"store: packing and opening {rows} rows")
    with TemporaryDirectory(prefix="fluxlight-store-") as folder:
        before, begin = held_bytes(), time.perf_counter()
        most = before

        def made() -> Iterator[tuple[dict[str, str], bytes]]:
            nonlocal most
            for k in range(rows):
                if k % 8192 == 0:
                    most = max(most, held_bytes())
                row = {"id": f"{k % 100:02d}/{k}", "caption": f"caption number {k // 10} of many"}
                yield row, key_of(row)

        with StoreBuilder(Path(folder), "float16") as builder:
            for number in range(2 + rows // 10):
                builder.text(np.zeros((1 + number % 3, 8)), np.zeros(4))
            for start in range(0, rows, 256):
                count = min(256, rows - start)
                builder.clips(np.zeros((count, 4, 2)), None, np.zeros(count))
            facts = {"identities": {}, "text_len": 3, "recipe": {}}
            text_row = np.minimum(np.arange(rows) // 10, rows // 10 - 1) + 2
            most = max(most, held_bytes())
            builder.finish(made(), text_row, facts)
        packing, grown = time.perf_counter() - begin, max(most, held_bytes()) - before
        data = {"rows": rows, "seconds": packing, "bytes": grown, "bytes_a_row": grown / rows}
        yield Line("store", f"packing {rows:,} rows", duration(packing), f"{grown / 2**20:.0f} MiB more held", data)
        before, begin = held_bytes(), time.perf_counter()
        store = LatentStore(folder)
        store.position(f"{7 % 100:02d}/7")
        took, grown = time.perf_counter() - begin, max(0, held_bytes() - before)
        data = {"rows": len(store), "seconds": took, "bytes": grown}
        yield Line("store", f"opening {rows:,} rows", duration(took), f"{grown / 2**20:.0f} MiB more held", data)


def held_bytes() -> int:
    """Memory of this process that no file can give back; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
