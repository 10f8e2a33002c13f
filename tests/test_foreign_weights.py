"""Files of weights as they really come: wrapped, averaged, misnamed, cut short, or something else; no code is run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fluxlight.backbone import FluxAudio
from fluxlight.bundle import init_from, published_state, save_bundle
from fluxlight.files.kinds import describe, kind_of
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.model import FluxModel
from fluxlight.weights.fluxaudio import OtherFrequencies, load_published, read_published, sizes_of
from fluxlight.weights.foreign import AVERAGES, CONTAINERS, unwrapped

SIZES: dict[str, Any] = dict(
    latent_dim=20, text_dim=6, text_c_dim=5, hidden_dim=32, depth=2, fused_depth=1, num_heads=2, latent_seq_len=8,
    text_seq_len=3, ffn_multiple=96,
)  # fmt: skip


def model(head: Any = None, **other: Any) -> FluxModel:
    torch.manual_seed(0)
    made = FluxModel(FluxAudio(**SIZES | other), head)
    with torch.no_grad():
        for value in made.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.randn(value.shape))
    return made


STATE: dict[str, Tensor] = {k: v.contiguous() for k, v in model().backbone.state_dict().items()}


def saved(path: Path, content: Any, protocol: int = 2, legacy: bool = False) -> Path:
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return path


def equal(found: dict[str, Tensor], wanted: dict[str, Tensor] = STATE) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], v) for k, v in wanted.items())


@pytest.mark.parametrize(
    "wrapper",
    ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "ema_model.", "model._orig_mod.",
     "module.model.", "ema_model.module.", "model.ema_model."],
)  # fmt: skip
def test_what_stands_before_all_names_is_taken_off(tmp_path: Path, wrapper: str) -> None:
    named = {wrapper + k: v for k, v in STATE.items()}
    counters = {"n_averaged": torch.tensor(3), "step": torch.ones(1), "initted": torch.ones(1)}
    for content in (named, named | counters, {"state_dict": named, "epoch": torch.tensor(3)}):
        assert equal(read_published(saved(tmp_path / "x.pth", content)))


def test_compiled_parts_and_a_model_beside_its_average(tmp_path: Path) -> None:
    parts = {k.replace("joint_blocks.0.", "joint_blocks.0._orig_mod."): v for k, v in STATE.items()}
    assert equal(unwrapped(parts)) and parts.keys() != STATE.keys()
    online = {f"online_model.{k}": v + 1 for k, v in STATE.items()}
    assert equal(read_published(saved(tmp_path / "x.pth", online | {f"ema_model.{k}": v for k, v in STATE.items()})))
    with pytest.raises(ValueError, match="holds a network twice"):
        unwrapped({"a._orig_mod.x": torch.ones(1), "a.x": torch.ones(1)})


@pytest.mark.parametrize("key", [*CONTAINERS, *AVERAGES])
def test_a_container_may_hold_counters_beside_the_weights(tmp_path: Path, key: str) -> None:
    counters = {"step": torch.tensor(7), "lr": np.float64(1e-4), "epoch": 3, "best": None, "args": {"lr": 0.1}}
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1.0}]}
    content = {"optimizer": optimizer, **counters, key: OrderedDict(STATE)}
    assert equal(read_published(saved(tmp_path / "x.pth", content)))
    assert equal(read_published(saved(tmp_path / "x.pth", {"checkpoint_version": 3, "model": {key: STATE}})))


def test_of_raw_and_averaged_weights_in_one_file_the_asked_for_are_taken(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", {"params_ema": {k: v * 2 for k, v in STATE.items()}, "params": STATE})
    assert equal(read_published(path))
    assert equal(read_published(path, average=True), {k: v * 2 for k, v in STATE.items()})
    other = model()
    init_from(other, path, weights="ema")
    assert equal(dict(other.backbone.state_dict()), {k: v * 2 for k, v in STATE.items()})


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_with_numbers_of_numpy_beside(tmp_path: Path, protocol: int, legacy: bool) -> None:
    beside = {
        "loss": np.float64(0.5), "n": np.int64(3), "ok": np.bool_(True), "name": np.str_("a"), "half": np.float16(1),
        "rng": np.arange(9, dtype="u4"), "set": {1, 2}, "frozen": frozenset({3}), "bytes": b"\x00\xff" * 200,
        "array": bytearray(b"12"), "big": 1 << 40, "text": "long " * 200, "again": "long " * 200,
        "kind": torch.float16, "size": torch.Size([1]),
    }  # fmt: skip
    path = saved(tmp_path / "x.pth", {"model": STATE, **beside}, protocol, legacy)
    assert equal(read_published(path))


class Shout:
    """Touches a file when it is unpickled by whoever runs what a pickle says."""

    def __init__(self, path: Path, way: str) -> None:
        self.path, self.way = path, way

    def __reduce__(self) -> Any:
        import builtins
        import os

        return {
            "function": (os.mkdir, (str(self.path),)),
            "builtin": (builtins.exec, (f"open({str(self.path)!r}, 'w')",)),
            "method": (Path.touch, (self.path,)),
        }[self.way]


@pytest.mark.parametrize("way", ["function", "builtin", "method"])
@pytest.mark.parametrize(("protocol", "legacy"), [(2, False), (2, True), (4, False), (4, True), (5, False)])
def test_no_pickle_is_executed(tmp_path: Path, way: str, protocol: int, legacy: bool) -> None:
    heard = tmp_path / "heard"
    path = saved(tmp_path / "x.pth", {"model": STATE, "surprise": Shout(heard, way)}, protocol, legacy)
    with pytest.raises(ValueError, match="it holds a .*nothing but tensors and plain values is made") as error:
        read_published(path)
    assert not heard.exists() and str(error.value).isprintable()


def test_a_bare_pickle_and_an_old_tar_are_not_executed_either(tmp_path: Path) -> None:
    heard, path = tmp_path / "heard", tmp_path / "x.pt"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps({"model": Shout(heard, "function")}, protocol))
        with pytest.raises(ValueError, match="cannot be read as FluxAudio checkpoint"):
            read_published(path)
    import tarfile

    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "storages")
    with pytest.raises(ValueError, match=r"cannot be read as FluxAudio checkpoint \(it is a tar archive\)"):
        read_published(path)
    assert not heard.exists()


def test_a_file_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content["model"] = content
    with pytest.raises(ValueError, match="no state dict of tensors"):
        read_published(saved(tmp_path / "x.pth", content))


# -- what a file is --------------------------------------------------------------------------------------------------

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"b" * 64 + b"\nsize 480927044\n"
OTHERS = {
    "an empty file": b"",
    "a Git LFS pointer to a file of 480,927,044 bytes": LFS,
    "a git-annex pointer": b"/annex/objects/SHA256E-s4809--ab12.pth\n",
    "a web page": b"<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head></html>",
    "a web page ": b"\n  <?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>",
    "a web page  ": b"\xef\xbb\xbf<!-- moved --><HTML lang='en'>",
    "JSON text": json.dumps({"error": "Invalid username or password."}).encode(),
    "plain text": b"Entry not found",
    "a gzip archive": b"\x1f\x8b\x08\x00" + bytes(40),
    "a NumPy array": b"\x93NUMPY\x01\x00" + bytes(40),
    "an HDF5 (Keras) file": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "a WAV file": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40),
    "no format known here": bytes(range(128, 256)) * 3,
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
def test_the_error_says_what_the_file_is(tmp_path: Path, what: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(OTHERS[what])
    with pytest.raises(ValueError) as error:
        read_published(path)
    said = str(error.value)
    assert f"{path} cannot be read as FluxAudio checkpoint (it is {what.strip()}" in said and "\n" not in said
    assert "PyTorch" not in said and "weights_only" not in said


def test_safetensors_are_read_whatever_the_suffix_and_a_cut_file_is_said_to_be_cut(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "x.pth")
    assert kind_of(tmp_path / "x.pth") == "safetensors" and equal(read_published(tmp_path / "x.pth"))
    saved(tmp_path / "y.safetensors", STATE)
    assert equal(read_published(tmp_path / "y.safetensors"))
    for name in ("x.pth", "y.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for part in (0.02, 0.5, 0.99):
            (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
            with pytest.raises(ValueError, match="cut short") as error:
                read_published(tmp_path / name)
            assert str(error.value).isprintable()
    with zipfile.ZipFile(tmp_path / "z.pt", "w") as archive:
        archive.writestr("a/readme.txt", "x")
    assert describe(tmp_path / "z.pt") == "a zip archive"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "j.pt")
    with pytest.raises(ValueError, match="is a TorchScript program"):
        read_published(tmp_path / "j.pt")


def test_our_own_files_are_named_with_what_to_give(tmp_path: Path) -> None:
    made = model()
    save_bundle(tmp_path / "run/bundle", made)
    lightning = {"pytorch-lightning_version": "2.6.6", "global_step": 3, "loops": {},
                 "state_dict": {f"model.{k}": v for k, v in made.state_dict().items()}}  # fmt: skip
    saved(tmp_path / "run/last.ckpt", lightning)
    for path in ("run/last.ckpt", "run/bundle/weights.safetensors", "run"):
        with pytest.raises((ValueError, FileNotFoundError), match=r"give (the .*, )?\S*run/bundle$"):
            init_from(made, tmp_path / path)
    (tmp_path / "run/bundle/model.yaml").unlink()
    with pytest.raises(ValueError, match="weights of a bundle without its model.yaml"):
        published_state(tmp_path / "run/bundle/weights.safetensors")


# -- heads and sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", "embedder."])
def test_a_score_head_is_loaded_by_its_prefix_or_left_out(tmp_path: Path, inner: str) -> None:
    source = model(GlobalAdaLN)
    assert source.head is not None
    head = {k.removeprefix("embedder."): v for k, v in source.head.state_dict().items()}
    named = source.backbone.state_dict() | {f"score_embed.{inner}{k}": v for k, v in head.items()}
    path = saved(tmp_path / "x.pth", named)
    target = model(GlobalAdaLN)
    for value in target.state_dict().values():
        value.zero_()
    init_from(target, path, head_prefix="score_embed.")
    assert equal(dict(target.head.state_dict()), dict(source.head.state_dict()))  # type: ignore[union-attr]
    assert equal(dict(target.backbone.state_dict()), dict(source.backbone.state_dict()))
    alone = model()
    init_from(alone, path, skip=["score_embed."])
    assert equal(dict(alone.backbone.state_dict()), dict(source.backbone.state_dict()))
    for settings, words in (
        ({}, r"--model.head_prefix score_embed\.\).*--model.skip '\[score_embed\.\]'"),
        ({"head_prefix": "score_embed."}, "the model has no head"),
    ):
        with pytest.raises(ValueError, match=words):
            init_from(model(), path, **settings)
    with pytest.raises(ValueError, match="no name of the checkpoint starts with it"):
        init_from(model(GlobalAdaLN), path, head_prefix="sc.", skip=["score_embed."])
    with pytest.raises(ValueError, match="say with head_prefix"):
        init_from(model(GlobalAdaLN), path)


def test_a_head_of_another_size_is_refused_and_nothing_is_half_loaded(tmp_path: Path) -> None:
    named = STATE | {"s.mlp.0.weight": torch.ones(8, 256), "s.mlp.0.bias": torch.ones(8)}
    named |= {"s.mlp.2.weight": torch.ones(8, 8), "s.mlp.2.bias": torch.ones(8)}
    target = model(GlobalAdaLN, hidden_dim=32)
    with torch.no_grad():
        for value in target.state_dict().values():
            value.zero_()
    with pytest.raises(ValueError, match=r"other shapes: embedder.mlp.0.weight \(8, 256\) for \(32, 256\)"):
        init_from(target, saved(tmp_path / "x.pth", named), head_prefix="s.")
    assert not any(bool(value.any()) for value in target.state_dict().values())


def test_a_head_without_frequencies_is_said_to_have_none(tmp_path: Path) -> None:
    target = model(GlobalAdaLN)
    kept = target.head.embedder.frequencies.clone()  # type: ignore[union-attr]
    mlp = target.head.embedder.mlp.state_dict(prefix="s.mlp.")  # type: ignore[union-attr]
    named = STATE | {k: torch.full_like(v, 0.5) for k, v in mlp.items()}
    with pytest.warns(OtherFrequencies, match="stores no frequencies"):
        load_published(target, named, "s.")
    assert torch.equal(target.head.embedder.frequencies, kept)  # type: ignore[union-attr]
    assert bool((target.head.embedder.mlp[0].weight == 0.5).all())  # type: ignore[union-attr]


def test_weights_of_another_size_are_named_by_it(tmp_path: Path) -> None:
    assert sizes_of(STATE) == {k: v for k, v in SIZES.items() if k != "latent_seq_len"}
    path = saved(tmp_path / "x.pth", STATE)
    for other, words in (
        ({"latent_dim": 40}, r"latent_dim 20 \(this model: 40\): it is of 16 kHz, use --config \S*published_16k.yaml"),
        ({"depth": 3}, r"depth 2 \(this model: 3\)"),
        ({"hidden_dim": 64, "num_heads": 4}, r"hidden_dim 32 \(this model: 64\).*set model.backbone to its sizes"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            init_from(model(**other), path)
        assert "\n" not in str(error.value)
