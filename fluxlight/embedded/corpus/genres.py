"""Genre templates and moods: who plays what, how fast, with which swing and in which room. All choices are ours."""

from __future__ import annotations

from dataclasses import dataclass

# General MIDI program -> the name a caption uses. Programs that TimGM6mb plays off pitch (8, 9, 31, 47, 55, 78, 98,
# 112 and up, measured with our reader) are not used.
INSTRUMENTS: dict[int, str] = {
    0: "piano", 3: "honky-tonk piano", 4: "electric piano", 6: "harpsichord", 7: "clavinet", 10: "music box",
    11: "vibraphone", 12: "marimba", 13: "xylophone", 14: "tubular bells", 16: "Hammond organ", 19: "church organ",
    20: "reed organ", 21: "accordion", 22: "harmonica", 24: "nylon guitar", 25: "acoustic guitar", 26: "jazz guitar",
    27: "clean electric guitar", 28: "muted guitar", 29: "overdriven guitar", 30: "distorted guitar",
    32: "upright bass", 33: "electric bass", 34: "picked bass", 35: "fretless bass", 36: "slap bass",
    38: "synth bass", 40: "violin", 41: "viola", 42: "cello", 43: "double bass", 45: "pizzicato strings", 46: "harp",
    48: "string ensemble", 50: "synth strings", 52: "choir", 53: "voices", 56: "trumpet", 57: "trombone", 58: "tuba",
    59: "muted trumpet", 60: "French horn", 61: "brass section", 62: "synth brass", 64: "soprano saxophone",
    65: "alto saxophone", 66: "tenor saxophone", 68: "oboe", 70: "bassoon", 71: "clarinet", 72: "piccolo",
    73: "flute", 74: "recorder", 75: "pan flute", 80: "square lead", 81: "saw lead", 88: "glassy pad", 89: "warm pad",
    90: "polysynth", 105: "banjo", 108: "kalimba", 109: "bagpipes", 110: "fiddle", 114: "steel drums",
}
# Comfortable middle of a melody on each lead, MIDI pitch; others sit around 72.
CENTRES = {42: 57, 70: 55, 57: 58, 58: 48, 60: 62, 66: 62, 65: 67, 26: 67, 24: 66, 25: 67, 27: 68, 29: 66, 30: 64,
           7: 66, 41: 65, 16: 69, 19: 70, 53: 66, 52: 66, 72: 86, 10: 84, 13: 80, 14: 67, 12: 70, 73: 77, 74: 77,
           105: 68, 81: 70, 80: 74, 0: 72, 4: 70, 11: 72, 50: 67, 48: 67, 89: 67, 109: 72, 108: 72}
DRUM_NAME = "drums"


@dataclass(frozen=True)
class Genre:
    """One template.

    ``tempo`` is beats a minute (dotted quarters in 6/8); ``grid`` thins the tune to multiples of so
    many quarters; ``harmony`` is quarters a chord (None: half a bar); ``colour`` adds chord tones (semitones).
    """

    name: str
    meters: tuple[str, ...]
    tempo: tuple[int, int]
    moods: tuple[str, ...]
    leads: tuple[int, ...]
    chords: tuple[int, ...]
    chord_styles: tuple[str, ...]
    basses: tuple[int, ...] = ()
    bass_styles: tuple[str, ...] = ()
    drums: str | None = None
    kit: int = 0
    swing: float = 0.5
    room: str = "room"
    wet: float = 0.25
    grid: float = 0.25
    whole_bars: bool = False
    sevenths: bool = False
    pads: tuple[int, ...] = ()


