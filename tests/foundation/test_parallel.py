import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workingpapers.foundation import memory
from workingpapers.foundation.errors import InputError, MissingPackageError, TaskError
from workingpapers.foundation.parallel import Outcome, map_tasks, run_in_process

# Tasks run in other processes: what they share with a test is a folder.


@dataclass(frozen=True)
class Task:
    number: int
    folder: str = ""

    def mark(self, name: str) -> None:
        (Path(self.folder) / name).touch()

    def wait_for(self, name: str) -> None:
        wait_until(lambda: (Path(self.folder) / name).exists())


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def results(outcomes: list[Outcome]) -> list[Any]:
    return [outcome.result for outcome in outcomes]


def sleep_a_little(task: Task) -> int:
    time.sleep(random.Random(task.number).random() / 10)
    return task.number


def test_results_come_in_task_order_whatever_finishes_first() -> None:
    tasks = [Task(number) for number in range(8)]
    assert results(map_tasks(sleep_a_little, tasks, jobs=3)) == list(range(8))


def test_no_tasks_give_no_outcomes_and_more_jobs_than_tasks_are_fine() -> None:
    assert map_tasks(sleep_a_little, [], jobs=2) == []
    assert map_tasks(sleep_a_little, [], engine="ray") == []
    assert results(map_tasks(sleep_a_little, [Task(5)], jobs=16)) == [5]


def first_waits_for_second(task: Task) -> int:
    if task.number == 0:
        task.wait_for("second is stored")
    return task.number


def test_done_is_called_here_as_each_outcome_arrives(tmp_path: Path) -> None:
    stored: list[tuple[int, Any, int]] = []

    def done(index: int, outcome: Outcome) -> None:
        stored.append((index, outcome.result, os.getpid()))
        if index == 1:
            (tmp_path / "second is stored").touch()

    map_tasks(
        first_waits_for_second, [Task(0, str(tmp_path)), Task(1, str(tmp_path))], jobs=2, done=done
    )
    assert stored == [(1, 1, os.getpid()), (0, 0, os.getpid())]


def test_an_error_in_done_comes_out_and_stops_the_tasks() -> None:
    def full(index: int, outcome: Outcome) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        map_tasks(sleep_a_little, [Task(number) for number in range(4)], jobs=2, done=full)


def first_fails_while_second_runs(task: Task) -> int:
    task.mark(f"started {task.number}")
    if task.number == 0:
        task.wait_for("started 1")
        task.mark("failing")
        raise ValueError("no such column: x")
    if task.number == 1:
        task.wait_for("failing")
        time.sleep(0.5)
    return task.number


def test_after_an_exception_running_tasks_end_and_none_starts(tmp_path: Path) -> None:
    stored = []
    tasks = [Task(number, str(tmp_path)) for number in range(6)]
    with pytest.raises(TaskError) as caught:
        map_tasks(
            first_fails_while_second_runs,
            tasks,
            jobs=2,
            label="columns",
            done=lambda index, outcome: stored.append(index),
        )
    assert str(caught.value) == f"task 1 of 'columns' ({tasks[0]!r}): ValueError: no such column: x"
    assert caught.value.exit_code == 1
    assert stored == [1]
    assert sorted(path.name for path in tmp_path.glob("started*")) == ["started 0", "started 1"]
    assert "in first_fails_while_second_runs" in caught.value.__notes__[0]


def give_what_cannot_be_sent(task: Task) -> Any:
    return threading.Lock()


def leave(task: Task) -> None:
    sys.exit("gone")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (give_what_cannot_be_sent, "TypeError: cannot pickle '_thread.lock' object"),
        (leave, "SystemExit: gone"),
    ],
)
def test_every_way_to_fail_names_the_task(function: Any, message: str) -> None:
    with pytest.raises(TaskError) as caught:
        map_tasks(function, [Task(3)], jobs=1)
    assert str(caught.value) == f"task 1 (Task(number=3, folder='')): {message}"


