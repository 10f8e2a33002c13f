"""Submission: the zip the challenge takes, a mono wav of 10 s at 44.1 kHz for each prompt, and what is wrong with one.

A zip is read in memory and nothing of it is unpacked, so names that climb out of a folder are only names.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from fluxlight.clips.faults import find_faults
from fluxlight.clips.folders import SUFFIXES, found_name
from fluxlight.files import atomic_path
from fluxlight.tables import clip_name, first_double, same

RATE, SECONDS, CLIPS = 44_100, 10, 100
"""Hz, seconds of a clip, and clips of a submission (ATTM challenge; FACTS sections 1 and 4: 441,000 samples)."""

LARGEST = 16 << 20
"""Bytes of a clip read at most; 10 s of 32-bit stereo are 3.5 MB (our choice: a zip may unpack to far more)."""

LONGEST = 1 << 20
"""Seconds beyond which a header is not believed (our choice: 12 days)."""

# the first moment a zip knows: the same clips give the same bytes
_EPOCH = (1980, 1, 1, 0, 0, 0)


class BadSubmission(ValueError):
    """Clips that the challenge would refuse.

    Args:
        what: folder or zip.
        problems: one line each.
    """

    def __init__(self, what: str | Path, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        shown = "; ".join(self.problems[:3]) + ("; ..." if len(self.problems) > 3 else "")
        super().__init__(f"{what} is no submission, {len(self.problems)} problems: {shown}")


def write_submission(folder: str | Path, ids: Sequence[str], out: str | Path) -> Path:
    """Put the clips of ``folder`` into a zip, after checking every one.

    Files are stored as they are, in the order of ``ids``, without dates: equal clips give equal bytes.

    Args:
        folder: holds ``<id>.wav`` for every id, or the name that `fluxlight generate` gave it; other files than audio
            are left out.
        ids: prompt ids; one that cannot name a file, such as 14/214, goes by its generated name.
        out: the zip.

    Raises:
        FileNotFoundError: no such folder.
        BadSubmission: some clip would be refused; nothing is written.
    """
    out = Path(out)
    if problems := check_folder(folder, ids):
        raise BadSubmission(folder, problems)
    with (
        atomic_path(out) as temporary,
        # stored, not deflated: compressors differ from version to version
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file,
    ):
        for id, name in named(audio_names(Path(folder)), ids).items():
            entry = zipfile.ZipInfo(f"{id if is_plain(id) else clip_name(id)}.wav", _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            file.writestr(entry, (Path(folder) / name).read_bytes())
    return out


def check_folder(folder: str | Path, ids: Sequence[str]) -> list[str]:
    """Problems of a folder of clips, one line each; none when it can be submitted."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"audio folder {folder} does not exist: render it with `fluxlight generate`")
    files = audio_names(folder)
    problems = check_names(files, ids)
    for name in named(files, ids).values():
        with (folder / name).open("rb") as file:
            problems += [f"{name}: {fault}" for fault in check_clip(file)]
    return problems


def audio_names(folder: Path) -> list[str]:
    """Names of the audio files of a folder."""
    return [p.name for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.name[0] != "."]


def is_plain(id: str) -> bool:
    """Whether an id can name a file at the top of a zip."""
    return "/" not in id and "\\" not in id and id not in ("", ".", "..")


def named(names: Sequence[str], ids: Sequence[str]) -> dict[str, str]:
    """Id -> the wav among ``names`` that is its clip, for the ids that have one."""
    stems = {same(name.removesuffix(".wav")): name for name in names if name.endswith(".wav")}
    found = {id: stems.get(found_name(id, stems)) for id in ids}
    return {id: name for id, name in found.items() if name is not None}


def check_zip(path: str | Path, ids: Sequence[str] | None = None) -> list[str]:
    """Problems of a submission zip, one line each.

    Args:
        path: the zip.
        ids: the prompts' ids; None takes the zip's own names and only counts them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a zip.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"submission {path} does not exist: give the zip")
    try:
        with zipfile.ZipFile(path) as file:
            return list(_problems(file, ids))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no zip file or was cut short ({error}): make it again") from None


def _problems(file: zipfile.ZipFile, ids: Sequence[str] | None) -> Iterator[str]:
    entries = [entry for entry in file.infolist() if not entry.is_dir()]
    for folder in (entry.filename for entry in file.infolist() if entry.is_dir()):
        yield f"{folder!r} is a folder: clips lie at the top of the zip"
    names = [entry.filename for entry in entries]
    for name, times in Counter(names).items():
        if times > 1:
            yield f"{name!r} is there {times} times"
    if ids is None:
        if len(set(names)) != CLIPS:
            yield f"{len(set(names))} files, the challenge wants {CLIPS}"
        ids = [name.removesuffix(".wav") for name in names if name.endswith(".wav")]
    yield from check_names(names, ids)
    wanted = set(named(names, ids).values())
    for entry in entries:
        if entry.filename not in wanted:
            continue
        if entry.flag_bits & 1:
            yield f"{entry.filename}: encrypted"
            continue
        try:
            with file.open(entry) as source:
                content = source.read(LARGEST + 1)
        except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, RuntimeError) as error:
            yield f"{entry.filename}: cannot be read ({' '.join(str(error).split())})"
            continue
        if len(content) > LARGEST:
            yield f"{entry.filename}: larger than {LARGEST >> 20} MiB"
            continue
        yield from (f"{entry.filename}: {fault}" for fault in check_clip(io.BytesIO(content)))


def check_names(names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Ids without a file, and files without an id."""
    found = named(names, ids)
    problems = [f"{id}.wav: missing" for id in ids if id not in found]
    for name in sorted(set(names) - set(found.values())):
        if "/" in name or "\\" in name or name.startswith("."):
            problems.append(f"{name!r} is not a plain name at the top")
        elif not name.endswith(".wav"):
            problems.append(f"{name!r} is no wav")
        else:
            problems.append(f"{name!r} belongs to no prompt")
    if twice := first_double(clip_name(id) for id in ids):
        problems.append(f"ids {ids[twice[0]]!r} and {ids[twice[1]]!r} name one file")
    return problems + [f"id {id!r} cannot name a file" for id in ids if not clip_name(id)]


def check_clip(source: IO[bytes]) -> list[str]:
    """What the challenge would refuse in a wav: format, rate, channels, length, silence, clipping, NaN."""
    import soundfile

    try:
        with soundfile.SoundFile(source) as file:
            kind, rate, channels, frames = file.format, file.samplerate, file.channels, file.frames
            if frames > LONGEST * rate:
                return ["states no length in its header"]
            if frames * channels > LARGEST // 2:
                return [f"{frames / rate:.1f} s long"]
            audio = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        return [f"is no audio ({' '.join(str(error).split())})"]
    problems = []
    if kind not in ("WAV", "WAVEX"):
        problems.append(f"is {kind}, not WAV")
    if rate != RATE:
        problems.append(f"{rate} Hz, not {RATE}")
    if channels != 1:
        problems.append(f"{channels} channels, not mono")
    if len(audio) != SECONDS * rate:
        problems.append(f"{len(audio)} samples, not {SECONDS * rate} ({SECONDS} s)")
    # the length has been judged, to the sample
    return problems + find_faults(audio.mean(axis=1), rate, None)
