"""Files of the Hugging Face Hub: the one download, and what to do about a file that is no good."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DownloadError, ModelFolderError
from ..files.paths import check_home
from ..files.safetensors_reader import stand_in
from ..presets import VOICE_FILE

FOLDER_FILES = (
    "config.json",
    "README.md",
    "model*.safetensors",
    VOICE_FILE,
    "tokenizer*.json",
    # tokenizer files of folders that other converters wrote
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    # the multilingual text steps
    "Cangjie5_TC.json",
    # checkpoints in the upstream layout
    "t3_*.safetensors",
    "s3gen.safetensors",
    "s3gen_meanflow.safetensors",
    "ve.safetensors",
    "grapheme_mtl_merged_expanded_v1.json",
)
"""The files of a model folder and of a checkpoint, as patterns."""

_LIBRARIES = re.compile(
    r"huggingface_hub|hf_xet|pyo3_runtime|httpx|httpcore|h2|requests|urllib3|ssl|json"
)
"""Modules whose errors a download can end in; which of them, depends on the Hub client's version.
"""
_FAILURES = (
    OSError,
    ValueError,  # a bad address; an answer that is no JSON
    ImportError,  # a proxy that needs another library
    RuntimeError,  # the Xet client
    # an answer that lacks what the Hub client reads
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)
_NEVER_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def download(
    repository: str,
    files: Sequence[str] = FOLDER_FILES,
    *,
    revision: str | None = None,
    network: bool = True,
) -> Path:
    """The folder of a repository in the Hub's cache, with those of ``files`` that it has.

    Args:
        files: names or patterns.
        revision: commit, branch or tag; by default the newest commit.
        network: ask the Hub; else only its cache on this machine.

    Raises:
        DownloadError: the Hub cannot be reached or refuses, the transfer breaks off, or what
            arrives is not the file; the message names the remedy.
        OptionError: there is no home folder for the Hub's cache.
    """
    check_home("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME")
    try:
        folder = _snapshot(repository, files, revision=revision, network=network)
    except BaseException as error:
        refused = failure(error, repository, "downloaded")
        if refused is None:
            raise
        raise refused from None
    for path in sorted({path for pattern in files for path in folder.glob(pattern)}):
        if what := stand_in(path):
            raise DownloadError(f"{path} is {what}; {remedy(path)}")
    return folder


def failure(error: BaseException, repository: str, what: str) -> DownloadError | None:
    """Our error for one that ended a transfer; None where it is no failure of the Hub.

    Args:
        what: could not be done: ``downloaded``, ``written``.
    """
    if not (isinstance(error, _FAILURES) or _is_of_a_library(error)):
        return None
    return DownloadError(
        f"{repository} could not be {what} ({_reason(error)}); {_remedy_of(error, repository)}"
    )


def snapshot_of(folder: Path) -> tuple[str | None, str | None]:
    """Repository and commit of a folder in the Hub's cache; None of any other folder."""
    parts = folder.absolute().parts
    if len(parts) < 3 or parts[-2] != "snapshots" or not parts[-3].startswith("models--"):
        return None, None
    owner, _, name = parts[-3].removeprefix("models--").partition("--")
    return f"{owner}/{name}", parts[-1]


def remedy(path: Path, *, otherwise: str = "download it again") -> str:
    """How to get the file ``path`` again, where it is absent or damaged.

    Args:
        otherwise: the remedy where neither the Hub's cache nor git left the file as it is.
    """
    repository, revision = snapshot_of(path.parent)
    if repository:
        return _fetch(f"{repository} {path.name}", revision)
    what = stand_in(path)
    if what and "git-lfs" in what:
        return "fetch the file itself with git lfs pull, or with hf download"
    if what:
        return "download the file itself"
    return otherwise


def with_remedy(error: ModelFolderError, folder: Path, *, converted: str) -> ModelFolderError:
    """``error`` with the remedy that fits: what the Hub sent cannot be converted again here.

    Args:
        converted: the remedy in the message, for a folder that was converted on this machine.
    """
    repository, revision = snapshot_of(folder)
    if not repository:
        return error
    return ModelFolderError(str(error).replace(converted, _fetch(repository, revision)))