GENRES: tuple[Genre, ...] = (
    Genre("celtic jig", ("6",), (96, 132), ("happy", "playful", "energetic"), (110, 73, 74, 109, 21), (25, 46),
          ("strum", "pah"), (43, 33), ("fifth",), "bodhran"),
    Genre("irish reel", ("4",), (96, 126), ("happy", "energetic", "dark"), (110, 21, 74, 72), (25, 105), ("strum",),
          (43,), ("fifth",), "bodhran"),
    Genre("waltz", ("3",), (90, 168), ("romantic", "happy", "sad", "dreamy"), (40, 71, 21, 0), (0, 48, 21), ("pah",),
          (43, 32), ("fifth",), "waltz", 40, 0.5, "hall", 0.3, 0.5, True),
    Genre("bluegrass", ("4",), (108, 144), ("happy", "energetic", "playful"), (105, 110, 25), (25, 27),
          ("chop", "strum"), (32,), ("fifth",), None, 0, 0.5, "dry", 0.12),
    Genre("country", ("4",), (84, 128), ("happy", "sad", "calm", "playful"), (110, 27, 22, 25), (25, 3), ("strum",),
          (33, 34), ("fifth",), "country", 0, 0.54, "room", 0.2, 0.5),
    Genre("folk ballad", ("4", "3"), (60, 92), ("calm", "sad", "romantic", "dreamy"), (73, 53, 22, 68), (24, 25, 46),
          ("arp8", "strum"), (), (), None, 0, 0.5, "hall", 0.3, 0.5),
    Genre("baroque", ("4", "3", "6"), (72, 120), ("playful", "calm", "tense", "happy"), (6, 74, 68, 19), (6, 19),
          ("alberti", "block"), (42, 70), ("eight", "root"), None, 0, 0.5, "hall", 0.35),
    Genre("string quartet", ("4", "3"), (60, 116), ("romantic", "sad", "tense", "calm"), (40, 41), (48, 45),
          ("slow", "block", "arp8"), (42,), ("root", "fifth"), None, 0, 0.5, "hall", 0.4, 0.5),
    Genre("cinematic orchestral", ("4",), (76, 132), ("epic", "dark", "tense", "romantic"), (60, 61, 48, 52),
          (48, 52), ("tremolo", "pad"), (43, 58), ("root", "pulse"), "epic", 48, 0.5, "cathedral", 0.5, 1.0, True),
    Genre("jazz swing", ("4",), (112, 184), ("happy", "playful", "energetic", "calm"), (65, 66, 59, 71, 26), (0, 26),
          ("comp",), (32,), ("walk",), "swing", 32, 0.64, "room", 0.22, 0.5, False, True),
    Genre("bossa nova", ("4",), (104, 140), ("calm", "romantic", "dreamy", "happy"), (73, 64, 24, 11), (24, 4),
          ("bossa",), (32, 35), ("bossa",), "bossa", 40, 0.5, "room", 0.25, 0.5, True, True),
    Genre("blues", ("4",), (68, 116), ("sad", "dark", "playful"), (22, 29, 66, 16), (16, 27, 3), ("shuffle", "comp"),
          (33, 32), ("boogie", "walk"), "blues", 0, 0.64, "room", 0.22, 0.5, True, True),
    Genre("funk", ("4",), (92, 118), ("energetic", "playful", "happy"), (61, 65, 7, 16), (28, 7), ("funk", "stab"),
          (36, 33), ("funk",), "funk", 0, 0.53, "dry", 0.15, 0.5, True, True),
    Genre("disco", ("4",), (108, 128), ("happy", "energetic", "romantic"), (48, 61, 50, 4), (28, 4),
          ("skank", "funk"), (33, 36), ("octave",), "disco", 0, 0.5, "room", 0.25, 0.5, True),
    Genre("house", ("4",), (118, 130), ("energetic", "happy", "dreamy", "dark"), (81, 0, 90, 62), (90, 0),
          ("stab", "skank"), (38,), ("offbeat",), "house", 24, 0.5, "room", 0.3, 0.5, True, False, (89,)),
    Genre("synthwave", ("4",), (84, 118), ("dreamy", "dark", "energetic"), (81, 80, 62), (90, 50), ("arp16", "pad"),
          (38,), ("eight",), "synthwave", 24, 0.5, "hall", 0.35, 0.5, True, False, (50, 89)),
    Genre("ambient", ("4", "3"), (56, 80), ("calm", "dreamy", "dark", "sad"), (89, 11, 75, 14), (88, 89, 52),
          ("pad",), (), (), None, 0, 0.5, "cathedral", 0.8, 1.0, True),
    Genre("lo-fi hip hop", ("4",), (68, 90), ("calm", "sad", "dreamy"), (4, 26, 11, 108), (4, 0), ("slow", "comp"),
          (33, 35), ("dub", "root"), "lofi", 0, 0.57, "room", 0.25, 0.5, True, True),
    Genre("trap", ("4",), (66, 78), ("dark", "tense", "energetic"), (14, 73, 80, 45), (50, 52), ("pad", "arp16"),
          (38,), ("trap",), "trap", 25, 0.5, "hall", 0.3, 0.5, True),
    Genre("reggae", ("4",), (68, 92), ("happy", "calm", "playful"), (57, 64, 22, 16), (27, 16), ("skank",), (33,),
          ("dub",), "reggae", 0, 0.56, "room", 0.3, 0.5, True),
    Genre("ska", ("4",), (120, 164), ("energetic", "happy", "playful"), (56, 57, 66), (27, 16), ("skank",), (33, 34),
          ("walk",), "ska", 0, 0.5, "room", 0.18, 0.5, True),
    Genre("rock", ("4",), (96, 148), ("energetic", "dark", "happy"), (29, 30, 27), (29, 30), ("rock8",), (34, 33),
          ("eight",), "rock", 0, 0.5, "room", 0.2, 0.5, True),
    Genre("metal", ("4",), (120, 176), ("dark", "tense", "energetic", "epic"), (30, 81), (30,), ("chug",), (34,),
          ("eight",), "metal", 16, 0.5, "room", 0.15, 0.5, True),
    Genre("salsa", ("4",), (92, 116), ("energetic", "happy", "romantic"), (56, 61, 73, 57), (0,), ("montuno",),
          (32, 35), ("tumbao",), "salsa", 0, 0.5, "room", 0.2, 0.5, True),
    Genre("polka", ("4",), (108, 138), ("happy", "playful", "energetic"), (21, 71, 56), (21, 20), ("pah",), (58,),
          ("fifth",), "polka", 0, 0.5, "room", 0.15),
    Genre("march", ("4", "6"), (100, 126), ("epic", "happy", "energetic"), (72, 56, 61, 60), (61, 60),
          ("pah", "block"), (58,), ("fifth",), "march", 48, 0.5, "hall", 0.25, 0.5),
    Genre("chiptune", ("4", "6"), (108, 156), ("playful", "energetic", "happy", "tense"), (80,), (80, 81),
          ("arp16", "arp8"), (38,), ("octave", "pulse"), None, 24, 0.5, "dry", 0.0),
    Genre("gospel", ("4", "6"), (64, 104), ("romantic", "happy", "sad", "epic"), (16, 53, 52, 0), (16, 0, 20),
          ("block", "slow"), (33,), ("walk", "root"), "gospel", 0, 0.56, "hall", 0.35, 0.5, False, True),
    Genre("lullaby", ("4", "3", "6"), (58, 88), ("calm", "dreamy", "romantic"), (10, 46, 108, 11), (46, 24, 12),
          ("lull", "arp8"), (), (), None, 0, 0.5, "hall", 0.35, 0.5, True),
    Genre("calypso", ("4",), (100, 128), ("happy", "playful", "energetic"), (114, 12, 13), (24, 12),
          ("bossa", "stab"), (33,), ("tumbao",), "island", 0, 0.5, "room", 0.2, 0.5, True),
)
GENRE_NAMES = tuple(g.name for g in GENRES)


