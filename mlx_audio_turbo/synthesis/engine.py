"""One thread owns the device; the requests of a model take turns on it, step by step.

An MLX stream belongs to the thread that made it: another thread cannot finish its work. All work of
a model therefore runs on one thread, and callers on any thread get finished NumPy values. A request
is a generator. Between two steps the thread turns to the next request, drops a request that its
caller closed, and skips one whose caller is slow to take what is ready.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import mlx.core as mx

from .. import ops
from .process import check_process, check_usable

T = TypeVar("T")
Steps = Generator[T | None, None, None]
"""A generator of results; ``None`` is a step without one."""
ASLEEP: Any = object()
"""In place of a result: there is nothing to do until :meth:`Results.wake` is called."""

LAST_STEP = 30.0
"""Seconds that closing waits for the step under way."""
AHEAD = 4
"""Results that wait for a caller before its request is skipped."""


def default_cache_limit() -> int:
    """Bytes of freed buffers that MLX may keep, if the caller does not say.

    On the CPU a larger cache saves no time and costs memory; see docs/kernels.md. On a GPU the
    buffers above the limit would be made anew in each layer: an eighth of its memory, bounded.
    """
    if not ops.on_gpu():
        return 32 << 20
    return min(max(ops.gpu_memory() // 8, 512 << 20), 2 << 30)


@dataclass(eq=False)
class _Request(Generic[T]):
    make: Callable[[], Steps[T]]
    steps: Steps[T] | None = None
    ready: deque[T] = field(default_factory=deque)
    error: BaseException | None = None
    over: bool = False
    given_up: bool = False
    asleep: bool = False
    woken: bool = False
    """Wakened since its step began, which may not have seen why."""

    @property
    def can_step(self) -> bool:
        """Whether it has something to do, and its caller room for a result."""
        return self.given_up or (not self.asleep and len(self.ready) < AHEAD)


class _State:
    """What the thread and the callers share. It does not refer to the engine, so that an unused
    engine is collected and its thread ends."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.requests: deque[_Request[Any]] = deque()
        self.closed = False

    def next(self) -> _Request[Any] | None:
        """The next request that can take a step, which goes to the end of the line; None when
        closed."""
        with self.changed:
            while not self.closed:
                for request in self.requests:
                    if request.can_step:
                        self.requests.remove(request)
                        self.requests.append(request)
                        request.woken = False
                        return request
                self.changed.wait()
        return None

    def settle(self, request: _Request[Any], result: Any, error: BaseException | None) -> None:
        with self.changed:
            if result is ASLEEP:
                request.asleep = not request.woken
            elif result is not None:
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
    while (request := state.next()) is not None:
        result, error = None, None
        previous = mx.set_cache_limit(cache_limit) if cache_limit is not None else None
        try:
            with ops.pinned(device):
                if request.given_up:
                    if request.steps is not None:
                        request.steps.close()
                    raise StopIteration
                if request.steps is None:
                    request.steps = request.make()
                result = next(request.steps)
        except BaseException as raised:  # raised again in the caller's thread
            error = raised
        finally:
            if previous is not None:
                mx.set_cache_limit(previous)
        state.settle(request, result, error)
        del request, result, error
    mx.clear_streams()


def _end(state: _State, thread: threading.Thread, process: int) -> None:
    """Wait for the step under way: a thread that outlives the interpreter aborts the process."""
    if os.getpid() != process:
        return  # the thread exists only in the parent, and its lock may stay held
    state.close()
    if thread is not threading.current_thread():
        thread.join(timeout=LAST_STEP)


class Engine:
    """The thread. It ends when the engine is closed or collected.

    cache_limit: bytes of freed buffers that MLX may keep while this engine works; the process's
        own limit is restored after each step.
    """

    def __init__(self, *, cache_limit: int | None = None) -> None:
        """Start the thread.

        Raises:
            ProcessError: MLX cannot work in this process: it had computed before a fork.
        """
        check_usable()
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
        """Call ``work`` on the thread; gives its result, or raises what it raises."""

        def once() -> Steps[tuple[T]]:
            yield (work(),)

        ((result,),) = self.stream(once)
        return result

    def stream(self, make: Callable[[], Steps[T]]) -> Results[T]:
        """The results of the generator that ``make`` gives. Both run on the thread.

        The generator runs ahead of the caller by a few results. Closing the iterator ends the work
        after the step under way.

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
        """Check that this process has the thread.

        Raises:
            ProcessError: it was forked from the process that has.
        """
        check_process(self._process)


class Results(Generic[T]):
    """The results of a request, as an iterator.

    Closing or dropping it ends the work after the step under way, also before the first result.
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
        check_process(self._process)
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

    def wake(self) -> None:
        """Go on with work that is asleep."""
        with self._state.changed:
            self._request.woken, self._request.asleep = True, False
            self._state.changed.notify_all()

    def close(self) -> None:
        """End the work; the remaining results are dropped."""
        if os.getpid() != self._process:
            return  # the lock may stay held
        with self._state.changed:
            self._request.given_up = True
            self._state.changed.notify_all()

    def __del__(self) -> None:
        self.close()
