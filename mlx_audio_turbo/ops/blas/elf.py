"""Writes new addresses into the table of functions that libmlx imports (ELF, 64 bits)."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import struct
from collections.abc import Mapping
from pathlib import Path

# Keys of the dynamic section, and the layout of a relocation with addend (elf.h).
_PLTRELSZ, _STRTAB, _SYMTAB, _RELA, _RELASZ, _JMPREL = 2, 5, 6, 7, 8, 23
_RELA_ENTRY, _SYMBOL_BYTES = struct.Struct("<QQq"), 24


class Unfit(Exception):
    """A library that lacks a function or computes it wrongly, or a libmlx that takes none."""


def bind(addresses: Mapping[bytes, int], *, needed: bytes) -> None:
    """Point libmlx's imports of the named functions to ``addresses``.

    Raises:
        Unfit: libmlx is not found or does not import ``needed``.
        OSError: the table cannot be made writable.
    """
    package = importlib.util.find_spec("mlx")
    folders = package.submodule_search_locations if package is not None else None
    paths = [path for folder in folders or () for path in Path(folder).glob("lib*/libmlx.so")]
    if not paths:
        raise Unfit("libmlx.so not found")
    # A handle of dlopen begins with the load address, the name and the dynamic section (link.h).
    handle = ctypes.CDLL(str(paths[0]))._handle
    base, _, dynamic = struct.unpack("<QQQ", ctypes.string_at(handle, 24))
    tags: dict[int, int] = {}
    while (entry := struct.unpack("<QQ", ctypes.string_at(dynamic, 16)))[0]:
        tags[entry[0]] = entry[1]
        dynamic += 16

    def at(tag: int) -> int:  # glibc has added the load address, musl has not
        return tags[tag] if tags[tag] >= base else tags[tag] + base

    bound = set()
    for table, size in ((_JMPREL, _PLTRELSZ), (_RELA, _RELASZ)):
        if table not in tags:
            continue
        for offset, info, _ in _RELA_ENTRY.iter_unpack(ctypes.string_at(at(table), tags[size])):
            if not (symbol := info >> 32):
                continue
            entry = ctypes.string_at(at(_SYMTAB) + symbol * _SYMBOL_BYTES, 4)
            name = ctypes.string_at(at(_STRTAB) + int.from_bytes(entry, "little"))
            if name in addresses:
                _write(base + offset, addresses[name])
                bound.add(name)
    if needed not in bound:
        raise Unfit(f"libmlx does not import {needed.decode()}")


def _write(address: int, value: int) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    readable_writable = 3
    libc = ctypes.CDLL(None, use_errno=True)
    # The linker may have made the table read-only after filling it.
    start = ctypes.c_void_p(address - address % page)
    if libc.mprotect(start, ctypes.c_size_t(page), readable_writable):
        raise OSError(ctypes.get_errno(), "mprotect")
    ctypes.c_uint64.from_address(address).value = value
