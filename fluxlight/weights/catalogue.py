"""The published files as data: what each is, where it is published, its licence, size and checksum where known.

Sums and sizes are the publisher's own, or those that public code checks its downloads against, or were taken of the
file itself (`tunejury_muq_leave_MA.pt`, the prompts); what was found nowhere is None. Where no size is known, the
count of numbers is (FACTS sections 5, 6 and 8, else counted in its code). Licences: FACTS and the pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fluxlight.files import kinds

UNKNOWN = "unknown"

_WEIGHTS = {kinds.TORCH, kinds.PICKLE, kinds.SAFETENSORS}
PROMISED: dict[str, set[str]] = {
    ".pt": _WEIGHTS,
    ".pth": _WEIGHTS,
    ".th": _WEIGHTS,
    ".safetensors": _WEIGHTS,
    ".bin": {*_WEIGHTS, kinds.UNKNOWN},
    ".json": {kinds.JSON},
    ".zip": {kinds.ZIP},
    ".csv": {kinds.TEXT},
    ".txt": {kinds.TEXT},
    ".yaml": {kinds.TEXT},
    ".model": {kinds.UNKNOWN},
}
"""Suffix of a published name -> what such a file may be."""


@dataclass(frozen=True)
class Remote:
    """One file as it is published.

    Attributes:
        path: below the entry's folder; "" where the entry is the file.
        url: where it is fetched from.
        size: bytes; None where not known.
        checksum: ``algorithm:hex digits``, possibly only the first ones; None where not known.
        numbers: of the network in it; a whole file has at least a byte for each (our choice: half precision has two).
    """

    path: str
    url: str
    size: int | None = None
    checksum: str | None = None
    numbers: int = 1

    def fault(self, path: Path, name: str, sized: bool = True) -> str | None:
        """What is wrong with the file at ``path``, which is read only at its beginning; None where nothing is seen.

        Args:
            path: where it lies.
            name: it is published under.
            sized: hold its size against the published one.
        """
        kind, size = kinds.kind_of(path), path.stat().st_size
        if kind in (kinds.EMPTY, kinds.POINTER) or kind not in PROMISED.get(Path(name).suffix.lower(), {kind}):
            return f"it is {kinds.describe(path)}"
        if sized and self.size is not None and size != self.size:
            return f"it has {size:,} bytes, {self.size:,} are published"
        if sized and size < self.numbers:
            return f"it has {size:,} bytes for {self.numbers:,} numbers: it was cut short"
        return None


@dataclass(frozen=True)
class Published:
    """A published file or folder of files.

    Attributes:
        name: in the weights folder.
        what: it is, in a few words.
        page: where it is published, for people.
        licence: of the file.
        alternative: what the embedded world has in its place.
        files: what `fetch` gets; empty where no address is known with certainty.
        holds: what a folder must hold, each a glob pattern or several joined by ``|``; empty for a file.
    """

    name: str
    what: str
    page: str
    licence: str
    alternative: str
    files: tuple[Remote, ...] = ()
    holds: tuple[str, ...] = ()

    def lacks(self, path: Path) -> list[str]:
        """What is missing of a folder at ``path``; for a file, nothing."""
        return [want for want in self.holds if not any(any(path.glob(glob)) for glob in want.split("|"))]

    def faults(self, target: Path, sized: bool = True) -> list[str]:
        """What can be seen to be wrong with the files at ``target``, one line each; no file is read whole."""
        found = []
        for remote in self.files:
            path = target / remote.path if remote.path else target
            if path.is_file() and (fault := remote.fault(path, remote.path or self.name, sized)):
                found.append(f"{path}: {fault}")
        return found


def _hub(repository: str, *files: str) -> tuple[Remote, ...]:
    """Files of a Hugging Face repository, kept under their own names.

    ``path=checksum@size`` says more of one, as does ``path>numbers``.
    """
    found = []
    for file in files:
        path, _, known = file.partition("=")
        path, _, numbers = path.partition(">")
        checksum, _, size = known.partition("@")
        url = f"https://huggingface.co/{repository}/resolve/main/{path}"
        found.append(Remote(path, url, int(size) if size else None, checksum or None, int(numbers or 1)))
    return tuple(found)


def _file(url: str, size: int | None = None, checksum: str | None = None, numbers: int = 1) -> tuple[Remote, ...]:
    return (Remote("", url, size, checksum, numbers),)


_HF = "https://huggingface.co/"
_PAPER = "https://github.com/yonghyunk1m/TTM-HumanPref"
_JURY = "https://github.com/yonghyunk1m/TuneJury"
_SDD = "https://zenodo.org/records/10072001"
_DEMUCS = "https://dl.fbaipublicfiles.com/demucs/mdx_final/"
_CODEC = "fluxlight.codec.EmbeddedCodec"
_TRAIN = "train one: python -m experiments.chain"
_JUDGE = "fluxlight.encoders.ClapB to judge, fluxlight.encoders.ClapA to condition and select"
_REWARD = "fluxlight.rewards.RewardB to judge, fluxlight.rewards.RewardA to condition and select"

_PUBLISHED = (
    # the network
    Published(
        "fluxaudio_s_full.pth", "FluxAudio-S, 16 kHz, general audio", _HF + "AndreasXi/MeanAudio", UNKNOWN, _TRAIN,
        _file(_HF + "AndreasXi/MeanAudio/resolve/main/fluxaudio_s_full.pth", numbers=120_185_788),
    ),
    Published(
        "sub1_seed42_fluxaudio_s.pt", "FluxAudio-S after the whole chain, submission 1", _PAPER + "/releases", "MIT",
        _TRAIN, _file(_PAPER + "/releases/latest/download/sub1_seed42_fluxaudio_s.pt", numbers=120_231_848),
    ),
    Published(
        "sub2_seed55_fluxaudio_s.pt", "FluxAudio-S after the whole chain, submission 2", _PAPER + "/releases", "MIT",
        _TRAIN, _file(_PAPER + "/releases/latest/download/sub2_seed55_fluxaudio_s.pt", numbers=120_231_848),
    ),
    # the codec
    Published(
        "v1-44.pth", "MMAudio mel VAE, 44.1 kHz", _HF + "hkchengrex/MMAudio", "CC-BY-NC 4.0", _CODEC,
        _file(_HF + "hkchengrex/MMAudio/resolve/main/ext_weights/v1-44.pth",
              checksum="md5:fab020275fa44c6589820ce025191600", numbers=305_479_938),
    ),
    Published(
        "bigvgan_v2_44khz_128band_512x", "BigVGAN v2 vocoder, 44.1 kHz",
        _HF + "nvidia/bigvgan_v2_44khz_128band_512x", "MIT", _CODEC,
        _hub("nvidia/bigvgan_v2_44khz_128band_512x",
             "config.json=sha256:65b7f487bfaf15256056a75f6667ef5f640214c981922a111927873705ea4ddb@1403",
             "bigvgan_generator.pt=sha256:d9fe7ec6bd0b44ed9d66973d5012d8181c1570b01e5c72df51973e241dccd357@489041291"),
        ("config.json", "bigvgan_generator.pt"),
    ),
    Published(
        "v1-16.pth", "MMAudio mel VAE, 16 kHz", _HF + "hkchengrex/MMAudio", "CC-BY-NC 4.0", _CODEC,
        _file(_HF + "hkchengrex/MMAudio/resolve/main/ext_weights/v1-16.pth",
              checksum="md5:69f56803f59a549a1a507c93859fd4d7", numbers=171_600_000),
    ),
    Published(
        "best_netG.pt", "BigVGAN vocoder of Make-An-Audio 2, 16 kHz", _HF + "hkchengrex/MMAudio", UNKNOWN, _CODEC,
        _file(_HF + "hkchengrex/MMAudio/resolve/main/ext_weights/best_netG.pt",
              checksum="md5:eeaf372a38a9c31c362120aba2dde292", numbers=112_202_089),
    ),
    # texts
    Published(
        "flan-t5-large", "text encoder, 77 x 1024", _HF + "google/flan-t5-large", "Apache-2.0",
        "fluxlight.encoders.MiniLM",
        _hub("google/flan-t5-large", "config.json", "model.safetensors>750251008", "spiece.model", "tokenizer.json",
             "tokenizer_config.json", "special_tokens_map.json"),
        ("config.json", "model*.safetensors|pytorch_model*.bin", "tokenizer.json|spiece.model"),
    ),
    # the judges
    Published(
        "music_audioset_epoch_15_esc_90.14.pt", "LAION-CLAP-Music: judges, conditions, feeds TuneJury",
        _HF + "lukewys/laion_clap", "CC0-1.0", _JUDGE,
        _file(_HF + "lukewys/laion_clap/resolve/main/music_audioset_epoch_15_esc_90.14.pt", 2_352_471_003,
              "sha256:fae3e9c087f2909c28a09dc31c8dfcdacbc42ba44c70e972b58c1bd1caf6dedd"),
    ),
    Published(
        "music_speech_audioset_epoch_15_esc_89.98.pt", "LAION-CLAP, music and speech: conditions FluxAudio",
        _HF + "lukewys/laion_clap", "CC0-1.0", "fluxlight.encoders.ClapA",
        _file(_HF + "lukewys/laion_clap/resolve/main/music_speech_audioset_epoch_15_esc_89.98.pt",
              numbers=190_000_000),
    ),
    Published(
        "roberta-base", "tokenizer of LAION-CLAP", _HF + "FacebookAI/roberta-base", "MIT", _JUDGE,
        _hub("FacebookAI/roberta-base", "config.json", "vocab.json", "merges.txt", "tokenizer.json",
             "tokenizer_config.json"),
        ("vocab.json|tokenizer.json",),
    ),
    Published(
        "MERT-v1-330M", "audio features of TuneJury", _HF + "m-a-p/MERT-v1-330M", "CC-BY-NC 4.0", _REWARD,
        # its remote code is left where it is: nothing of it is run
        _hub("m-a-p/MERT-v1-330M", "config.json", "preprocessor_config.json", "pytorch_model.bin>315428992"),
        ("config.json", "pytorch_model.bin|model.safetensors"),
    ),
    Published(
        "tunejury.pt", "TuneJury head: CLAP audio, MERT, CLAP text", _JURY, "CC-BY-NC 4.0", _REWARD,
        _file(_HF + "TuneJury/tunejury/resolve/main/tunejury.pt", numbers=2_791_169),
    ),
    Published(
        "A1_clap_audio_only.pt", "TuneJury head: CLAP audio alone", _JURY, "Apache-2.0", _REWARD,
        _file(_HF + "TuneJury/tunejury/resolve/main/A1_clap_audio_only.pt", numbers=1_218_000),
    ),
    Published(
        "tunejury_muq_leave_MA.pt", "TuneJury head over MuQ-MuLan features", _JURY, "CC-BY-NC 4.0", _REWARD,
        _file("https://raw.githubusercontent.com/yonghyunk1m/TuneJury/HEAD/checkpoints/tunejury_muq_leave_MA.pt",
              2_815_309, "sha256:6a2ba65b321d434ecf4f29524d87246a1ba4abf35cbff0778b5813091ad85ca0"),
    ),
    Published(
        "tunejury_reward.pt", "TuneJury head as it was at the time of the submission", _PAPER + "/releases", "MIT",
        _REWARD, _file(_PAPER + "/releases/latest/download/tunejury_reward.pt", numbers=1_000_000),
    ),
    # after decoding
    Published(
        "mdx_extra", "Demucs, four models", "https://github.com/facebookresearch/demucs", "MIT",
        "leave fluxlight.postprocess.Separate out",
        (
            Remote("mdx_extra.yaml",
                   "https://raw.githubusercontent.com/facebookresearch/demucs/main/demucs/remote/mdx_extra.yaml"),
            # the second half of a name is the start of the file's sum
            *(Remote(f"{signature}-{start}.th", f"{_DEMUCS}{signature}-{start}.th", None, f"sha256:{start}", 83_600_000)
              for signature, start in (("e51eebcc", "c1b80bdd"), ("a1d90b5c", "ae9d2452"), ("5d2d6c55", "db83574e"),
                                       ("cfa93e08", "61801ae1"))),
        ),
        ("mdx_extra.yaml", "*.th"),  # which ones, the yaml says: Separate looks
    ),
    # the prompts and the reference
    Published(
        "sdd100_prompts.json", "SDD-100: the prompts of the published table", _PAPER, "MIT",
        "the slice of the embedded corpus: fluxlight encode --split slice --text_only true",
        _file("https://raw.githubusercontent.com/yonghyunk1m/TTM-HumanPref/HEAD/docs/prompts.json", 23_208,
              "sha256:634d65b7c0aa8935b4de10c4c245a44ad0054dea30426faa976a75098e6d3e25"),
    ),
    Published(
        "song_describer.csv", "SDD-706: the list of its audio, with captions", _SDD, "CC-BY-SA 4.0",
        "the reference split of the embedded corpus", _file(_SDD + "/files/song_describer.csv?download=1"),
    ),
    Published(
        "song_describer_audio.zip", "SDD-706: its audio, the reference of the published table", _SDD,
        "CC-BY-SA 4.0 (each track has a Creative Commons licence of its own)",
        "the reference split of the embedded corpus", _file(_SDD + "/files/audio.zip?download=1"),
    ),
)  # fmt: skip

CATALOGUE: dict[str, Published] = {entry.name: entry for entry in _PUBLISHED}
