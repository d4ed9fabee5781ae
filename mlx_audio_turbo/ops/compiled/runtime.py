"""Whether kernels can be compiled here; how they are compiled, and where the code is kept."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from .place import folder as place_of_code

logger = logging.getLogger("mlx_audio_turbo")

SWITCH = "MLX_AUDIO_TURBO_COMPILED"
"""``off`` in this variable runs without compiled kernels."""
X86_FEATURES = ("avx2", "fma", "f16c")
"""What a processor must have; without them a half-precision weight is converted by a function."""
# What reading a damaged file of compiled code can raise.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    RuntimeError,
)


@cache
def reason() -> str | None:
    """Why kernels cannot be compiled here, in words; None where they can."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0"):
        return f"{SWITCH} is off"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed (pip install 'mlx-audio-turbo[cpu]')"
    try:
        from llvmlite import binding
        from numba.core import config

        # What a version of numba may lack, these modules use.
        from .formats import Format  # noqa: F401
        from .parts import part  # noqa: F401
    except (ImportError, OSError, AttributeError) as error:
        return f"numba cannot be imported ({error})"
    if config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
        return "NUMBA_DISABLE_JIT is set"
    if config.CPU_NAME:  # pyright: ignore[reportAttributeAccessIssue]
        return "NUMBA_CPU_NAME is set"
    machine = platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        return None
    if machine not in ("x86_64", "amd64"):
        return f"there are no kernels for {machine}"
    has = binding.get_host_cpu_features()
    lacking = [name for name in X86_FEATURES if not has.get(name)]
    return f"the processor lacks {', '.join(lacking)}" if lacking else None


class CannotCompileError(RuntimeError):
    """Numba refused a kernel: its version does not fit."""


class Kernel:
    """A function that is compiled once for each combination of argument types."""

    def __init__(self, function: Callable[..., Any], *, fastmath: bool):
        self._function, self._fastmath = function, fastmath
        self._lock = threading.Lock()
        self._compiled: Any = None

    def compile(self, *types: Any) -> None:
        """Compile for arguments of these numba types, or read the code from the cache.

        Raises:
            CannotCompileError: this version of numba does not take the kernel.
        """
        from numba.core.errors import NumbaError

        try:
            self._dispatcher().compile(types)
        except (NumbaError, *_DAMAGED) as error:
            first = str(error).strip().partition("\n")[0]
            raise CannotCompileError(f"{self._function.__name__}: {first}") from error

    def is_kept(self, *types: Any) -> bool:
        """Whether the code for these types is compiled or in the cache, or cannot be kept there."""
        dispatcher = self._dispatcher()
        cache = dispatcher._cache
        if types in dispatcher.overloads or not hasattr(cache, "_cache_file"):
            return True
        try:
            key = cache._index_key(types, dispatcher.targetctx.codegen())
            return key in cache._cache_file._load_index()
        except compiling_errors():
            return True

    def __call__(self, *arguments: Any) -> Any:
        return (self._compiled or self._dispatcher())(*arguments)

    def _dispatcher(self) -> Any:
        with self._lock:
            if self._compiled is None:
                self._compiled = _dispatcher(self._function, self._fastmath)
        return self._compiled


def kernel(*, fastmath: bool = False) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorate a function that Python calls; it is compiled at :meth:`Kernel.compile`."""
    return lambda function: Kernel(function, fastmath=fastmath)


def compiling_errors() -> tuple[type[Exception], ...]:
    """What compiling a kernel can raise."""
    from numba.core.errors import NumbaError

    return (NumbaError, *_DAMAGED)


_dispatcher_lock = threading.Lock()


def _dispatcher(function: Callable[..., Any], fastmath: bool) -> Any:
    """Numba's form of ``function``, with a place for its code where there is one."""
    import numba

    from .parts import OPTIONS

    made: Any = numba.njit(fastmath=fastmath, **OPTIONS)(function)
    folder = place_of_code()
    if folder is None:
        return made
    try:
        from numba.core import caching, config
    except ImportError:
        return made

    damaged = (*_DAMAGED, caching.pickle.PickleError)  # pyright: ignore[reportPrivateImportUsage]

    class Cache(caching.FunctionCache):
        """Numba's; with a full disk or a damaged file a call still succeeds."""

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except damaged as error:
                logger.info(f"compiled code is compiled again: {error}")
                self.flush()
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except damaged as error:
                logger.info(f"compiled code is not kept: {error}")

    with _dispatcher_lock:
        before = config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
        try:
            # Read by the constructor; numba takes no folder as an argument.
            config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
            made._cache = Cache(function)
        except _DAMAGED as error:
            logger.info(f"compiled code is not kept: {error}")
        finally:
            config.CACHE_DIR = before  # pyright: ignore[reportAttributeAccessIssue]
    return made
