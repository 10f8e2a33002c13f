"""Pickles of later protocols for torch's ``weights_only`` reader, which knows protocol 2 alone.

Nothing is unpickled here: the stream is rewritten opcode by opcode, and torch's restricted reader, with its list of
allowed types, reads the result. The opcodes and what they mean: Python's `pickletools`.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
from collections.abc import Iterator
from io import BytesIO
from pickle import UnpicklingError
from typing import IO, Any

from torch import _weights_only_unpickler as restricted

INLINED = 256
"""Letters of a text that is written out wherever it stands again (our choice; names are shorter)."""

_AS_THEY_ARE = frozenset(
    "NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS MARK TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWFALSE NEWTRUE "
    "EMPTY_TUPLE EMPTY_LIST EMPTY_DICT BINPERSID BININT BININT1 BININT2 BINFLOAT LONG1 SHORT_BINSTRING GLOBAL".split()
)
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_GETS, _PUTS = {"BINGET", "LONG_BINGET", "GET"}, {"BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"}
# sets are read as lists and tuples: they hold no weights, and torch's reader adds to lists alone
_RENAMED = {"EMPTY_SET": pickle.EMPTY_LIST, "ADDITEMS": pickle.APPENDS, "FROZENSET": pickle.TUPLE}


def as_protocol_2(file: IO[bytes]) -> bytes:
    """The next pickle of ``file`` as protocol 2; the file is left behind its end.

    Raises:
        UnpicklingError: it is cut short, or uses what no file of weights needs.
    """
    out = [pickle.PROTO + b"\x02"]
    texts: dict[int, str] = {}  # memo -> a short text
    memo = 0
    last: str | None = None  # the short text that was pushed last
    for name, arg, raw in _opcodes(file):
        if name in ("PROTO", "FRAME"):
            continue
        if name in _PUTS:
            number = memo if name == "MEMOIZE" else int(arg)
            memo += 1
            texts.pop(number, None)
            if last is None:
                out.append(pickle.LONG_BINPUT + struct.pack("<I", number))
            else:
                texts[number] = last
            continue
        if name in _GETS and int(arg) in texts:
            name, arg = "BINUNICODE", texts[int(arg)]
        last = arg if name in _TEXTS and len(arg) <= INLINED else None
        if name in _TEXTS:
            out.append(_text(arg))
        elif name in _BYTES:
            # what protocol 2 has in place of bytes
            out += [pickle.GLOBAL + b"_codecs\nencode\n", _text(bytes(arg).decode("latin-1")), _text("latin-1")]
            out.append(pickle.TUPLE2 + pickle.REDUCE)
        elif name == "STACK_GLOBAL":
            if len(out) < 2 or not all(op.startswith(pickle.BINUNICODE) for op in out[-2:]):
                raise UnpicklingError("a name of a type is not written out")
            module, kind = (op[5:] for op in out[-2:])
            if b"\n" in module + kind:
                raise UnpicklingError("a name of a type holds a line end")
            out[-2:] = [pickle.GLOBAL + module + b"\n" + kind + b"\n"]
        elif name in _RENAMED:
            out.append(_RENAMED[name])
        elif name in _GETS:
            out.append(pickle.LONG_BINGET + struct.pack("<I", int(arg)))
        elif name in _AS_THEY_ARE:
            out.append(raw)
        elif name == "STOP":
            return b"".join([*out, pickle.STOP])
        else:
            raise UnpicklingError(f"it uses {name}, which no file of weights needs")
    raise UnpicklingError("it is cut short")


def _opcodes(file: IO[bytes]) -> Iterator[tuple[str, Any, bytes]]:
    """Name, argument and bytes of every opcode."""
    try:
        start = file.tell()
        for opcode, arg, _ in pickletools.genops(file):
            end = file.tell()
            file.seek(start)
            yield opcode.name, arg, file.read(end - start)
            start = end
    except ValueError as error:
        raise UnpicklingError(f"it is no pickle, or cut short ({error})") from None


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


class Unpickler(restricted.Unpickler):
    """torch's restricted unpickler over a pickle of any protocol; `torch.load` takes this module as its pickle."""

    def __init__(self, file: IO[bytes], *, encoding: str = "bytes") -> None:
        super().__init__(BytesIO(as_protocol_2(file)), encoding=encoding)


def load(file: IO[bytes], *, encoding: str = "ASCII") -> Any:
    """What stands next in ``file``, of allowed types alone."""
    return Unpickler(file, encoding=encoding).load()