def die_the_first_time(task: Task) -> int:
    if task.number == 2 and not (Path(task.folder) / "died").exists():
        task.mark("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number


def test_a_killed_workers_task_is_tried_once_more(tmp_path: Path) -> None:
    tasks = [Task(number, str(tmp_path)) for number in range(4)]
    assert results(map_tasks(die_the_first_time, tasks, jobs=2)) == [0, 1, 2, 3]
    assert (tmp_path / "died").exists()


def die_by_signal(task: Task) -> None:
    with (Path(task.folder) / "attempts").open("a") as file:
        file.write("x")
    os.kill(os.getpid(), task.number)


def die_by_exit(task: Task) -> None:
    os._exit(task.number)


def test_a_task_whose_worker_dies_twice_fails(tmp_path: Path) -> None:
    task = Task(signal.SIGKILL, str(tmp_path))
    with pytest.raises(TaskError) as caught:
        map_tasks(die_by_signal, [task], jobs=1, label="doom")
    cause = "its worker died twice (signal SIGKILL; out of memory?)"
    assert str(caught.value) == f"task 1 of 'doom' ({task!r}): {cause}"
    assert (tmp_path / "attempts").read_text() == "xx"
    with pytest.raises(TaskError, match=r": its worker died twice \(exit code 3\)$"):
        map_tasks(die_by_exit, [Task(3)], jobs=1)


def test_a_long_task_is_named_in_short() -> None:
    with pytest.raises(TaskError) as caught:
        map_tasks(leave, [Task(1, "x" * 10_000)], jobs=1)
    assert len(str(caught.value)) < 300


def map_in_a_task(task: Task) -> None:
    map_tasks(sleep_a_little, [task])


def run_in_a_task(task: Task) -> None:
    run_in_process(sleep_a_little, task)


@pytest.mark.parametrize(
    ("function", "name"), [(map_in_a_task, "map_tasks"), (run_in_a_task, "run_in_process")]
)
def test_a_task_opens_no_pool_of_its_own(function: Any, name: str) -> None:
    message = f"RuntimeError: {name} was called inside a task: a task runs on one core"
    with pytest.raises(TaskError, match=message):
        map_tasks(function, [Task(0)], jobs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": -1}, "--jobs -1: expected a number of workers, or 0 for one a core"),
        ({"engine": "threads"}, "--engine threads: expected local or ray"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    # Past the run-time check of types, as a value from the command line would come.
    with pytest.raises(InputError) as caught:
        getattr(map_tasks, "__wrapped__", map_tasks)(sleep_a_little, [Task(0)], **options)
    assert str(caught.value) == message


def test_without_ray_its_engine_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'workingpapers\[cluster\]'"):
        map_tasks(sleep_a_little, [Task(0)], engine="ray")


def count_threads(task: Task) -> tuple[int, list[int], str | None]:
    import threadpoolctl
    import torch

    torch.ones(300, 300) @ torch.ones(300, 300)
    np.linalg.svd(np.ones((50, 50)))
    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return torch.get_num_threads(), pools, os.environ.get("NUMBA_NUM_THREADS")


def test_a_worker_has_one_thread_and_this_process_keeps_its_environment() -> None:
    before = dict(os.environ)
    [outcome] = map_tasks(count_threads, [Task(0)], jobs=1)
    threads, pools, numba = outcome.result
    assert threads == 1
    assert pools
    assert set(pools) == {1}
    assert numba == "1"
    assert dict(os.environ) == before


def tell_signals(task: Task) -> tuple[bool, bool]:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return signal.SIGINT in blocked, signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_worker_is_deaf_to_ctrl_c_from_its_first_moment() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    [outcome] = map_tasks(tell_signals, [Task(0)], jobs=1)
    assert outcome.result == (True, True)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def tell_surroundings(task: Task) -> tuple[int, str, str | None]:
    return os.getpid(), os.getcwd(), os.environ.get("SURROUNDINGS")


def test_workers_are_used_again_unless_the_surroundings_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ask() -> tuple[int, str, str | None]:
        [outcome] = map_tasks(tell_surroundings, [Task(0)], jobs=1)
        return outcome.result

    first = ask()
    assert ask() == first
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SURROUNDINGS", "new")
    pid, folder, variable = ask()
    assert pid != first[0]
    assert (folder, variable) == (str(tmp_path), "new")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    assert ask()[0] != pid


def fill_memory(task: Task) -> tuple[int, float]:
    block = np.ones(task.number * 2**17)
    return os.getpid(), float(block[-1])


def test_peak_memory_is_each_tasks_own_also_in_a_used_worker() -> None:
    outcomes = map_tasks(fill_memory, [Task(100), Task(1), Task(60)], jobs=1)
    assert len({outcome.result[0] for outcome in outcomes}) == 1
    for outcome, size in zip(outcomes, (100, 1, 60), strict=True):
        assert outcome.peak_mb is not None
        assert size - 1 <= outcome.peak_mb <= size + 15


def test_peak_memory_is_none_where_it_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path, text: str) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", forbidden)
    assert memory.watch_memory() is None
    assert memory.peak_since(None) is None


def learn_a_little(task: Task) -> dict[str, Any]:
    """A bit of everything whose last bit could depend on threads, machine state or hashing."""
    import torch

    rng = np.random.default_rng(task.number)
    matrix = rng.normal(size=(120, 80))
    generator = torch.Generator().manual_seed(task.number)
    inputs = torch.randn(256, 40, generator=generator)
    weights = (torch.randn(40, 3, generator=generator) / 10).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.05)
    for _ in range(20):
        loss = torch.logsumexp(inputs @ weights, 1).mean() + (weights**2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    arrays = [
        matrix.T @ matrix,
        np.linalg.svd(matrix)[1],
        np.linalg.solve(matrix.T @ matrix, matrix.sum(0)),
        weights.detach().numpy(),
        (torch.randn(300, 500, generator=generator) @ torch.ones(500, 300)).numpy(),
    ]
    return {
        "digests": [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays],
        "set order": list({f"column {number}" for number in range(20)}),
        "threads": torch.get_num_threads(),
    }


@pytest.fixture
def home_of_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Ray for the length of a test, on this machine, with an empty home."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    if len(sys.executable.split()) > 1:
        pytest.skip("Ray cannot start from a path with blanks")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    yield tmp_path / "home"
    ray.shutdown()


def test_one_job_two_jobs_and_ray_agree_bit_for_bit(home_of_ray: Path, tmp_path: Path) -> None:
    tasks = [Task(number, str(tmp_path)) for number in range(4)]
    one = results(map_tasks(learn_a_little, tasks, jobs=1))
    assert len({result["digests"][0] for result in one}) == 4
    assert one[0]["threads"] == 1
    assert results(map_tasks(learn_a_little, tasks, jobs=2)) == one
    stored: dict[int, Any] = {}
    on_ray = map_tasks(
        learn_a_little,
        tasks,
        engine="ray",
        jobs=2,
        done=lambda index, outcome: stored.update({index: outcome.result}),
    )
    assert results(on_ray) == one
    assert stored == dict(enumerate(one))
    alone = map_tasks(learn_a_little, tasks[:2], engine="ray", jobs=2, alone=True)
    assert results(alone) == one[:2]

    assert results(map_tasks(die_the_first_time, tasks, engine="ray", jobs=2)) == [0, 1, 2, 3]
    assert (tmp_path / "died").exists()
    with pytest.raises(TaskError, match=r"^task 1 \(Task.*\): its worker died twice \("):
        map_tasks(die_by_signal, [Task(signal.SIGKILL, str(tmp_path))], engine="ray", jobs=2)
    assert (tmp_path / "attempts").read_text() == "xx"

    stored.clear()
    with pytest.raises(TaskError) as caught:
        map_tasks(
            first_fails_while_second_runs,
            tasks,
            engine="ray",
            jobs=2,
            label="columns",
            done=lambda index, outcome: stored.update({index: outcome.result}),
        )
    assert str(caught.value) == f"task 1 of 'columns' ({tasks[0]!r}): ValueError: no such column: x"
    assert stored == {1: 1}
    assert not (tmp_path / "started 2").exists()
    with pytest.raises(TaskError, match="RuntimeError: map_tasks was called inside a task"):
        map_tasks(map_in_a_task, [Task(0)], engine="ray", jobs=2)
    assert list(home_of_ray.iterdir()) == []


def test_a_ray_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    if len(sys.executable.split()) > 1:
        pytest.skip("Ray cannot start from a path with blanks")
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(InputError, match=r"^RAY_ADDRESS=nowhere: Invalid address format: nowhere$"):
        map_tasks(sleep_a_little, [Task(0)], engine="ray")


def add_up(numbers: list[int], label: str) -> tuple[int, int, int]:
    outcomes = map_tasks(sleep_a_little, [Task(number) for number in numbers], jobs=2)
    import torch

    return sum(results(outcomes)), os.getpid(), torch.get_num_threads()


def test_a_process_of_its_own_may_start_workers_and_gives_its_result_back() -> None:
    total, pid, threads = run_in_process(add_up, [1, 2, 3], "sum")
    assert total == 6
    assert pid != os.getpid()
    assert threads == 1


class TwoArgumentsError(Exception):
    """Pickle cannot make this again: it calls the class with one argument."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def fail_with(kind: str) -> None:
    if kind == "input":
        raise InputError("rows.csv: no column 'y'")
    if kind == "task":
        map_tasks(leave, [Task(0)], jobs=1)
    if kind == "odd":
        raise TwoArgumentsError("two", "words")
    if kind == "exit":
        sys.exit(5)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("input", InputError, "rows.csv: no column 'y'"),
        ("task", TaskError, "task 1 (Task(number=0, folder='')): SystemExit: gone"),
        ("odd", TaskError, "TwoArgumentsError: two words"),
        ("exit", TaskError, "SystemExit: 5"),
        (
            "kill",
            TaskError,
            "fail_with('kill'): its process died (signal SIGKILL; out of memory?)",
        ),
    ],
)
def test_exceptions_and_deaths_come_back_from_the_other_process(
    kind: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        run_in_process(fail_with, kind)
    assert str(caught.value) == message
    if kind != "kill":
        assert "in fail_with" in caught.value.__notes__[-1]


# A program with workers, to be stopped from outside. One task sleeps, the other never lets
# another thread of its process run.
PROGRAM = """
import os, sys, time
from pathlib import Path
from workingpapers.foundation.parallel import map_tasks, run_in_process

def sign(role):
    folder = Path(sys.argv[1])
    (folder / f"{role}.new").write_text(str(os.getpid()))
    (folder / f"{role}.new").rename(folder / role)

def task(number):
    sign(f"worker {number}")
    if number == 0:
        time.sleep(1000)
    sum(range(10**13))

def whole():
    sign("run")
    try:
        map_tasks(task, [0, 1], jobs=2)
    finally:
        sign("end")

if __name__ == "__main__":
    try:
        whole() if sys.argv[2] == "map_tasks" else run_in_process(whole)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def is_running(pid: int) -> bool:
    try:
        # After the name in brackets comes the state; a zombie has ended.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_program(folder: Path, entry: str) -> tuple[subprocess.Popen[str], list[int]]:
    """The program, once its two workers work, and the process ids of all but itself."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    driver = subprocess.Popen(
        [sys.executable, program, folder, entry],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    roles = [folder / role for role in ("run", "worker 0", "worker 1")]
    wait_until(lambda: all(role.exists() for role in roles))
    pids = {int(role.read_text()) for role in roles} - {driver.pid}
    assert len(pids) == (2 if entry == "map_tasks" else 3)
    assert all(is_running(pid) for pid in pids)
    return driver, sorted(pids)


@pytest.mark.parametrize("entry", ["map_tasks", "run_in_process"])
@pytest.mark.parametrize("receiver", ["program", "terminal"])
def test_ctrl_c_ends_the_program_and_all_its_processes(
    tmp_path: Path, entry: str, receiver: str
) -> None:
    driver, pids = start_program(tmp_path, entry)
    if receiver == "program":
        driver.send_signal(signal.SIGINT)
    else:
        # A terminal's Ctrl-C reaches every process of the group.
        os.killpg(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=20)
    assert driver.returncode == 130
    assert output == ""
    assert (tmp_path / "end").exists()
    assert not any(is_running(pid) for pid in pids)


@pytest.mark.parametrize("entry", ["map_tasks", "run_in_process"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_a_killed_program(
    tmp_path: Path, entry: str, how: signal.Signals
) -> None:
    driver, pids = start_program(tmp_path, entry)
    driver.send_signal(how)
    driver.communicate(timeout=20)
    assert driver.returncode == -how
    wait_until(lambda: not any(is_running(pid) for pid in pids), seconds=5)


def test_ray_from_a_path_with_blanks_is_refused_before_any_work(monkeypatch):
    from workingpapers.foundation.parallel import check_engine

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sys, "executable", "/some where/python")
    monkeypatch.setattr("workingpapers.foundation.parallel.find_spec", lambda name: name)
    with pytest.raises(InputError) as caught:
        check_engine("ray")
    assert str(caught.value) == (
        "--engine ray: Ray cannot start from /some where/python, a path with blanks"
    )
    monkeypatch.setattr("workingpapers.foundation.parallel.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="ray is not installed: pip install"):
        check_engine("ray")
