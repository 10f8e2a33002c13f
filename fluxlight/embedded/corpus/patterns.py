"""Accompaniment patterns as step grids: 16 steps a bar in 4/4, 12 steps (sixteenths) in 3/4 ("3") and 6/8 ("6").

Chords: ``x`` strikes, ``-`` holds, ``.`` rests. Bass: ``1 3 5 8`` are the chord's root, third, fifth and octave,
``a`` leads by step into the next root. Drums: ``X x o`` loud, medium, soft; keys are General MIDI percussion.
All patterns are ours.
"""

from __future__ import annotations

CHORDS: dict[str, dict[str, str]] = {
    "pad": {"4": "x---------------", "3": "x-----------", "6": "x-----------"},
    "block": {"4": "x---x---x---x---", "3": "x---x---x---", "6": "x-----x-----"},
    "slow": {"4": "x-------x-------", "3": "x-----------", "6": "x-----x-----"},
    "strum": {"4": "x---x-x-..x-x-x-", "3": "x---x-x-x-x-", "6": "x---x-x---x-"},
    "pah": {"4": "....x-......x-..", "3": "....x-..x-..", "6": "....x-....x-"},
    "skank": {"4": "..x...x...x...x.", "3": "..x...x...x.", "6": "..x-x...x-x."},
    "chop": {"4": "....x.......x...", "3": "....x...x...", "6": "....x.....x."},
    "comp": {"4": "x--...x-......x-", "3": "x-..x-....x-", "6": "x---..x---.."},
    "bossa": {"4": "x--x--x---x--x--", "3": "x-..x-..x-..", "6": "x-..x-x-..x-"},
    "stab": {"4": "x..x..x...x..x..", "3": "x..x..x...x.", "6": "x..x..x..x.."},
    "funk": {"4": "x.xxx.xx.xxx.xx.", "3": "x.xxx.xx.xx.", "6": "x.xxx.xxx.x."},
    "chug": {"4": "x.xxx.xxx.xxx.xx", "3": "x.xxx.xxx.xx", "6": "x.xxx.xxx.xx"},
    "rock8": {"4": "x-x-x-x-x-x-x-x-", "3": "x-x-x-x-x-x-", "6": "x-x-x-x-x-x-"},
    "shuffle": {"4": "x-x-x-x-x-x-x-x-", "3": "x-x-x-x-x-x-", "6": "x---x-x---x-"},
    "tremolo": {"4": "xxxxxxxxxxxxxxxx", "3": "xxxxxxxxxxxx", "6": "xxxxxxxxxxxx"},
    "arp8": {"4": "x-x-x-x-x-x-x-x-", "3": "x-x-x-x-x-x-", "6": "x-x-x-x-x-x-"},
    "arp16": {"4": "xxxxxxxxxxxxxxxx", "3": "xxxxxxxxxxxx", "6": "xxxxxxxxxxxx"},
    "alberti": {"4": "x-x-x-x-x-x-x-x-", "3": "x-x-x-x-x-x-", "6": "x-x-x-x-x-x-"},
    "montuno": {"4": "x-xx-xx-x-xx-xx-", "3": "x-xx-xx-x-x-", "6": "x-xx-xx-x-x-"},
    "lull": {"4": "x---x---x---x---", "3": "x---x---x---", "6": "x---x-x---x-"},
}
# Styles that play one chord tone a strike, in this order (3 = the root an octave up).
ARPEGGIOS = {"arp8": (0, 1, 2, 3, 2, 1), "arp16": (0, 1, 2, 3), "alberti": (0, 2, 1, 2), "montuno": (3, 0, 2, 1),
             "lull": (0, 1, 2, 1)}
POWER = {"chug", "rock8", "shuffle"}  # root, fifth, octave only

BASS: dict[str, dict[str, str]] = {
    "root": {"4": "1-------1-------", "3": "1-----------", "6": "1-----1-----"},
    "fifth": {"4": "1---....5---....", "3": "1---........", "6": "1---..5---.."},
    "walk": {"4": "1---3---5---a---", "3": "1---3---5---", "6": "1-----5---a-"},
    "eight": {"4": "1-1-1-1-1-1-1-1-", "3": "1-1-1-1-1-1-", "6": "1-1-1-1-1-1-"},
    "octave": {"4": "1.8.1.8.1.8.1.8.", "3": "1.8.1.8.1.8.", "6": "1.8.1.8.1.8."},
    "offbeat": {"4": "1.1-..1-..1-..1-", "3": "..1-..1-..1-", "6": "..1-..1-..1-"},
    "bossa": {"4": "1-----5-5-----1-", "3": "1-----5-5-..", "6": "1-----5-5-.."},
    "tumbao": {"4": "1-----5-----8---", "3": "1-----5---..", "6": "1---..5---.."},
    "sub": {"4": "1---------------", "3": "1-----------", "6": "1-----------"},
    "dub": {"4": "1--..1--5---3-..", "3": "1--..1--5---", "6": "1--..15---.."},
    "funk": {"4": "1..11..8..1.5.8.", "3": "1..11..8..5.", "6": "1..11..8..5."},
    "trap": {"4": "1-----1-..1-----", "3": "1-----1-..1-", "6": "1-----1-..1-"},
    "pulse": {"4": "1.1.1.1.1.1.1.1.", "3": "1.1.1.1.1.1.", "6": "1.1.1.1.1.1."},
    "boogie": {"4": "1-1-3-3-5-5-8-5-", "3": "1-1-3-3-5-5-", "6": "1-3-5-8-5-3-"},
}

