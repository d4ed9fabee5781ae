"""A matrix product that knows what one row is, for OpenBLAS on x86-64.

Decoding is one row times every weight. MLX knows only the product of matrices, and on x86-64
OpenBLAS's packs each weight into another layout before it is used once: 10.5 to 12.5 GB/s on two
cores, where its product of matrix and vector reads the same weights at 29.9 of the 30 GB/s that the
memory has (MKL, and OpenBLAS on ARM, see the one row by themselves). So a few instructions stand
before ``cblas_sgemm`` and hand one row on to ``cblas_sgemv``. Small products stay what they were:
there the vector's product starts threads too early.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable
from itertools import product
from operator import mul

# As `as` makes it, Intel's syntax. At the start: esi, edx transposed a and b, ecx, r8d, r9d rows,
# columns and depth; xmm0, xmm1 alpha and beta; from rsp + 8 on a, its stride, b, its stride, out.
_CODE = bytes.fromhex(
    "83f901 7569"  # cmp ecx, 1; jne gemm
    "83fe6f 7564"  # cmp esi, NoTrans; jne gemm
    "4489c0 410fafc1"  # mov eax, r8d; imul eax, r9d
    "3d00000400 7256"  # cmp eax, 1 << 18; jb gemm
    "4883ec28"  # sub rsp, 40
    "488b442430 48890424"  # mov rax, [rsp+48]; mov [rsp], rax: x = a
    "48c744240801000000"  # mov qword ptr [rsp+8], 1: its step
    "488b442450 4889442410"  # mov rax, [rsp+80]; mov [rsp+16], rax: y = out
    "48c744241801000000"  # mov qword ptr [rsp+24], 1: its step
    "be6f000000"  # mov esi, NoTrans
    "83fa70 7408"  # cmp edx, Trans; je across
    "be70000000"  # mov esi, Trans
    "4587c8"  # xchg r8d, r9d
    "4489c2 4489c9"  # across: mov edx, r8d; mov ecx, r9d: b's rows and columns
    "4c8b442440 448b4c2448"  # mov r8, [rsp+64]; mov r9d, [rsp+72]: b and its stride
    "ff150f000000"  # call [rip+gemv]
    "4883c428 c3"  # add rsp, 40; ret
    "ff250c000000"  # gemm: jmp [rip+gemm]
    "0f1f4000"  # to a multiple of 8; the two addresses follow
)


def one_row_first(gemm: int, gemv: int) -> int | None:
    """The address of a ``cblas_sgemm`` that passes one row on; None where this is no such machine.

    Args:
        gemm, gemv: addresses of ``cblas_sgemm`` and ``cblas_sgemv`` with 32-bit integers.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None
    page.write(_CODE + gemv.to_bytes(8, "little") + gemm.to_bytes(8, "little"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    readable_executable = 5
    libc = ctypes.CDLL(None, use_errno=True)
    # A hardened system refuses; products are then slower, and nothing else.
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), readable_executable):
        return None
    sgemm = ctypes.CFUNCTYPE(None, *[ctypes.c_int] * 6, *_AFTER_SIZES)(address)
    if not _right(sgemm):
        return None
    _kept.append(page)
    return address


_FLOAT, _POINTER, _INT = ctypes.c_float, ctypes.c_void_p, ctypes.c_int
_AFTER_SIZES = (_FLOAT, _POINTER, _INT, _POINTER, _INT, _FLOAT, _POINTER, _INT)
_kept: list[mmap.mmap] = []  # what libmlx calls stays


def _right(sgemm: Callable[..., object]) -> bool:
    """Whether products of one row and of two come out right, on memory that held NaN, and added."""
    depth, columns, count = 512, 515, 512 * 515  # above the border
    a, b = _pattern(7, 2 * depth), _pattern(5, count)
    for rows, transposed, beta in product((1, 2), (111, 112), (0.0, 1.0)):
        stride = columns if transposed == 111 else depth
        c = (_FLOAT * (rows * columns))(*[1.0 if beta else float("nan")] * (rows * columns))
        sgemm(
            *(101, 111, transposed, rows, columns, depth),
            *(1.0, a, depth, b, stride, beta, c, columns),
        )
        for row, column in ((0, 0), (0, 257), (rows - 1, columns - 1)):
            left = a[row * depth : (row + 1) * depth]
            right = b[column::columns] if transposed == 111 else b[column * depth :][:depth]
            if c[row * columns + column] != sum(map(mul, left, right)) + beta:
                return False
    return True


def _pattern(period: int, count: int) -> ctypes.Array[ctypes.c_float]:
    """Whole numbers around 0, so that sums are exact."""
    values = (_FLOAT * period)(*[i - period // 2 + (i == 1) for i in range(period)])
    return (_FLOAT * count).from_buffer_copy(bytes(values) * (count // period + 1))
