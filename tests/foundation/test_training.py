"""The training loop: the same weights however often it is stopped, on however many processes."""

import csv
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.training import (
    DivergedError,
    TrainConfig,
    count_parameters,
    fit,
    step_seconds,
)

CONFIG = TrainConfig(steps=12, learning_rate=0.05, warmup=2, save_every=3, weight_decay=0.1)


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1)).double()


def batches(index: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(index)
    x = torch.randn(6, 4, generator=generator, dtype=torch.double)
    return x, x.sum(1, keepdim=True)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Mapping[str, float]]:
    error = (model(batch[0]) - batch[1]).square().mean()
    return error, {"root": math.sqrt(float(error.detach()))}


def weights(model: nn.Module) -> list[float]:
    return [float(value) for p in model.parameters() for value in p.detach().flatten()]


def trained(config: TrainConfig = CONFIG, **options: Any) -> list[float]:
    one = model()
    fit(one, loss, batches, config, **options)
    return weights(one)


def test_one_step_is_adamw_by_hand() -> None:
    one, two = model(), model()
    config = replace(CONFIG, steps=1, warmup=0, schedule="constant", clip=None)
    fit(one.eval(), lambda m, b: loss(m.eval(), b), batches, config)
    x, y = batches(0)
    two.eval()
    (two(x) - y).square().mean().backward()
    for p in two.parameters():
        assert p.grad is not None
        decay = 0.1 if p.ndim >= 2 else 0.0
        with torch.no_grad():
            # After one step Adam's moments are the gradient and its square.
            p -= 0.05 * decay * p + 0.05 * p.grad / (p.grad.abs() + 1e-8)
    assert torch.allclose(torch.tensor(weights(one)), torch.tensor(weights(two)), atol=1e-9)


def test_schedules() -> None:
    def rates(schedule: str) -> list[float]:
        config = replace(CONFIG, schedule=schedule, steps=10, warmup=4, learning_rate=1.0)
        return [round(config.learning_rate_at(step), 4) for step in (0, 3, 4, 7, 9)]

    assert rates("constant") == [0.25, 1, 1, 1, 1]
    assert rates("linear") == [0.25, 1, 1, 0.5, 0.1667]
    assert rates("cosine") == [0.25, 1, 1, 0.5, 0.067]
    # Long Range Arena's: linear warm-up, then the reciprocal root of the step.
    assert rates("rsqrt") == [0.125, 0.5, 0.5, 0.378, 0.3333]


def test_a_run_is_the_same_bit_for_bit_and_leaves_the_generator_alone() -> None:
    first = trained()
    one = model()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(one, loss, batches, CONFIG)
    assert torch.equal(torch.get_rng_state(), before)
    assert weights(one) == first
    assert trained(replace(CONFIG, seed=1)) != first


def test_accumulated_batches_equal_one_large_batch() -> None:
    def large(index: int) -> tuple[Tensor, Tensor]:
        parts = [batches(2 * index + i) for i in range(2)]
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])

    # Dropout would draw differently for one batch than for two.
    one, two = model()[2:], model()[2:]
    config = replace(CONFIG, accumulate=2)
    pick = lambda m, b: (m(b[0].repeat(1, 2)) - b[1]).square().mean()  # noqa: E731
    fit(one, pick, batches, config)
    fit(two, pick, large, CONFIG)
    assert torch.allclose(torch.tensor(weights(one)), torch.tensor(weights(two)), atol=1e-12)


