"""A run folder from the command line: what stops early goes on, what is finished stays, what cannot end is refused."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from small_world import SmallCodec, make_data, make_stage, make_trainer, make_world

from callbacks import CandidateWriter
from fluxlight.cli import main
from fluxlight.cli.output import Steady, quiet
from fluxlight.data import Candidates
from fluxlight.files import atomic_path, claim, read_jsonl
from fluxlight.stages.seal import whole

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def fit(tmp_path: Path) -> list[str]:
    """The words of a fit of eight updates into ``tmp_path/run``."""
    words = ["fit", "--config", str(ROOT / "configs/stages/score_cond_sft.yaml"), "--config", str(make_world(tmp_path))]
    return [*words, "--trainer.default_root_dir", str(tmp_path / "run")]


def files(run: Path) -> dict[str, bytes]:
    """What a run leaves, by name."""
    found = [run / "last.ckpt", *(run / "bundle").iterdir(), *(run / "slice").rglob("*.*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def test_a_finished_run_is_replaced_by_nothing(
    tmp_path: Path, fit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(fit) == 0
    before = files(run)
    capsys.readouterr()
    assert main(fit) == 2
    said = capsys.readouterr().err
    assert "holds the bundle and last.ckpt of another run" in said and "go on with --ckpt_path last" in said
    assert main([*fit, "--trainer.fast_dev_run", "true"]) == 0
    assert f"what it makes lies in {run / 'fast_dev_run'}" in capsys.readouterr().err
    assert (run / "fast_dev_run/bundle").is_dir()
    validate = ["validate", *fit[1:]]
    assert main([*validate, "--seed_everything", "3"]) == 2
    assert "is of a fit and these are other weights" in capsys.readouterr().err
    assert main([*validate, "--model.init_from", str(run / "bundle")]) == 0
    assert {k: v for k, v in files(run).items() if not k.startswith("slice")} == {
        k: v for k, v in before.items() if not k.startswith("slice")
    }
    assert not (run / "config-2.yaml").exists()


def test_a_refused_fit_leaves_no_configuration(tmp_path: Path, fit: list[str]) -> None:
    """What config-2.yaml says was trained."""
    assert main(fit) == 0
    assert main([*fit, "--ckpt_path", "last", "--plan.sft.updates", "12", "--model.head", "InputAdd"]) == 2
    assert not (tmp_path / "run/config-2.yaml").exists()


@pytest.mark.parametrize(
    "more",
    [
        ["--trainer.limit_train_batches", "3", "--plan.sft.epoch", "4"],
        ["--trainer.check_val_every_n_epoch", "3"],
        ["--trainer.val_check_interval", "0.5"],
        ["--trainer.max_epochs", "3", "--trainer.max_steps", "-1"],
        ["--trainer.max_epochs", "3"],
    ],
)
def test_the_last_update_is_rendered_and_bundled(tmp_path: Path, fit: list[str], more: list[str]) -> None:
    assert main([*fit, *more]) == 0
    last = int(torch.load(tmp_path / "run/last.ckpt", weights_only=True)["global_step"])
    assert last == (6 if "--trainer.max_epochs" in more else 8)
    rows = read_jsonl(tmp_path / "run/slice/candidates.jsonl")
    assert len(rows) == 7 and {row["extra"]["step"] for row in rows} == {last}
    assert f"update: {last}\n" in (tmp_path / "run/bundle/model.yaml").read_text()


def test_a_longer_run_renders_its_own_end(tmp_path: Path, fit: list[str]) -> None:
    assert main(fit) == 0
    assert main([*fit, "--ckpt_path", "last", "--plan.sft.updates", "24", "--plan.sft.epoch", "12"]) == 0
    assert {r["extra"]["step"] for r in read_jsonl(tmp_path / "run/slice/candidates.jsonl")} == {24}


def test_a_run_whose_time_is_up_says_so_and_goes_on(
    tmp_path: Path, fit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    timed = [*fit, "--plan.sft.updates", "20000", "--trainer.max_time", "00:00:00:01", "--ckpt_path", "last"]
    done = []
    for _ in range(2):
        assert main(timed) == 0
        lines = capsys.readouterr().err
        found = re.search(r"stopped after (\d+) of 20000 updates, without a bundle: .*last.ckpt goes on", lines)
        assert found, lines
        done.append(int(found[1]))
        assert int(torch.load(tmp_path / "run/last.ckpt", weights_only=True)["global_step"]) == done[-1]
    assert 0 < done[0] < done[1] and not (tmp_path / "run/bundle").exists()
    end = re.search(r"goes on with --ckpt_path last; with (.*) it ends here", lines)
    assert end and main([*timed, *end[1].split()]) == 0
    assert f"update: {done[1]}\n" in (tmp_path / "run/bundle/model.yaml").read_text()
    assert {r["extra"]["step"] for r in read_jsonl(tmp_path / "run/slice/candidates.jsonl")} == {done[1]}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--trainer.precision", "16-mixed"], "precision is 16-mixed, but this machine would train in bf16-mixed"),
        (["--trainer.precision", "bf16-true"], "precision is bf16-true, but models and data are float32"),
        (["--trainer.precision", "64"], "precision is 64-true, but models and data are float32"),
        (["--plan.sft.accumulate", "0"], "accumulate_grad_batches is 0"),
        (["--plan.sft.updates", "0"], "max_steps is 0: nothing would be trained"),
    ],
)
def test_what_could_not_train_as_configured_is_one_line(
    tmp_path: Path, fit: list[str], more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*fit, *more]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert says in line and not (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize("name", ["enable_progress_bar", "enable_checkpointing", "barebones"])
def test_a_run_can_do_without_bar_and_checkpoint(
    tmp_path: Path, fit: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*fit, f"--trainer.{name}", "true" if name == "barebones" else "false"]) == 0
    assert (tmp_path / "run/bundle").is_dir()
    assert (tmp_path / "run/last.ckpt").exists() == (name == "enable_progress_bar")
    assert ("update 8" in capsys.readouterr().err) == (name == "enable_checkpointing")


def test_one_flipped_bit_of_a_checkpoint_is_seen(
    tmp_path: Path, fit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(fit) == 0
    path = tmp_path / "run/last.ckpt"
    good = path.read_bytes()
    (tmp_path / "run/previous.ckpt").unlink()
    for place in (5, len(good) // 3, len(good) // 2, len(good) - 90, len(good) - 75, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bytes(bad))
        capsys.readouterr()
        assert main([*fit, "--ckpt_path", "last", "--plan.sft.updates", "12"]) == 2
        assert "last.ckpt cannot be read: it is damaged" in capsys.readouterr().err
    path.write_bytes(good)
    # one from before there were seals, and one that somebody wrote anew
    saved = torch.load(path, weights_only=True)
    torch.save(saved, path)
    assert whole(path)
    old = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as parts:
        largest = parts.read(max(parts.infolist(), key=lambda part: part.file_size))
    old[old.index(largest) + 40] ^= 1
    path.write_bytes(bytes(old))
    assert not whole(path)
    torch.save(saved, path)
    assert main([*fit, "--ckpt_path", "last", "--plan.sft.updates", "12"]) == 0


def test_what_a_killed_run_left_half_written_is_cleared(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "bundle").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), atomic_path(run / "bundle/weights.safetensors") as path:
        name = path.name
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), atomic_path(run / f"{'long' * 30}.wav") as path:
        long = path.name
        raise KeyboardInterrupt
    users = [".backup.20260101", ".env.template", ".notes.of.mine.txt"]
    ours = (run / "bundle" / name, run / long, run / ".last.ckpt.half-ab3_x9zz.ckpt")
    for left in (*ours, *(run / own for own in users)):
        left.write_bytes(b"half")
    trial = run / "trial"
    with claim(trial):
        (trial / ".last.ckpt.half-ab3_x9zz.ckpt").write_bytes(b"being written")
        claim(run).release()
        (trial / ".last.ckpt.half-ab3_x9zz.ckpt").unlink()
    assert sorted(p.name for p in run.rglob("*") if p.is_file() and p.name != ".lock") == users


def test_a_reader_that_goes_away_ends_no_training() -> None:
    reads, writes = os.pipe()
    stream = Steady(os.fdopen(writes, "w", buffering=1))
    assert stream.write("a line\n") == 7
    os.close(reads)
    for _ in range(3):
        assert stream.write("more\n") == 5
    stream.flush()
    assert Steady(io.StringIO()).isatty() is False


def test_what_was_asked_for_is_let_through(fit: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import logging
    import warnings

    quiet()
    assert logging.getLogger("lightning.pytorch.profilers.profiler").isEnabledFor(logging.INFO)
    assert not logging.getLogger("lightning.pytorch.utilities.rank_zero").isEnabledFor(logging.INFO)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("ignore")
        quiet()
        warnings.warn_explicit("Error detected in LogBackward0. Traceback ...", UserWarning, "x", 1, "torch.autograd")
        warnings.warn_explicit("something else", UserWarning, "x", 1, "torch.autograd")
    assert len(found) == (0 if sys.warnoptions else 1)


def test_sigterm_is_one_line_and_a_code_of_its_own(tmp_path: Path, fit: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}
    command = [sys.executable, "-m", "fluxlight", *fit, "--plan.sft.updates", "100000"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    for _ in range(1800):
        if (tmp_path / "run/last.ckpt").exists():
            break
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 143 and "stopped by SIGTERM; what was finished is kept" in said.splitlines()[-1]


def test_sigterm_ends_a_predict_behind_the_batch_it_is_at(tmp_path: Path) -> None:
    class Told(SmallCodec):
        calls = 0

        def decode(self, latent: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().decode(latent)

    def predict(run: str, codec: SmallCodec) -> list[dict[str, object]]:
        data = make_data(tmp_path, candidates=Candidates(prompts=6, per_prompt=1, batch_size=2))
        trainer = make_trainer(tmp_path / run, [CandidateWriter(codec)])
        try:
            trainer.predict(make_stage(), datamodule=data, return_predictions=False)
        except SIGTERMException:
            assert codec is told
        return read_jsonl(tmp_path / run / "candidates.jsonl")

    told = Told()
    whole = predict("whole", SmallCodec())
    assert predict("run", told) == whole[:4] and len(whole) == 6
    assert predict("run", SmallCodec()) == whole
