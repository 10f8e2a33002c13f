"""What users give by mistake, one row each: name, command line, files beside it, what the one line must say, exit code.

``{d}`` is the folder of the files, ``{w}`` the small world of a session (store, slice, overlay, bundle), ``{c}`` the
repository's configs.
"""

from __future__ import annotations

from typing import NamedTuple

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"b" * 64 + b"\nsize 480927044\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head></html>"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
VOTES = "a,b,winner\n"


class Bad(NamedTuple):
    """One mistake."""

    name: str
    words: str
    says: str
    files: dict[str, str | bytes] = {}
    code: int = 2


def prompts(name: str, file: str, content: str | bytes, says: str) -> Bad:
    """A bad table of prompts, as `generate` reads it: before anything of the model is looked at."""
    words = f"generate --model {{d}}/none --prompts {{d}}/{file} --out {{d}}/out"
    return Bad(name, words, rf"{file}.*{says}", {file: content})


def ranks(name: str, file: str, content: str | bytes, says: str, more: str = "") -> Bad:
    """A bad table of results."""
    return Bad(name, f"rank {{d}}/{file} {more}", rf"{says}", {file: content})


def start(name: str, file: str, content: str | bytes, says: str) -> Bad:
    """A bad file to start a stage from."""
    return Bad(f"fit {name}", f"{FIT} --model.init_from {{d}}/{file}", rf"{file}.*{says}", {file: content})


def model(name: str, file: str, content: str | bytes, says: str) -> Bad:
    """A bad file to generate with."""
    words = f"generate tune --model {{d}}/{file} --out {{d}}/out"
    return Bad(f"generate {name}", words, rf"{file}.*{says}", {file: content})


def votes(name: str, content: str, says: str) -> Bad:
    """A bad table of votes."""
    small = "--clap small_world.SmallClap --text false"
    return Bad(f"votes {name}", f"votes --table {{d}}/v.csv --out {{d}}/out {small}", rf"v.csv.*{says}",
        {"v.csv": content})


FIT = "fit --config {c}/stages/row0_baseline.yaml --config {w}/small.yaml --trainer.default_root_dir {d}/out"
ENCODE = (
    "encode --out {d}/out --codec small_world.SmallCodec --text small_world.SmallText --clap small_world.SmallClap "
    "--reward small_world.SmallReward --source fluxlight.data.sources.AudioFolder"
)
SCORES = '{"p0": {"a": 1, "b": 2}, "p1": {"a": 1, "b": 3}}'
TWO = "id,prompt\np0,x\np1,y\n"
EVALUATE = "evaluate --out {d}/out --prompts {d}/p.csv --scores m={d}/s.json"