class StopError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 3, 4, 11])
def test_a_stopped_run_goes_on_to_the_same_weights(stop_at: int, tmp_path: Path) -> None:
    class Memory:
        total = 0.0

        def state_dict(self) -> dict[str, Any]:
            return {"total": self.total}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.total = state["total"]

    def carry(memory: Memory, stop: int | None) -> Any:
        def after(model: nn.Module, step: int) -> None:
            memory.total += 0.001 * weights(model)[0]
            with torch.no_grad():
                next(model.parameters()).add_(memory.total)
            if step == stop:
                raise StopError

        return after

    memory = Memory()
    whole = trained(state=memory, after_update=carry(memory, None), folder=tmp_path / "whole")
    memory = Memory()
    with pytest.raises(StopError):
        trained(state=memory, after_update=carry(memory, stop_at), folder=tmp_path / "cut")
    memory = Memory()
    one = model(seed=9)
    history = fit(
        one, loss, batches, CONFIG,
        state=memory, after_update=carry(memory, None), folder=tmp_path / "cut",
    )  # fmt: skip
    if stop_at < 3:
        # Nothing was saved: this is another model, trained from its own start.
        assert history.resumed_from == 0
        return
    assert weights(one) == whole
    assert history.resumed_from == stop_at // 3 * 3
    logs = [list(csv.DictReader((tmp_path / n / "log.csv").open())) for n in ("whole", "cut")]
    values = [[(row["step"], row["loss"], row["root"]) for row in log] for log in logs]
    assert values[0] == values[1]
    assert [int(row["step"]) for row in logs[0]] == list(range(1, 13))
    assert len(history.log) == 12


KILLED = """
import os, random, signal, sys, time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import test_training as here
import torch

torch.set_num_threads(1)
root = Path(sys.argv[1])
config = replace(here.CONFIG, steps=80, save_every=1)


def start(name):
    child = os.fork()
    if child == 0:
        model = here.model()
        here.fit(model, here.loss, here.batches, config, folder=root / name)
        (root / f"{name}.txt").write_text(str(here.weights(model)))
        os._exit(0)
    return child


os.waitpid(start("whole"), 0)
draw = random.Random(0)
log = root / "cut" / "log.csv"
kills = 0
while kills < 10:
    rows = log.read_bytes().count(b"\\n") if log.exists() else 0
    child = start("cut")
    target = rows + draw.randint(1, 6)
    while not log.exists() or log.read_bytes().count(b"\\n") < target:
        time.sleep(0.001)
    # Saving follows every step and takes most of the time: most moments are moments of a save.
    time.sleep(draw.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    kills += os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
print("kills", kills)
os.waitpid(start("cut"), 0)
"""