KICK, STICK, SNARE, CLAP, HAT, PEDAL, OPEN, CRASH, RIDE = 36, 37, 38, 39, 42, 44, 46, 49, 51
TAMB, CONGA, CONGA_LOW, CLAVE, SHAKER, BELL, TOM, BRUSH = 54, 63, 64, 75, 70, 56, 45, 40
DRUMS: dict[str, dict[str, dict[int, str]]] = {
    "rock": {"4": {KICK: "X.....x.X.x.....", SNARE: "....X.......X...", HAT: "x.o.x.o.x.o.x.o."}},
    "metal": {"4": {KICK: "XxXxXxXxXxXxXxXx", SNARE: "....X.......X...", RIDE: "x...x...x...x..."}},
    "country": {"4": {KICK: "X.......X.......", SNARE: "....x..o....x..o", HAT: "o.o.o.o.o.o.o.o."}},
    "train": {"4": {KICK: "X.......X.......", SNARE: "oxo.oxo.oxo.oxxo"}},
    "swing": {"4": {RIDE: "x...x.x.x...x.x.", PEDAL: "....o.......o...", KICK: "o.......o......."},
              "3": {RIDE: "x...x.x.x.x.", PEDAL: "....o...o..."}},
    "brush": {"4": {BRUSH: "o...x...o...x...", RIDE: "o...o.o.o...o.o."}, "3": {BRUSH: "o...x...x..."}},
    "bossa": {"4": {KICK: "X..xX..xX..xX..x", STICK: "x..x..x...x..x..", HAT: "o.o.o.o.o.o.o.o."}},
    "blues": {"4": {KICK: "X.....x.X.......", SNARE: "....X.......X...", RIDE: "x.o.x.o.x.o.x.o."}},
    "funk": {"4": {KICK: "X..x..x...x..x..", SNARE: "....X..o.o..X..o", HAT: "xoxoxoxoxoxoxoxo"}},
    "disco": {"4": {KICK: "X...X...X...X...", SNARE: "....X.......X...", OPEN: "..x...x...x...x.",
                   HAT: "x...x...x...x..."}},
    "house": {"4": {KICK: "X...X...X...X...", CLAP: "....X.......X...", OPEN: "..x...x...x...x.",
                   HAT: "oo.ooo.ooo.ooo.o"}},
    "synthwave": {"4": {KICK: "X...X...X...X...", SNARE: "....X.......X...", HAT: "o.o.o.o.o.o.o.o."}},
    "lofi": {"4": {KICK: "X......xX.x.....", SNARE: "....x.......x...", HAT: "o.o.o.o.o.o.o.oo"}},
    "trap": {"4": {KICK: "X.....x...X.....", CLAP: "........X.......", HAT: "x.x.x.xxx.x.xxxx"}},
    "reggae": {"4": {KICK: "........X.......", STICK: "........X.......", HAT: "x.o.x.o.x.o.x.o."}},
    "ska": {"4": {KICK: "X.......X.......", SNARE: "....X.......X...", HAT: "..x...x...x...x."}},
    "salsa": {"4": {CLAVE: "x..x..x...x.x...", CONGA: "..o.x.oo..o.x.oo", CONGA_LOW: "......xx......xx",
                   BELL: "x...x...x...x..."}},
    "polka": {"4": {KICK: "X.......X.......", SNARE: "....x.......x...", HAT: "....o.......o..."}},
    "march": {"4": {KICK: "X.......X.......", SNARE: "x.xxx.x.x.xxxxxx", CRASH: "........o......."},
              "6": {KICK: "X.....X.....", SNARE: "x.xxx.x.xxxx"}},
    "waltz": {"3": {KICK: "X...........", HAT: "....o...o...", BRUSH: "....o...o..."}},
    "bodhran": {"6": {TOM: "X.o.o.x.o.o.", TAMB: "......o....."}, "4": {TOM: "X..ox.o.X..ox.o.",
                    TAMB: "....o.......o..."}},
    "epic": {"4": {TOM: "X..x..x.X..x..xx", KICK: "X.......X.......", CRASH: "o..............."}},
    "chip": {"4": {KICK: "X...X...X...X...", SNARE: "....x.......x..x", HAT: "o.o.o.o.o.o.o.o."}},
    "gospel": {"4": {KICK: "X.....x.X.......", CLAP: "....X.......X...", TAMB: "o.o.o.o.o.o.o.o."},
               "6": {KICK: "X.....x.....", CLAP: "......X....."}},
    "island": {"4": {KICK: "X.....x.X.....x.", SHAKER: "xoxoxoxoxoxoxoxo", CONGA: "....x..x....x.xx"}},
}