def _fetch(what: str, revision: str | None) -> str:
    at = f" --revision {revision}" if revision else ""
    return f"fetch it with: hf download {what}{at} --force-download"


def _snapshot(
    repository: str, files: Sequence[str], *, revision: str | None, network: bool
) -> Path:
    from huggingface_hub import constants, snapshot_download

    def fetch() -> Path:
        with _quiet():
            return Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    allow_patterns=list(files),
                    local_files_only=not network,
                )
            )

    try:
        return fetch()
    except BaseException as error:
        # The Xet client of the Hub crashes on some networks and file systems, where the plain
        # transfer works; what it raises differs from version to version.
        if not network or constants.HF_HUB_DISABLE_XET or not _may_be_xet(error):
            raise
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    try:
        return fetch()
    finally:
        constants.HF_HUB_DISABLE_XET = before


def _may_be_xet(error: BaseException) -> bool:
    if isinstance(error, _NEVER_OURS):
        return False
    if _root(error) in ("hf_xet", "pyo3_runtime") or type(error).__name__ == "XetDownloadError":
        return True
    trace = error.__traceback__
    while trace:
        if "xet" in trace.tb_frame.f_code.co_name:
            return True
        trace = trace.tb_next
    return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No messages of the Hub client about its attempts; the last failure becomes our error."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _root(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _is_of_a_library(error: BaseException) -> bool:
    if isinstance(error, _NEVER_OURS):
        return False
    return any(_LIBRARIES.match(kind.__module__) for kind in type(error).__mro__)


def _reason(error: BaseException) -> str:
    no_answer = isinstance(error, (LookupError, TypeError, AttributeError, AssertionError))
    if no_answer or "JSONDecodeError" in type(error).__name__:
        return "the answer is not that of a Hub"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = re.sub(r"^Got: \w+: ", "", lines[0]) if lines else type(error).__name__
    # An address may hold the password of a proxy.
    reason = re.sub(r"//[^/@\s]*@", "//", reason).rstrip(".;: ")
    return reason if len(reason) <= 200 else f"{reason[:197]}..."


def _kinds(error: BaseException | None) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__} if error else set()


def _status(error: BaseException | None) -> int | None:
    """The HTTP status of the answer that ``error`` is about."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _remedy_of(error: BaseException, repository: str) -> str:
    # By name: an import of the Hub client may be what failed, and its classes change.
    kinds = _kinds(error) | _kinds(error.__cause__)
    cause = error.__cause__
    status = _status(error) or _status(cause)
    if isinstance(error, ImportError) and "socks" in str(error).lower():
        return 'a SOCKS proxy needs: pip install "httpx[socks]"'
    if isinstance(error, ImportError):
        return "install the library that it names"
    if "OfflineModeIsEnabled" in kinds or (
        "LocalEntryNotFoundError" in kinds and os.environ.get("HF_HUB_OFFLINE")
    ):
        return "unset HF_HUB_OFFLINE, or give a folder"
    if "GatedRepoError" in kinds:
        return f"accept its terms at https://huggingface.co/{repository}, then: hf auth login"
    if "RevisionNotFoundError" in kinds:
        return "check the revision"
    if "RepositoryNotFoundError" in kinds or status in (401, 403):
        return "check the name; for a private repository: hf auth login"
    if status == 429:
        return "wait some minutes and try again, or log in with: hf auth login"
    if status is not None and status >= 500:
        return "the Hub fails at the moment; try again later"
    if status == 404:
        return "check the name and the revision"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free space on the disk, or choose another with HF_HOME"
    if isinstance(error, OSError) and error.filename:
        return "make that place writable, or choose another with HF_HOME"
    settings = sorted(
        name
        for name, value in os.environ.items()
        if value and (name.lower() in _PROXIES or (name.startswith("HF_") and name != "HF_HOME"))
    )
    where = f", {', '.join(settings)}" if settings else ""
    return f"check the name and the network{where}, and try again, or give a folder"