def test_killed_ten_times_also_while_saving_a_run_ends_with_the_same_weights(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "kills 10" in done.stdout
    assert (tmp_path / "cut.txt").read_text() == (tmp_path / "whole.txt").read_text()
    assert len(list((tmp_path / "cut" / "training_state").glob("step-?*[0-9]"))) == 2


def test_an_interrupt_finishes_the_step_and_saves(tmp_path: Path) -> None:
    def interrupt(model: nn.Module, step: int) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trained(folder=tmp_path, after_update=interrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    one = model()
    history = fit(one, loss, batches, CONFIG, folder=tmp_path)
    assert history.resumed_from == 5
    assert weights(one) == trained()


def test_patience_ends_a_run_with_its_best_weights(tmp_path: Path) -> None:
    scores = {2: 0.1, 4: 0.7, 6: 0.5, 8: 0.6, 10: 0.9}
    seen: dict[int, list[float]] = {}
    steps = iter(scores)

    def evaluate(model: nn.Module) -> dict[str, float]:
        step = next(steps)
        seen[step] = weights(model)
        return {"accuracy": scores[step]}

    one = model()
    config = replace(CONFIG, evaluate_every=2, patience=2)
    history = fit(one, loss, batches, config, evaluate=evaluate, folder=tmp_path)
    assert [row["step"] for row in history.evaluations] == [2, 4, 6, 8]
    assert history.best_step == 4
    assert weights(one) == seen[4]
    text = (tmp_path / "evaluations.csv").read_text()
    assert text == "step,accuracy\n2,0.1\n4,0.7\n6,0.5\n8,0.6\n"
    # Asked for again, the run is over and its best weights are back.
    two = model()
    assert fit(two, loss, batches, config, folder=tmp_path).best_step == 4
    assert weights(two) == seen[4]


def test_seconds_become_steps_once(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=None, seconds=0.2)
    history = fit(model(), loss, batches, config, folder=tmp_path)
    steps = history.config.steps
    assert steps is not None
    assert len(history.log) == steps
    again = fit(model(), loss, batches, config, folder=tmp_path)
    assert again.config.steps == steps
    assert again.resumed_from == steps


def test_timing_steps_changes_nothing() -> None:
    one = model()
    before = weights(one)
    assert step_seconds(one, loss, batches, CONFIG, repeats=2) > 0
    assert weights(one) == before


def test_gradients_can_be_changed_before_they_are_clipped() -> None:
    def double(model: nn.Module, step: int) -> None:
        for p in model.parameters():
            assert p.grad is not None
            p.grad *= 2

    plain, doubled = (
        fit(model(), loss, batches, replace(CONFIG, steps=1), before_update=hook)
        for hook in (None, double)
    )
    ratio = doubled.log[0]["gradient_norm"] / plain.log[0]["gradient_norm"]
    assert ratio == pytest.approx(2)


def test_gradients_are_clipped_by_the_norm_that_is_given() -> None:
    def doubled(model: nn.Module) -> Tensor:
        return 2 * nn.utils.get_total_norm(
            [p.grad for p in model.parameters() if p.grad is not None]
        )

    seen: list[float] = []

    def remember(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        # The first moment, a tenth of the gradient that was used.
        state = [optimizer.state[p]["exp_avg"] for p in model.parameters()]
        seen.append(10 * float(nn.utils.get_total_norm(state)))

    config = replace(CONFIG, steps=1, clip=0.01)
    histories = [
        fit(model(), loss, batches, config, gradient_norm=norm, before_save=remember)
        for norm in (None, doubled)
    ]
    norms = [history.log[0]["gradient_norm"] for history in histories]
    assert norms[1] == pytest.approx(2 * norms[0])
    assert seen == pytest.approx([0.01, 0.005], rel=1e-3)


def test_what_is_saved_is_completed_before(tmp_path: Path) -> None:
    told: list[int] = []

    def complete(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        told.append(int(optimizer.state[next(model.parameters())]["step"]))
        with torch.no_grad():
            next(model.parameters()).fill_(float(told[-1]))

    one = model()
    fit(one, loss, batches, replace(CONFIG, steps=7), before_save=complete, folder=tmp_path)
    assert told == [3, 6, 7]
    assert weights(one)[0] == 7
    (tmp_path / "training_state" / "latest").write_text("step-6\n")
    two = model()
    fit(two, loss, batches, replace(CONFIG, steps=7), folder=tmp_path)
    # From the completed weights, by one more step.
    assert abs(weights(two)[0] - 6) < 0.2


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    trained(folder=tmp_path)
    with pytest.raises(InputError, match=r"settings.json: the run has learning_rate 0.05, asked"):
        trained(replace(CONFIG, learning_rate=0.1), folder=tmp_path)
    threads = torch.get_num_threads()
    with pytest.raises(InputError, match="expected the same number to go on with it"):
        trained(replace(CONFIG, threads=threads + 1), folder=tmp_path)
    assert torch.get_num_threads() == threads
    (tmp_path / "training_state" / "settings.json").write_text("{}")
    with pytest.raises(InputError, match=r"settings\.json: not the settings of a run"):
        trained(folder=tmp_path)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    trained(folder=tmp_path)
    path = tmp_path / "training_state" / "step-12" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"step-12/tensors.safetensors: cut off or changed"):
        trained(folder=tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    def broken(model: nn.Module, batch: Any) -> Tensor:
        return loss(model, batch)[0] * math.inf

    with pytest.raises(DivergedError, match="the loss at step 1 is inf; try a smaller"):
        fit(model(), broken, batches, CONFIG)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": None}, "expected exactly one of steps and seconds"),
        ({"seconds": 1.0}, "expected exactly one of steps and seconds"),
        ({"steps": 0}, "steps 0: expected a number above 0"),
        ({"learning_rate": math.nan}, "learning_rate nan: expected a number above 0"),
        ({"warmup": -1}, "warmup -1: expected at least 0"),
        ({"patience": 2}, "patience: expected together with evaluate_every"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **fields)


DISTRIBUTED = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import test_training as here
from dataclasses import replace
from lightning_fabric import Fabric
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
model = here.model()[2:]
seen = []
def batches(index):
    seen.append(index)
    return here.batches(index)
loss = lambda m, b: (m(b[0].repeat(1, 2)) - b[1]).square().mean()
here.fit(model, loss, batches, replace(here.CONFIG, steps=3), fabric=fabric)
assert seen == [fabric.global_rank + 2 * step for step in range(3)], seen
if fabric.global_rank == 0:
    print("weights", here.weights(model))
"""


def test_two_processes_read_different_batches_and_equal_one_that_reads_both(
    tmp_path: Path,
) -> None:
    script = tmp_path / "train.py"
    script.write_text(DISTRIBUTED)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(script), str(Path(__file__).parent)],
        capture_output=True, text=True, env=environment, timeout=100,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("weights ")]
    assert lines, done.stderr
    theirs = torch.tensor([float(value) for value in lines[0][9:-1].split(",")]).double()
    one = model()[2:]
    pick = lambda m, b: (m(b[0].repeat(1, 2)) - b[1]).square().mean()  # noqa: E731
    fit(one, pick, batches, replace(CONFIG, steps=3, accumulate=2))
    assert torch.allclose(theirs, torch.tensor(weights(one)).double(), atol=1e-12)


def test_parameters_are_counted() -> None:
    one = model()
    one[0].requires_grad_(False)
    assert count_parameters(one) == 9


def test_columns_stay_under_their_names_when_the_loss_names_others(tmp_path: Path) -> None:
    names = iter([{"a": 1.0}, {"b": 2.0}, {"b": 3.0, "x,y": 4.0}])

    def varying(model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, float]]:
        return loss(model, batch)[0], next(names)

    fit(model(), varying, batches, replace(CONFIG, steps=3), folder=tmp_path)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [(row["a"], row["b"], row["x,y"]) for row in rows] == [
        ("1.0", "", ""), ("", "2.0", ""), ("", "3.0", "4.0"),
    ]  # fmt: skip


def test_names_of_the_loops_own_columns_are_refused() -> None:
    with pytest.raises(InputError, match="the name 'step' of a number to log is the loop's own"):
        fit(model(), lambda m, b: (loss(m, b)[0], {"step": 7.0}), batches, CONFIG)


def test_a_model_without_parameters_to_train_is_refused() -> None:
    with pytest.raises(InputError, match="expected parameters that training may change"):
        fit(model().requires_grad_(False), loss, batches, CONFIG)


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    trained(folder=tmp_path)
    other = nn.Linear(4, 1).double()
    with pytest.raises(InputError, match="training_state: the state of another run"):
        fit(other, loss, batches, CONFIG, folder=tmp_path)


STOPPED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import test_training as here
from pathlib import Path
from lightning_fabric import Fabric
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
def interrupt(model, step):
    # Only one of the two processes is told.
    if step == 4 and fabric.global_rank == 0:
        os.kill(os.getpid(), signal.SIGINT)
try:
    here.fit(here.model(), here.loss, here.batches, here.CONFIG, fabric=fabric,
             folder=Path(sys.argv[2]), after_update=interrupt)
except KeyboardInterrupt:
    Path(sys.argv[2] + f"-stopped-{fabric.global_rank}").touch()
"""


def test_an_interrupt_of_one_process_ends_all_at_the_same_step(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(STOPPED)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path / "run")],
        capture_output=True, text=True, env=environment, timeout=100,
    )  # fmt: skip
    stopped = sorted(path.name for path in tmp_path.glob("run-stopped-*"))
    assert stopped == ["run-stopped-0", "run-stopped-1"], done.stderr
    assert (tmp_path / "run" / "training_state" / "latest").read_text() == "step-5\n"
