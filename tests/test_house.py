"""The frame holds: imports run one way, help is quick, README and CI say the same, nothing heavy hides in the core."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEST_COMMAND = "pip install -e '.[embedded,dev]' && pytest"
MAIN_COMMAND = "pip install -e '.[embedded]' && python -m experiments.chain"


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_imports_run_from_experiments_to_callbacks_to_library():
    library = [p for p in (ROOT / "fluxlight").rglob("*.py") if p.name != "cli.py"]
    wrong = [p for p in library if imported(p) & {"callbacks", "experiments"}]
    wrong += [p for p in (ROOT / "callbacks").rglob("*.py") if "experiments" in imported(p)]
    assert not wrong, f"imports against experiments -> callbacks -> fluxlight: {wrong}"


def test_files_are_short():
    files = [p for folder in ("fluxlight", "callbacks", "experiments", "tests") for p in (ROOT / folder).rglob("*.py")]
    lines = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in files}
    long = {name: n for name, n in lines.items() if n > 300}
    assert not long, f"files above 300 lines: {long}"


CORE = ("backbone", "heads", "stages", "metrics", "data", "codec", "encoders", "rewards")


@pytest.mark.parametrize("module", ["callbacks", *(f"fluxlight.{name}" for name in CORE)])
def test_core_imports_need_no_optional_package(module: str):
    code = (
        "import sys\n"
        f"import {module}\n"
        "heavy = {'laion_clap', 'demucs', 'wandb', 'transformers', 'music21', 'sentence_transformers'}\n"
        "heavy &= set(sys.modules)\n"
        # lightning itself imports transformers (through torchmetrics) where it is installed
        "heavy -= {'transformers'} if 'lightning' in sys.modules else set()\n"
        "assert not heavy, heavy\n"
    )
    # an import hook would hide what lightning itself looks up, so only modules really loaded count
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


def test_readme_and_ci_give_the_same_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert TEST_COMMAND in readme and TEST_COMMAND in ci
    assert MAIN_COMMAND in readme


def test_the_readme_map_names_folders_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.split("## Map of the folders", 1)[1].split("```")[1]
    paths = {line.split()[0].rstrip("/") for line in block.splitlines() if line.strip()}
    missing = [p for p in paths if not (ROOT / p).exists()]
    assert paths and not missing, f"the README's map names what is not there: {missing}"
    rooms = {f"fluxlight/{p.parent.name}" for p in (ROOT / "fluxlight").glob("*/__init__.py")}
    assert not rooms - paths, f"the README's map lacks {sorted(rooms - paths)}"
    assert not loose_modules() - paths, f"the README's map lacks {sorted(loose_modules() - paths)}"


def loose_modules() -> set[str]:
    return {f"fluxlight/{p.name}" for p in (ROOT / "fluxlight").glob("*.py") if not p.name.startswith("__")}


def test_few_modules_lie_loose_and_the_readme_is_short():
    assert len(loose_modules()) <= 12
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def imports_of_rooms() -> dict[str, set[str]]:
    """Room -> rooms it imports from anywhere in its files, functions included; a loose module is a room of its own."""
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
               for top in ("fluxlight", "callbacks", "experiments") for p in (ROOT / top).rglob("*.py")}  # fmt: skip

    def room(name: str) -> str:
        while name not in modules:
            name = name.rpartition(".")[0]
        return ".".join(name.split(".")[: 1 if name.startswith("callbacks") else 2])

    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = graph.setdefault(room(name), set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {room(n) for n in names if n.split(".")[0] in ("fluxlight", "callbacks", "experiments")}
        found.discard(room(name))
    return graph


def test_no_import_goes_in_a_circle():
    """Rooms can be put on floors, each importing from lower ones alone: that is also why no import runs upward."""
    graph = imports_of_rooms()
    while free := {room for room, needs in graph.items() if not needs & graph.keys()}:
        graph = {room: needs for room, needs in graph.items() if room not in free}
    # what only stands above a circle is not part of it
    while above := graph.keys() - set().union(*graph.values()):
        graph = {room: needs for room, needs in graph.items() if room not in above}
    assert not graph, f"imports in a circle among {sorted(graph)}"


def test_shipped_weights_are_small_safetensors():
    weights = list((ROOT / "fluxlight/embedded").rglob("*.safetensors"))
    total = sum(p.stat().st_size for p in weights)
    assert weights and total <= 24 * 2**20, f"{total / 2**20:.1f} MiB of shipped weights"


def test_the_readme_head_is_a_head(tmp_path: Path):
    """The fifteen lines work as they stand: the output moves with the score, and not without one."""
    import torch

    from fluxlight.backbone import FluxAudio
    from fluxlight.model import FluxModel
    from fluxlight.types import Condition

    readme = (ROOT / "fluxlight/heads/README.md").read_text(encoding="utf-8")
    code = readme.split("```python", 1)[1].split("```", 1)[0]
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own README
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    backbone = FluxAudio(
        latent_dim=4,
        text_dim=6,
        text_c_dim=5,
        hidden_dim=32,
        depth=2,
        fused_depth=1,
        num_heads=2,
        latent_seq_len=8,
        text_seq_len=3,
        ffn_multiple=32,
    )
    model = FluxModel(backbone, names["MyHead"]).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    x = torch.randn(2, 8, 4, generator=generator)
    condition = Condition(torch.randn(2, 3, 6, generator=generator), torch.randn(2, 5, generator=generator))
    with torch.no_grad():
        low, high, none = (model.velocity(x, 0.5, condition, s) for s in (torch.zeros(2), torch.ones(2), None))
    assert not torch.allclose(low, high) and not torch.allclose(high, none)


def test_no_test_is_imported_by_another():
    found = {path.name: re.findall(r"^\s*(?:from|import) test_\w+", path.read_text(), re.M) for path in
             (ROOT / "tests").glob("*.py")}  # fmt: skip
    assert not {name: lines for name, lines in found.items() if lines}
