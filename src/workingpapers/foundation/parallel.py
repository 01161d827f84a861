"""Work in parallel: the one place that knows of processes or Ray."""

import ctypes
import multiprocessing
import os
import pickle
import secrets
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, Protocol, get_args

from workingpapers.foundation.console import progress
from workingpapers.foundation.errors import InputError, TaskError, missing_package
from workingpapers.foundation.memory import peak_since, watch_memory

Engine = Literal["local", "ray"]

# What every process started here finds in its environment: one thread, and strings that hash
# alike (the order of a set), so that a result does not depend on where it was computed.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "LOKY_MAX_CPU_COUNT": "1",
    "PYTHONHASHSEED": "0",
}

# Seconds that a process which has nothing left to do gets for ending by itself.
_PATIENCE = 10.0

# How Ctrl-C is passed on. SIGINT itself comes from the terminal too, and Ray takes SIGTERM.
_INTERRUPT = signal.SIGUSR1

_PR_SET_PDEATHSIG = 1

_inside_worker = False


@dataclass(frozen=True)
class Outcome:
    """What one task gave and cost."""

    result: Any
    seconds: float
    peak_mb: float | None
    """Peak of resident memory during the task less its value before, in MiB; None if unknown."""


def map_tasks(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    *,
    engine: Engine = "local",
    jobs: int = 0,
    label: str = "",
    done: Callable[[int, Outcome], None] | None = None,
    alone: bool = False,
) -> list[Outcome]:
    """Run `function` on each task in workers of one thread; outcomes in task order.

    `function` stands at the top of a module; tasks and results can be pickled. `jobs` workers
    run at a time, 0 for one a core; `alone=True` runs one task at a time, for durations. The
    engine "ray" uses the cluster at RAY_ADDRESS, else starts one of `jobs` CPUs on this machine
    that lives until this process ends. `done(index, outcome)` is called in this process as each
    outcome arrives. A progress bar is shown if there is a `label`.

    TaskError names the task that failed: a task that raises is not tried again, one whose worker
    dies is tried once more. After a failure no task starts, and those that run are waited for.
    InputError for an unknown engine or negative `jobs`; MissingPackageError if Ray is not there.
    """
    _refuse_in_worker("map_tasks")
    check_engine(engine)
    if jobs < 0:
        raise InputError(f"--jobs {jobs}: expected a number of workers, or 0 for one a core")
    if not tasks:
        return []
    outcomes: dict[int, Outcome] = {}
    waiting, running, tried_again = deque(range(len(tasks))), set[int](), set[int]()
    failure: TaskError | None = None
    workers: _Workers = _LocalWorkers(jobs, alone) if engine == "local" else _Ray(jobs, alone)
    bar = progress(label, len(tasks)) if label else nullcontext(lambda steps: None)
    with closing(workers), bar as advance:
        while running or (waiting and failure is None):
            while waiting and failure is None and len(running) < workers.slots:
                index = waiting.popleft()
                running.add(index)
                workers.start(index, pickle.dumps((function, tasks[index])))
            for index, answer in workers.finished():
                running.remove(index)
                reply = answer if isinstance(answer, _Death) else pickle.loads(answer)
                if isinstance(reply, Outcome):
                    outcomes[index] = reply
                    if done is not None:
                        done(index, reply)
                    advance(1)
                elif isinstance(reply, _Death) and index not in tried_again:
                    tried_again.add(index)
                    waiting.appendleft(index)
                elif failure is None:
                    failure = _task_error(reply, index, tasks[index], label)
    if failure is not None:
        raise failure
    return [outcomes[index] for index in range(len(tasks))]


def check_engine(engine: str) -> None:
    """Whether an engine can be used here, before any work: errors as `map_tasks` raises them."""
    if engine not in get_args(Engine):
        raise InputError(f"--engine {engine}: expected {' or '.join(get_args(Engine))}")
    if engine == "ray":
        if find_spec("ray") is None:
            raise missing_package("ray", "cluster")
        if len(sys.executable.split()) > 1 and "RAY_ADDRESS" not in os.environ:
            # Ray hands this path to a shell unquoted; its workers never come up.
            raise InputError(
                f"--engine ray: Ray cannot start from {sys.executable}, a path with blanks"
            )