@dataclass(frozen=True)
class Mood:
    """How a mood sounds.

    ``modes`` to draw from, the part of the genre's tempo range, note length against the
    written one, loudness (velocity), register (semitones) and room (times the genre's).
    """

    modes: tuple[str, ...]
    tempo: tuple[float, float]
    hold: float
    velocity: int
    register: int
    wet: float


MOODS: dict[str, Mood] = {
    "happy": Mood(("major", "major", "mixolydian"), (0.4, 0.9), 0.85, 96, 2, 0.9),
    "energetic": Mood(("major", "mixolydian", "minor", "dorian"), (0.7, 1.0), 0.8, 116, 0, 0.7),
    "calm": Mood(("major", "major", "dorian"), (0.0, 0.35), 1.0, 72, -2, 1.3),
    "sad": Mood(("minor",), (0.0, 0.4), 1.0, 76, -3, 1.3),
    "dark": Mood(("minor", "phrygian"), (0.1, 0.7), 0.95, 100, -8, 1.1),
    "dreamy": Mood(("major", "lydian"), (0.0, 0.4), 1.0, 74, 4, 1.8),
    "tense": Mood(("minor", "phrygian"), (0.5, 1.0), 0.55, 104, -2, 0.8),
    "playful": Mood(("major", "mixolydian"), (0.4, 0.9), 0.45, 92, 5, 0.6),
    "romantic": Mood(("major", "minor"), (0.1, 0.5), 1.0, 84, 0, 1.2),
    "epic": Mood(("minor", "dorian"), (0.4, 0.9), 1.0, 118, -3, 1.3),
}
MODES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10), "phrygian": (0, 1, 3, 5, 7, 8, 10), "lydian": (0, 2, 4, 6, 7, 9, 11),
}
TONICS = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")


def tempo_word(bpm: float) -> str:
    """The word for a tempo; the same cuts hold for every genre."""
    for limit, word in ((74, "very slow"), (94, "slow"), (114, "moderate"), (136, "fast")):
        if bpm < limit:
            return word
    return "very fast"
