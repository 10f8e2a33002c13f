"""Published files: where they are looked for, what a config needs, and what the verb says of them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from file_server import folder as folder

from fluxlight.cli import main
from fluxlight.weights import locate, use_folder, weights_folder
from fluxlight.weights.catalogue import CATALOGUE, PROMISED
from fluxlight.weights.fetch import verify
from fluxlight.weights.needs import needs, read_configs

ROOT = Path(__file__).resolve().parents[1]


# -- where -----------------------------------------------------------------------------------------------------------


def test_an_explicit_path_wins_over_the_folder_and_the_config_over_the_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    for path in (folder / "v1-44.pth", tmp_path / "mine.pth"):
        torch.save({"a": torch.ones(1)}, path)
    assert locate("v1-44.pth") == folder / "v1-44.pth"
    assert locate("v1-44.pth", tmp_path / "mine.pth") == tmp_path / "mine.pth"
    use_folder(None)
    assert weights_folder() == folder
    use_folder(str(tmp_path / "other"))
    assert weights_folder() == tmp_path / "other"
    monkeypatch.delenv("FLUXLIGHT_WEIGHTS")
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    assert weights_folder() == tmp_path / "cache" / "weights"


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_missing_file_is_one_line_with_everything(name: str, folder: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        locate(name)
    text, known = str(caught.value), CATALOGUE[name]
    assert "\n" not in text
    for said in (str(folder / name), known.page, known.licence, known.alternative, f"--fetch {name}"):
        assert said in text


def test_half_a_folder_is_missing_and_says_what_it_lacks(folder: Path) -> None:
    (folder / "flan-t5-large").mkdir(parents=True)
    (folder / "flan-t5-large" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"lacks model\*\.safetensors\|pytorch_model"):
        locate("flan-t5-large")
    torch.save({"a": torch.ones(1)}, folder / "flan-t5-large" / "pytorch_model.bin")
    (folder / "flan-t5-large" / "spiece.model").write_bytes(b"\x0a\x0e\x00\xff")
    assert locate("flan-t5-large/") == folder / "flan-t5-large"


def test_the_catalogue_is_sound() -> None:
    for known in CATALOGUE.values():
        assert known.page.startswith("https://") and known.licence and known.alternative
        for remote in known.files:
            assert remote.url.startswith("https://")
            if remote.checksum:
                algorithm, digits = remote.checksum.split(":")
                assert re.fullmatch("[0-9a-f]+", digits) and len(digits) <= hashlib.new(algorithm).digest_size * 2


def test_sums_are_those_of_the_files_at_hand(shared: Path) -> None:
    for name, path in (
        ("sdd100_prompts.json", shared / "sdd100" / "prompts.json"),
        ("tunejury_muq_leave_MA.pt", shared / "tunejury" / "tunejury_muq_leave_MA.pt"),
    ):
        assert path.stat().st_size == CATALOGUE[name].files[0].size
        assert verify(CATALOGUE[name], path) == []
        assert len(verify(CATALOGUE["sdd100_prompts.json"], path)) == (name != "sdd100_prompts.json")


# -- what a config needs ---------------------------------------------------------------------------------------------


def names(*configs: str) -> dict[str, bool]:
    return {need.name: need.optional for need in needs(read_configs([ROOT / "configs" / c for c in configs]))}


def test_the_embedded_world_needs_nothing_and_the_published_one_its_files() -> None:
    assert names("stages/score_cond_sft.yaml") == {"mdx_extra": True}
    assert names("stages/score_cond_sft.yaml", "worlds/published.yaml") == dict.fromkeys(
        ["v1-44.pth", "bigvgan_v2_44khz_128band_512x", "mdx_extra", "music_audioset_epoch_15_esc_90.14.pt",
         "roberta-base", "tunejury.pt", "MERT-v1-330M"], False)  # fmt: skip
    train = names("worlds/published_train.yaml")
    assert {"flan-t5-large", "music_speech_audioset_epoch_15_esc_89.98.pt", "v1-44.pth", "tunejury.pt"} <= train.keys()
    assert set(names("worlds/published_slice.yaml")) == {
        "sdd100_prompts.json", "flan-t5-large", "music_speech_audioset_epoch_15_esc_89.98.pt", "roberta-base"
    }  # fmt: skip
    assert set(train) | set(names("worlds/published_score.yaml")) <= set(CATALOGUE)


def test_settings_and_lists_are_read_as_the_command_line_reads_them(tmp_path: Path) -> None:
    one = {"codec": {"class_path": "fluxlight.codec.MMAudioCodec", "init_args": {"vae": "here.pth"}},
           "callbacks": [{"class_path": "x.Separate"}], "text": "T5"}  # fmt: skip
    two = {"codec": {"init_args": {"mode": "16k"}}, "callbacks+": [{"class_path": "LaionClap"}]}
    for name, config in (("1.yaml", one), ("2.yaml", two)):
        (tmp_path / name).write_text(yaml.safe_dump(config, sort_keys=False))
    both = [(n.name, n.path) for n in needs(read_configs([tmp_path / "1.yaml", tmp_path / "2.yaml"]))]
    assert both[:2] == [("v1-16.pth", "here.pth"), ("best_netG.pt", None)]
    assert {n for n, _ in both[2:]} == {
        "mdx_extra", "music_audioset_epoch_15_esc_90.14.pt", "roberta-base", "flan-t5-large"
    }  # fmt: skip
    (tmp_path / "2.yaml").write_text("callbacks: []")
    assert "mdx_extra" not in {n.name for n in needs(read_configs([tmp_path / "1.yaml", tmp_path / "2.yaml"]))}


def test_a_published_checkpoint_that_a_stage_starts_from_is_listed(tmp_path: Path) -> None:
    start = tmp_path / "start.yaml"
    for given in ("/data/fluxaudio_s_full.pth", "runs/trunk/bundle", None):
        start.write_text(yaml.safe_dump({"model": {"init_args": {"init_from": given}}}))
        listed = [(n.name, n.path, n.asked_by) for n in needs(read_configs([start]))]
        checkpoint = ("fluxaudio_s_full.pth", given, "init_from")
        assert listed == ([checkpoint] if given and given.endswith(".pth") else [])


def test_the_verb_lists_what_is_there_and_what_is_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["weights", "--config", str(ROOT / "configs" / "worlds" / "published_score.yaml")]
    assert main(config) == 1
    said = capsys.readouterr().out
    assert "tunejury.pt: MISSING" in said and "fluxlight.rewards.RewardB" in said and "CC-BY-NC 4.0" in said
    assert "2,352,471,003 bytes" in said and "0 of 5" in said
    folder.mkdir()
    torch.save({"a": torch.zeros(2_791_169)}, folder / "tunejury.pt")
    assert main([*config, "--json"]) == 1
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["tunejury.pt"]["present"] and not rows["MERT-v1-330M"]["present"]
    assert rows["tunejury.pt"]["looked_for"] == str(folder / "tunejury.pt")
    assert main(["weights"]) == 0
    assert f"1 of {len(CATALOGUE)} published files" in capsys.readouterr().out


OTHERS = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 23524\n",
    "a web page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "JSON text": b'{"error": "Repository not found"}',
    "plain text": b"Entry not found",
    "an empty file": b"",
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("name", ["tunejury.pt", "v1-44.pth", "flan-t5-large", "mdx_extra", "song_describer_audio.zip"])
def test_what_is_no_weights_is_recognised_without_verify(
    folder: Path, name: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = CATALOGUE[name]
    for remote in known.files:
        path = folder / name / remote.path if remote.path else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(OTHERS[what])
    assert main(["weights", "--json"]) == 1
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == name)
    assert not row["present"] and any(f"it is {what}" in line for line in row["wrong"])
    assert main(["weights"]) == 1
    said = capsys.readouterr().out
    assert f"{name}: WRONG" in said and f"it is {what}" in said and f"0 of {len(CATALOGUE)}" in said
    with pytest.raises(ValueError, match=f"it is {what}") as caught:
        locate(name)
    assert "\n" not in str(caught.value) and f"--fetch {name}" in str(caught.value)


def test_a_file_of_another_size_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    for name, said in (
        ("music_audioset_epoch_15_esc_90.14.pt", "2,352,471,003 are published"),
        ("fluxaudio_s_full.pth", "for 120,185,788 numbers: it was cut short"),
    ):
        torch.save({"a": torch.ones(1)}, folder / name)
        assert main(["weights"]) == 1
        assert said in capsys.readouterr().out
        assert locate(name) == folder / name, "one's own small file may stand in its place"


def test_every_file_has_a_kind_and_weights_have_a_size() -> None:
    for known in CATALOGUE.values():
        for remote in known.files:
            suffix = Path(remote.path or known.name).suffix
            assert suffix in PROMISED
            if suffix in (".pt", ".pth", ".th", ".bin", ".safetensors"):
                assert remote.size or remote.numbers > 100_000, (known.name, remote.path)


def test_a_foreign_file_fails_the_verification(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    (folder / "v1-44.pth").write_bytes(b"another")
    assert main(["weights", "--verify"]) == 1
    assert "WRONG" in capsys.readouterr().out