def run_in_process(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` in a process of its own, of one thread, which may call `map_tasks`.

    `function` stands at the top of a module; arguments and result can be pickled. An exception
    comes back as it is, with the other process's traceback as a note (as TaskError if it cannot
    be pickled). TaskError names the call whose process died. Ctrl-C is passed on, and the
    process does not outlive this one.
    """
    _refuse_in_worker("run_in_process")
    call = f"{function.__qualname__}({', '.join(map(repr, args))})"
    payload = pickle.dumps((function, args))
    connection, process = _spawn(_run_once, daemon=False)
    try:
        connection.send_bytes(payload)
        answer = connection.recv_bytes()
    except (EOFError, OSError):
        death = _death(process)
        raise TaskError(f"{_short(call)}: its process died ({death.cause})") from None
    except KeyboardInterrupt:
        assert process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(process.pid, _INTERRUPT)
        raise
    finally:
        connection.close()
        try:
            process.join(_PATIENCE)
        finally:
            process.kill()
    result, error = pickle.loads(answer)
    if error is not None:
        raise error
    return result


@dataclass(frozen=True)
class _Raised:
    """A task's exception, in words: not every exception can be pickled."""

    kind: str
    message: str
    traceback: str


@dataclass(frozen=True)
class _Death:
    """A worker that ended without an answer."""

    cause: str


def _task_error(reply: _Raised | _Death, index: int, task: Any, label: str) -> TaskError:
    name = f"task {index + 1}" + (f" of {label!r}" if label else "") + f" ({_short(repr(task))})"
    if isinstance(reply, _Death):
        return TaskError(f"{name}: its worker died twice ({reply.cause})")
    error = TaskError(f"{name}: {reply.kind}" + (f": {reply.message}" if reply.message else ""))
    error.add_note(reply.traceback)
    return error


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"


def _refuse_in_worker(name: str) -> None:
    if _inside_worker:
        raise RuntimeError(
            f"{name} was called inside a task: a task runs on one core and opens no pool of its own"
        )


class _Workers(Protocol):
    """Workers that take one task each; of tasks and results they see only the pickles."""

    slots: int
    """How many tasks may run at a time."""

    def start(self, index: int, payload: bytes) -> None:
        """Give a task to a free worker."""
        ...

    def finished(self) -> Iterator[tuple[int, bytes | _Death]]:
        """Wait until a task has ended, or several, and give back its index and answer."""
        ...

    def close(self) -> None:
        """Stop the tasks that still run."""
        ...


# ------------------------------------------------------------------ processes on this machine


@dataclass(frozen=True)
class _Worker:
    connection: Connection
    process: BaseProcess
    surroundings: tuple[Any, ...]
    """What the process took over from this one when it started."""


# Workers without a task stay for the next call, with all that they have imported; they end with
# this process.
_idle: list[_Worker] = []


def _free_worker() -> _Worker:
    surroundings = (os.getcwd(), tuple(sys.path), dict(os.environ))
    while _idle:
        worker = _idle.pop()
        if worker.process.is_alive() and worker.surroundings == surroundings:
            return worker
        worker.connection.close()
    return _Worker(*_spawn(_work, daemon=True), surroundings)


class _LocalWorkers:
    def __init__(self, jobs: int, alone: bool) -> None:
        self.slots = 1 if alone else jobs or _cores()
        self._busy: dict[Connection, tuple[int, _Worker]] = {}

    def start(self, index: int, payload: bytes) -> None:
        worker = _free_worker()
        self._busy[worker.connection] = index, worker
        # A worker that died just now shows itself in `finished`.
        with suppress(OSError):
            worker.connection.send_bytes(payload)

    def finished(self) -> Iterator[tuple[int, bytes | _Death]]:
        for ready in wait(list(self._busy)):
            assert isinstance(ready, Connection)
            index, worker = self._busy[ready]
            answer: bytes | _Death
            try:
                answer = ready.recv_bytes()
            except (EOFError, OSError):
                answer = _death(worker.process)
                ready.close()
            else:
                _idle.append(worker)
            del self._busy[ready]
            yield index, answer

    def close(self) -> None:
        for connection, (_, worker) in self._busy.items():
            worker.process.kill()
            worker.process.join()
            connection.close()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _death(process: BaseProcess) -> _Death:
    """How a process ended whose end of the connection is closed."""
    process.join(_PATIENCE)
    process.kill()
    process.join()
    code = process.exitcode
    if code is None or code >= 0:
        return _Death(f"exit code {code}")
    hint = "; out of memory?" if code == -signal.SIGKILL else ""
    return _Death(f"signal {signal.Signals(-code).name}{hint}")


def _spawn(target: Callable[[Connection], None], *, daemon: bool) -> tuple[Connection, BaseProcess]:
    """Start a process with one thread that calls `target`; the connection to it, and itself."""
    connection, other_end = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(other_end,), daemon=daemon
    )
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    # Ctrl-C in a terminal reaches the child too, maybe before it can ignore it: it starts with
    # the signal blocked. The tracker is started first because its start would unblock it.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        os.environ.update(_ENVIRONMENT)
        process.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    # Only the child holds its end now, so that its death closes the connection.
    other_end.close()
    return connection, process


def _work(connection: Connection) -> None:
    """A worker's life: one task after the other, until the connection closes."""
    global _inside_worker
    _inside_worker = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    with suppress(EOFError):
        while True:
            connection.send_bytes(_perform(connection.recv_bytes()))


def _run_once(connection: Connection) -> None:
    """The life of the process of `run_in_process`."""
    # A terminal sends Ctrl-C to all its processes; here only the parent's word counts, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(_INTERRUPT, _interrupt)
    _die_with_parent()
    try:
        function, args = pickle.loads(connection.recv_bytes())
        answer = pickle.dumps((function(*args), None))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BaseException as error:
        answer = pickle.dumps((None, _portable(error)))
    # After Ctrl-C nobody listens.
    with suppress(BrokenPipeError):
        connection.send_bytes(answer)


def _interrupt(signum: int, frame: Any) -> None:
    signal.signal(_INTERRUPT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _portable(error: BaseException) -> Exception:
    """The exception itself if it survives pickling, else its words; with its traceback."""
    note = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = None
    if type(copy) is not type(error) or not isinstance(copy, Exception):
        copy = TaskError(f"{type(error).__name__}: {error}")
    copy.add_note(note)
    return copy


def _die_with_parent() -> None:
    """End this process when its parent ends, however that happens."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    # Linux can also send a signal, which stops code that never lets another thread run.
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


# ---------------------------------------------------------------------------------------- Ray


class _Ray:
    def __init__(self, jobs: int, alone: bool) -> None:
        import ray

        address = os.environ.get("RAY_ADDRESS")
        if not ray.is_initialized():
            quiet = {"log_to_driver": False, "logging_level": "ERROR"}
            if address:
                try:
                    ray.init(**quiet)
                except Exception as error:
                    raise InputError(f"RAY_ADDRESS={address}: {error}") from error
            else:
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                # Without a token Ray makes one and leaves it in the user's home.
                os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
                ray.init("local", num_cpus=jobs or _cores(), include_dashboard=False, **quiet)
        self.slots = 1 if alone else jobs or int(ray.cluster_resources()["CPU"])
        self._ray = ray
        # One retry of our own, as for processes, instead of Ray's.
        self._perform = ray.remote(
            num_cpus=1, max_retries=0, runtime_env={"env_vars": _ENVIRONMENT}
        )(_perform_in_ray)
        self._busy: dict[Any, int] = {}

    def start(self, index: int, payload: bytes) -> None:
        path = [os.path.abspath(entry) for entry in sys.path]
        self._busy[self._perform.remote(payload, path)] = index

    def finished(self) -> Iterator[tuple[int, bytes | _Death]]:
        for reference in self._ray.wait(list(self._busy))[0]:
            answer: bytes | _Death
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.OutOfMemoryError:
                answer = _Death("out of memory")
            except self._ray.exceptions.RayError as error:
                answer = _Death(str(error).strip().splitlines()[-1])
            yield self._busy.pop(reference), answer

    def close(self) -> None:
        for reference in self._busy:
            self._ray.cancel(reference, force=True)


def _perform_in_ray(payload: bytes, path: list[str]) -> bytes:
    """As `_perform`, in a process that knows no more of this one than Ray tells it."""
    global _inside_worker
    _inside_worker = True
    sys.path.extend(entry for entry in path if entry not in sys.path)
    return _perform(payload)


# --------------------------------------------------------------------- one task, in its worker


def _perform(payload: bytes) -> bytes:
    """Run one pickled (function, task); a pickled Outcome, or _Raised."""
    try:
        # Imports the function's module, which is no part of the task's cost.
        function, task = pickle.loads(payload)
        before = watch_memory()
        start = time.perf_counter()
        result = function(task)
        seconds = time.perf_counter() - start
        return pickle.dumps(Outcome(result, seconds, peak_since(before)))
    except BaseException as error:
        trace = "".join(traceback.format_exception(error))
        return pickle.dumps(_Raised(type(error).__name__, str(error), trace))