BAD: list[Bad] = [
    Bad("unknown verb", "fits", "unknown verb 'fits': choose one of fit"),
    # tables
    prompts("no table", "p.tsv.none", "", "holds no prompts"),
    prompts("Latin-1", "p.tsv", "id\tcaption\nt0\tcafé\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8"),
    prompts("UTF-16", "p.txt", "a piano".encode("utf-16"), "line 1: is UTF-16"),
    prompts("a picture", "p.txt", PNG, "line 1: (byte 0x89|holds a zero byte)"),
    prompts("an open quote", "p.csv", 'id,prompt\nt0,"open\nt1,x\n', "line 2: the quote that opens"),
    prompts("a missing cell", "p.csv", "id,prompt\nt0,x\nt1\n", "line 3: 1 cell where .* add the missing cell"),
    prompts("a surplus cell", "p.csv", "id,prompt\nt0,drums, loud\n", "line 2: 3 cells"),
    prompts("no column", "p.csv", "id,text\nt0,x\n", "line 1: the first line must name a column prompt"),
    prompts("a header alone", "p.csv", "id,prompt\n", "holds no prompts"),
    prompts("an empty prompt", "p.tsv", "id\tcaption\nt0\tx\nt1\t \n", "line 3: the prompt is empty"),
    prompts("an id twice", "p.json", '[{"id": 1, "prompt": "x"},\n {"id": 1, "prompt": "y"}]', "given twice"),
    prompts("an id with a line end", "p.json", '{"a\\nb": "x"}', "holds a line end"),
    prompts("half a letter", "p.json", '{"a": "\\ud800"}', "holds half a character"),
    prompts("JSON cut short", "p.json", '[{"id": 1,\n"prompt": "x"', "line 2: is not valid JSON"),
    prompts("JSON lines cut short", "p.jsonl", '{"id": 1, "prompt": "x"}\n{"id": 2, "pro', "line 2: is not valid JSON"),
    prompts("a number", "p.json", "3", "is JSON but no table"),
    Bad("ids that name one file", "generate --model {d}/none --prompts {d}/p.json --out {d}/out",
        "prompt ids 'A' and 'a' name one file: rename", {"p.json": '{"A": "x", "a": "y"}'}),
    Bad("an id that names no file", "generate --model {d}/none --prompts {d}/p.json --out {d}/out",
        "prompt id '///' cannot name a file|prompt id '\\.' cannot name a file", {"p.json": '{".": "x"}'}),
    Bad("an id of 86 CJK letters", "generate --model {d}/none --prompts {d}/p.json --out {d}/out",
        r"prompt id '曲+'\.\.\. cannot name a file: 262 bytes", {"p.json": '{"' + "曲" * 86 + '": "x"}'}),
    Bad("an id of 252 letters", "generate --model {d}/none --prompts {d}/p.json --out {d}/out",
        "cannot name a file: 256 bytes", {"p.json": '{"' + "a" * 252 + '": "x"}'}),
    Bad("a table that is a folder", "generate --model {d}/none --prompts {d} --out {d}/out",
        "is a folder without rows"),
    Bad("no such table", "generate --model {d}/none --prompts {d}/p.tsv --out {d}/out", "p.tsv does not exist: give"),
    # ranks and scores
    ranks("a word for a number", "r.csv", "system,fad\nA,0.4\nB,n/a\n", "line 3: fad of B is 'n/a': it needs a number"),
    ranks("not finite", "r.csv", "system,fad\nA,inf\n", "line 2: fad of A is inf, not finite"),
    ranks("a system twice", "r.csv", "system,fad\nA,1\nA,2\n", "line 3: system 'A' is given twice"),
    ranks("no system", "r.csv", "name,fad\nA,1\n", "name the column system"),
    ranks("a measure is missing", "r.json", '{"A": {"x": 1}, "B": {"y": 2}}', "has no (x|y), which others"),
    ranks("no such measure", "r.csv", "system,fad\nA,1\n", "--measures: clap is in no row", "--measures clap"),
    ranks("no results", "r.json", "{}", "holds no rows"),
    Bad("no results file", "rank {d}/r.json", "r.json does not exist: give"),
    Bad("scores of unknown ids", EVALUATE, "p[01]", {"p.csv": TWO, "s.json": '{"q": {"a": 1, "b": 2}}'}),
    Bad("a score is missing", EVALUATE, "p0", {"p.csv": TWO, "s.json": '{"p1": {"a": 1, "b": 2}}'}),
    Bad("a score is a word", EVALUATE, "a of p0 is 'good'", {"p.csv": TWO, "s.json": SCORES.replace("1", '"good"', 1)}),
    Bad("a pair without its row", EVALUATE + " --against a=c", r"\bc\b", {"p.csv": TWO, "s.json": SCORES}),
    Bad("one resample", EVALUATE + " --resamples 1", "--resamples: 1 is not possible: give 2 or more"),
    Bad("no name", "evaluate --out {d}/out --prompts x --scores s.json", "'s.json' is not NAME=VALUE"),
    Bad("nothing to evaluate", "evaluate --out {d}/out --prompts {d}/p.csv", "give folders of audio", {"p.csv": TWO}),
    Bad("a row twice", "evaluate --out {d}/out --prompts x --system a=x --system a=y", "a is given twice"),
    Bad("no such folder", "evaluate {d}/none --prompts {d}/p.csv --out {d}/out", "none", {"p.csv": TWO}),
    Bad("a folder without the clips", "evaluate {d}/a {d}/b --prompts {d}/p.csv --out {d}/out", "no clip in .*p0",
        {"p.csv": TWO, "a/x.wav": b"RIFF", "b/x.wav": b"RIFF"}),
    # votes
    votes("no winner", "a,b\n0.wav,1.wav\n", "line 1: the column winner is missing"),
    votes("left", VOTES + "0.wav,1.wav,left\n", "line 2: winner is 'left': write a, b or tie"),
    votes("one clip", VOTES + "0.wav,./0.wav,a\n", "line 2: a and b are one clip"),
    votes("none", VOTES, "holds no votes"),
    Bad("votes without their clips", "votes --table {d}/v.csv --out {d}/out --clap small_world.SmallClap --text false",
        "0.wav", {"v.csv": VOTES + "0.wav,1.wav,a\n"}),
    Bad("no votes of listeners", "winrate {d}/v.csv", "no votes at .*v.csv: give the CSV"),
    # generate
    Bad("no prompts", "generate --model {d}/none", "give prompts, either as arguments"),
    Bad("prompts twice", "generate tune --prompts x --model {d}/none", "give prompts, either"),
    Bad("the best of none", "generate tune --model x --best-of 0", "--best-of: 0 is not possible: give 1 or more"),
    Bad("no such model", "generate tune --model {d}/none --out {d}/out", "none does not exist: give what"),
    Bad("a folder without a model", "generate tune --model {d} --out {d}/out", "holds no model.yaml"),
    Bad("no steps", "generate tune --model x --steps 0", "--steps: 0 is not possible: give 1 or more"),
    Bad("steps in words", "generate tune --model x --steps ten", "--steps: 'ten' is no whole number"),
    Bad("no number", "generate tune --model x --cfg nan", "--cfg: nan is not possible: give a finite number"),
    Bad("no such device", "generate tune --model x --device tpu9", "--device tpu9 cannot be used"),
    Bad("a file in the place of the folder", "generate tune --model x --out {d}/out.txt", "out.txt is a file: choose",
        {"out.txt": "mine"}),
    Bad("no such format", "generate tune --model x --format mp3", "--format: invalid choice: 'mp3'"),
    Bad("a head for a folder", "generate tune --model {w}/bundle --head InputAdd", "--head is about a published file"),
    model("a page", "f.pth", PAGE, "is a web page"),
    model("a pointer", "f.pth", LFS, "is a Git LFS pointer to a file of 480,927,044 bytes"),
    model("nothing", "f.pth", b"", r"as FluxAudio checkpoint \(it is an empty file\): fetch"),
    model("cut short", "f.pth", b"PK\x03\x04" + bytes(60), "cut short"),
    model("a picture", "f.safetensors", PNG, "is a PNG image"),
    Bad("a model.yaml that is none", "generate tune --model {d}", "model.yaml is no bundle recipe",
        {"model.yaml": "a: ["}),
    Bad("a recipe without weights", "generate tune --model {d}", "says no text_dim, text_c_dim, latent_dim",
        {"model.yaml": "backbone: {class_path: fluxlight.backbone.FluxAudio}\nhead: null\nhash: {raw: x}\n"}),
    Bad("a recipe with a stranger's code", "generate tune --model {d}", "os.system, which is not part of fluxlight",
        {"model.yaml": "backbone: {class_path: os.system}\nhead: null\nhash: {raw: x}\n"}),
    # export
    Bad("export nothing", "export {d}/none --out {d}/out", "none does not exist: give what"),
    Bad("export to a file", "export {w}/bundle --out {d}/f", "--out .*f is a file: choose a folder", {"f": "mine"}),
    Bad("export to itself", "export {w}/bundle --out {w}/bundle", "is the bundle itself"),
    Bad("export over a README", "export {w}/bundle --out {d}", "holds a README.md that is not as an export wrote it",
        {"README.md": "# my notes"}),
    Bad("export over a thesis", "export {w}/bundle --out {d}", "holds thesis.tex", {"thesis.tex": "years"}),
    Bad("export over weights", "export {w}/bundle --out {d}", "holds weights.safetensors, which no export wrote",
        {"weights.safetensors": b"mine"}),
    Bad("no pipeline", "export {w}/bundle --out {d}/out --pipeline {d}/p.yaml", "p.yaml does not exist: give a YAML"),
    Bad("a pipeline that is none", "export {w}/bundle --out {d}/out --pipeline {d}/p.yaml", "not valid YAML",
        {"p.yaml": "a: ["}),
    Bad("a pipeline of unknown keys", "export {w}/bundle --out {d}/out --pipeline {d}/p.yaml", "has unknown vocoder",
        {"p.yaml": "vocoder: x"}),
    # weights
    Bad("no such file to fetch", "weights --folder {d}/w --fetch v1-45.pth", "no published file is called 'v1-45.pth'"),
    Bad("a config that is none", "weights --config {d}/c.yaml", "c.yaml line [12] is no valid YAML",
        {"c.yaml": "a: ["}),
    Bad("no such config", "weights --config {d}/c.yaml", "c.yaml does not exist: give a YAML file"),
    # fit
    start("a page", "x.pth", PAGE, "it is a web page .*: fetch it again"),
    start("a pointer", "x.pth", LFS, "is a Git LFS pointer"),
    Bad("fit from nothing", f"{FIT} --model.init_from {{d}}/none", "none is no bundle"),
    Bad("fit a head that is none", f"{FIT} --model.head NoHead", "no class NoHead: give a class path, or a name among"),
    Bad("fit an unknown setting", f"{FIT} --model.backbone.dept 4", "model.backbone: .*dept"),
    Bad("fit no probability", f"{FIT} --model.text_drop 3", "text_drop is 3.0: it is a probability"),
    Bad("fit no store", f"{FIT} --data.store {{d}}/none", "none does not exist: .*encode"),
    Bad("fit no config", "fit --config {d}/none.yaml", "none.yaml"),
    Bad("fit a config that is none", "fit --config {d}/c.yaml", "c.yaml.*line [12].*no valid YAML",
        {"c.yaml": "model: ["}),
    Bad("fit a key twice", "fit --config {d}/c.yaml", "seed stands twice", {"c.yaml": "seed: 1\nseed: 2\n"}),
    Bad("fit on from nothing", f"{FIT} --ckpt_path {{d}}/none.ckpt", "none.ckpt does not exist: leave it out"),
    # encode, select, score, post-process, and the rest
    Bad("encode no captions", f"{ENCODE} --source.captions {{d}}/c.tsv", "c.tsv does not exist"),
    Bad("encode empty captions", f"{ENCODE} --source.captions {{d}}/c.tsv", "holds no", {"c.tsv": ""}),
    Bad("encode Latin-1", f"{ENCODE} --source.captions {{d}}/c.tsv", "c.tsv line 1: byte 0xe9 is not UTF-8",
        {"c.tsv": "a\tcafé\n".encode("latin-1")}),
    Bad("encode an unknown source", "encode --out {d}/out --source NoSource", "NoSource"),
    Bad("encode nowhere", "encode --split slice", "required: out"),
    Bad("select without scores", "select pairs --candidates {d} --slice {d}",
        "scores.jsonl is missing: run `fluxlight score"),
    Bad("select from a broken line", "select pairs --candidates {d} --slice {w}/slice",
        "scores.jsonl line 1 is not valid JSON", {"scores.jsonl": "{\n{}\n"}),
    Bad("post-process nothing", "postprocess {d}/none {d}/out --passes 0", "none"),
    Bad("post-process text", "postprocess {d}/in {d}/out --passes 0", "failed: a.wav: ", {"in/a.wav": "text"}, 1),
    Bad("do nothing", "postprocess {d}/in {d}/out --passes 0 --no-loudness", "nothing to do", {"in/a.wav": "text"}),
    Bad("submit nothing", "submit {d} --prompts {d}/p.csv --out {d}/out.zip", "p0", {"p.csv": TWO}, 1),
    Bad("no zip", "submit --check {d}/s.zip", "s.zip is no zip file", {"s.zip": PAGE}),
    Bad("count no config", "params --config {d}/none.yaml", "none.yaml does not exist: give a YAML file"),
    Bad("a corpus of nothing", "corpus", "no clips asked for: give a size"),
    Bad("a corpus below nothing", "corpus --train -3", "--train: -3 is not possible: give 0 or more"),
    Bad("no such damage", "error-rates --damage rust --out {d}/out", "--damage: invalid choice: 'rust'"),
    Bad("listen to one", "listen a={d} a={d} --prompts {d}/p.csv --out {d}/out", "both systems are named a",
        {"p.csv": TWO}),
]  # fmt: skip
