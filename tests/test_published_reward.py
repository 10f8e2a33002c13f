"""TuneJuryReward: the released layouts end to end on small published encoders, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_published import head, laion_file, laion_state, mert_folder, music, roberta_folder

from fluxlight.encoders import ClapA, LaionClap, Mert
from fluxlight.encoders.laion_clap import SPEECH
from fluxlight.rewards import TuneJuryReward

PROMPTS = ["a calm piano", " "]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[LaionClap, Mert]:
    folder = tmp_path_factory.mktemp("judges")
    clap = LaionClap(
        path=str(laion_file(folder / "clap.pt", laion_state())),
        tokenizer=str(roberta_folder(folder / "words", 300)),
        backend="transformers",
    )
    return clap, Mert(str(mert_folder(folder / "mert", hidden=1024, num_hidden_layers=1)))


@pytest.mark.parametrize("layout", [("net", 2048), ("net", 1024), ("net", 512)])
def test_each_layout_takes_its_embeddings_in_order(tmp_path: Path, encoders, layout):
    clap, mert = encoders
    reward = TuneJuryReward(head(tmp_path / "head.pt", layout), clap=clap, mert=mert)
    assert (reward.mert is not None) == (layout[1] == 2048) and str(layout[1]) in reward.identity
    audio = music(2.0)
    scores = reward.score(audio, 44100, PROMPTS)
    # the published order, written out; a prompt without a word is 512 zeros
    heard = clap.embed_audio(audio, 44100)
    text = torch.cat([clap.embed_text(PROMPTS[:1]), torch.zeros(1, 512)])
    parts = {2048: [heard, mert.embed_audio(audio, 44100), text], 1024: [heard, text], 512: [heard]}[layout[1]]
    with torch.no_grad():
        expected = reward.head.eval()(torch.cat(parts, dim=1))
    assert scores.shape == (2,) and torch.allclose(scores, expected, atol=1e-5)
    assert torch.allclose(scores[1:], reward.score(audio[1:], 44100, PROMPTS[1:]), atol=1e-5)
    changed = reward.score(audio[:1], 44100, ["loud drums"])
    assert torch.equal(changed, scores[:1]) == (layout[1] == 512)
    # a table that has the embeddings at hand gets the same score without listening again
    again = reward.score_embeddings(heard, reward.descriptors(audio, 44100), reward.embed_prompts(PROMPTS))
    assert torch.allclose(again, scores, atol=1e-6) and reward.clap_identity == clap.identity


def test_the_identity_follows_every_weight(tmp_path: Path, encoders):
    clap, mert = encoders
    one = TuneJuryReward(head(tmp_path / "one.pt", ("net", 2048)), clap=clap, mert=mert)
    two = TuneJuryReward(head(tmp_path / "two.pt", ("net", 2048), (16, 4)), clap=clap, mert=mert)
    other = Mert(str(mert_folder(tmp_path / "mert", hidden=1024, num_hidden_layers=1, layer_norm_eps=1e-6)))
    same = TuneJuryReward(head(tmp_path / "one.pt", ("net", 2048)), clap=clap, mert=other)
    assert one.identity != two.identity and one.identity == same.identity


def test_the_real_muq_head_scores_features_and_says_why_not_audio(shared: Path):
    reward = TuneJuryReward(str(shared / "tunejury" / "tunejury_muq_leave_MA.pt"))
    assert reward.clap is None and reward.mert is None and "score-1024" in reward.identity
    draw = torch.Generator().manual_seed(0)
    audio, text = torch.randn(2, 3, 512, generator=draw)
    scores = reward.score_features(muq_audio=audio, muq_text=text)
    assert scores.shape == (3,) and scores.isfinite().all() and len(set(scores.tolist())) == 3
    with pytest.raises(ValueError, match="muq_audio 512, muq_text 512.*not offered"):
        reward.score(music(2.0), 44100, PROMPTS)
    with pytest.raises(ValueError, match="also needs muq_text"):
        reward.score_features(muq_audio=audio)


def test_wrong_judges_audio_and_features_are_refused(tmp_path: Path, encoders, monkeypatch: pytest.MonkeyPatch):
    clap, mert = encoders
    path = head(tmp_path / "head.pt", ("net", 2048))
    reward = TuneJuryReward(path, clap=clap, mert=mert)
    with pytest.raises(ValueError, match="at least 1 s"):
        reward.score(music(0.5), 44100, PROMPTS)
    with pytest.raises(ValueError, match="sample_rate is 8000"):
        reward.score(music(2.0, 8000), 8000, PROMPTS)
    with pytest.raises(ValueError, match="NaN"):
        reward.score(torch.full((2, 88200), torch.nan), 44100, PROMPTS)
    with pytest.raises(ValueError, match="1 prompts for 2 clips"):
        reward.score(music(2.0), 44100, PROMPTS[:1])
    with pytest.raises(ValueError, match="not finite for clip 1"):
        poisoned = torch.tensor([0.0, torch.nan])[:, None].expand(2, 512)
        reward.score_embeddings(poisoned, torch.zeros(2, 1024), torch.zeros(2, 512))
    with pytest.raises(ValueError, match="128 wide"):
        TuneJuryReward(path, clap=ClapA(weights=None), mert=mert)
    clap_of_speech = LaionClap.__new__(LaionClap)
    torch.nn.Module.__init__(clap_of_speech)
    clap_of_speech.checkpoint, clap_of_speech.identity = SPEECH, "laion-clap-speech"
    with pytest.raises(ValueError, match="trained on music_audioset"):
        TuneJuryReward(path, clap=clap_of_speech, mert=mert)
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="tunejury.pt"):
        TuneJuryReward()
    with pytest.raises(FileNotFoundError, match="music_audioset"):
        TuneJuryReward(path)
