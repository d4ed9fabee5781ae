"""One thread owns the device; every request of a model runs on it, step by step, in turn.

MLX's streams belong to threads: what one thread has begun to compute another cannot finish. So all
work of a model happens on a thread of its own, and callers, however many and from wherever, get
finished NumPy values. Work comes as generators: between two steps the thread turns to the next
request, notices that one was given up, and rests where a caller is slow to take what is ready.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import mlx.core as mx

from .. import ops
from ..errors import ProcessError

T = TypeVar("T")
Steps = Generator[T | None, None, None]
"""A generator of results; ``None`` is a step without one."""

LAST_STEP = 30.0
"""Seconds that closing waits for the step under way."""
AHEAD = 4
"""Results that wait for a caller before its request rests."""
_REMEDY = "load it in each worker, or start workers with the method 'spawn'"


class _Forks:
    """What a child process knows of MLX in its parent."""

    computed = False
    unusable = False
    """MLX had computed before the fork: its threads are gone, and its locks wait for ever."""

    @classmethod
    def before(cls) -> None:
        # Asked in the parent, because the child may find the allocator locked.
        cls.computed = cls.unusable or mx.get_peak_memory() + mx.get_active_memory() > 0

    @classmethod
    def in_child(cls) -> None:
        cls.unusable = cls.computed


os.register_at_fork(before=_Forks.before, after_in_child=_Forks.in_child)


def default_cache_limit() -> int:
    """Bytes of freed buffers that MLX may keep where nobody has said how many.

    On the CPU a larger cache is of no use: at 512, 256, 128 and 64 MiB, S3Gen and HiFT of 20 s took
    12.1, 13.6, 11.4 and 11.4 s, and 1.0, 0.8, 0.7 and 0.6 GB above the weights.
    """
    return (512 if ops.on_gpu() else 128) << 20


@dataclass(eq=False)
class _Request(Generic[T]):
    make: Callable[[], Steps[T]]
    steps: Steps[T] | None = None
    ready: deque[T] = field(default_factory=deque)
    error: BaseException | None = None
    over: bool = False
    given_up: bool = False


class _State:
    """What the thread and the callers share; it knows nothing of the engine, so that an engine
    nobody holds can go, and its thread with it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.requests: deque[_Request[Any]] = deque()
        self.closed = False

    def next(self) -> _Request[Any] | None:
        """The next request that can go on, and the last in line from now on; None at the end."""
        with self.changed:
            while not self.closed:
                for request in self.requests:
                    if request.given_up or len(request.ready) < AHEAD:
                        self.requests.remove(request)
                        self.requests.append(request)
                        return request
                self.changed.wait()
        return None

    def settle(self, request: _Request[Any], result: Any, error: BaseException | None) -> None:
        with self.changed:
            if result is not None:
                request.ready.append(result)
            if error is not None:
                request.over = True
                request.steps = None
                if not isinstance(error, StopIteration):
                    request.error = error
                self.requests.remove(request)
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()


def _serve(state: _State, device: mx.Device, cache_limit: int | None) -> None:
    mx.set_default_device(device)
    while (request := state.next()) is not None:
        result, error = None, None
        previous = mx.set_cache_limit(cache_limit) if cache_limit is not None else None
        try:
            if request.given_up:
                if request.steps is not None:
                    request.steps.close()
                raise StopIteration
            if request.steps is None:
                request.steps = request.make()
            result = next(request.steps)
        except BaseException as raised:  # belongs to the caller, whatever it is
            error = raised
        finally:
            if previous is not None:
                mx.set_cache_limit(previous)
        state.settle(request, result, error)
        del request, result, error
    mx.clear_streams()


def _end(state: _State, thread: threading.Thread, process: int) -> None:
    """Let the thread finish its step; one that outlives the interpreter would abort the process."""
    if os.getpid() != process:
        return  # the thread exists in the parent alone, and the lock may be held for ever
    state.close()
    if thread is not threading.current_thread():
        thread.join(timeout=LAST_STEP)


def release_memory() -> None:
    """Give freed memory back to the system, once nothing refers to a model's weights any more.

    MLX keeps freed buffers, and the C library of Linux keeps what threads have freed that ended.
    """
    if _Forks.unusable:
        return
    mx.clear_cache()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


class Engine:
    """The thread; it ends when the engine is closed or nobody holds it any more.

    cache_limit: bytes that MLX may keep of freed buffers while this engine works; the process's
        own limit holds before and after.
    """

    def __init__(self, *, cache_limit: int | None = None) -> None:
        """Start the thread.

        Raises:
            ProcessError: MLX cannot work in this process: it had computed before a fork.
        """
        if _Forks.unusable:
            raise ProcessError(
                "MLX had computed in this process before it was forked, and its threads do not "
                f"survive that; {_REMEDY}"
            )
        self._process = os.getpid()
        self._state = _State()
        self._thread = threading.Thread(
            target=_serve,
            args=(self._state, mx.default_device(), cache_limit),
            name="mlx_audio_turbo",
            daemon=True,
        )
        self._thread.start()
        self.close = weakref.finalize(self, _end, self._state, self._thread, self._process)

    def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``, called on the thread; what it raises is raised here."""

        def once() -> Steps[tuple[T]]:
            yield (work(),)

        ((result,),) = self.stream(once)
        return result

    def stream(self, make: Callable[[], Steps[T]]) -> Results[T]:
        """The results of the generator that ``make`` gives, made and driven on the thread.

        It runs ahead of the caller by a few results. Closing the iterator ends the work after the
        step that is under way.

        Raises:
            ProcessError: this process was forked from the one that made the engine.
        """
        self.check_process()
        if threading.current_thread() is self._thread:
            raise RuntimeError("a model cannot be called from within its own thread")
        request = _Request(make)
        state = self._state
        with state.changed:
            if state.closed:
                raise RuntimeError("the model was closed")
            state.requests.append(request)
            state.changed.notify_all()
        return Results(state, request, self._process)

    def check_process(self) -> None:
        """Find out whether this process has the thread.

        Raises:
            ProcessError: it was forked from the one that has.
        """
        _check_process(self._process)


def _check_process(process: int) -> None:
    if os.getpid() != process:
        raise ProcessError(f"this model was loaded in another process, before a fork; {_REMEDY}")


class Results(Generic[T]):
    """The results of a request, as an iterator.

    Closing it, or dropping it, ends the work after the step under way, also before the first
    result was asked for.
    """

    def __init__(self, state: _State, request: _Request[T], process: int):
        self._state, self._request, self._process = state, request, process

    def __iter__(self) -> Results[T]:
        return self

    def __next__(self) -> T:
        """The next result.

        Raises:
            What the work raised, after the results before it.
            ProcessError: this process was forked from the one that works.
        """
        _check_process(self._process)
        state, request = self._state, self._request
        with state.changed:
            while not (request.ready or request.over or request.given_up or state.closed):
                state.changed.wait()
            if not request.ready or request.given_up:
                error, request.error = request.error, None
                raise error if error is not None else StopIteration
            result = request.ready.popleft()
            state.changed.notify_all()
        return result

    def close(self) -> None:
        """Give up the rest."""
        if os.getpid() != self._process:
            return  # the lock may be held for ever
        with self._state.changed:
            self._request.given_up = True
            self._state.changed.notify_all()

    def __del__(self) -> None:
        self.close()
