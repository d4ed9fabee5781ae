"""Forks, and memory that goes back to the system."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mlx_audio_turbo import Voice

_CHILD = """
import os, signal, sys, time
from mlx_audio_turbo import ChatterboxTurbo, TurboError, Voice
from mlx_audio_turbo.audio.files import load_audio

def child(work):
    '''What ``work`` comes to in a forked process, within five seconds.'''
    sys.stdout.flush()  # the child would write what is buffered a second time
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = f"done {work()}"
        except TurboError as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        sys.exit(0)
    os.close(writing)
    started = time.monotonic()
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() - started > 5:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hangs"
        time.sleep(0.02)
    return os.read(reading, 1000).decode()
"""


def run(code: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD + textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def voice_file(voice: Voice, tmp_path: Path) -> str:
    return str(voice.save(tmp_path / "v.safetensors"))


def test_nothing_waits_in_a_child(tiny_folder: Path, voice_file: str) -> None:
    """Whatever is called there of a model, or once MLX was used: an answer at once."""
    said = run(
        """
        clip, folder = sys.argv[3], sys.argv[1]
        model, voice = ChatterboxTurbo.from_pretrained(folder), Voice.load(sys.argv[2])
        begun = model.stream("Hello there, this is said.", voice=voice, seed=1, max_tokens=50)
        first = next(begun)
        speech = model.generate("Hello.", voice=voice, seed=1, max_tokens=5)
        print(child(lambda: model.generate("Hello.", voice=voice, seed=1, max_tokens=5)))
        print(child(lambda: list(model.stream("Hello.", voice=voice, max_tokens=5))))
        print(child(lambda: list(model.generate_batch(["Hi."], voice=voice, max_tokens=5))))
        print(child(lambda: model.render(speech.tokens, voice=voice)))
        print(child(lambda: model.encode_voice(clip)))
        print(child(lambda: next(begun)))
        print(child(lambda: ChatterboxTurbo.from_pretrained(folder)))
        print(child(lambda: begun.close()))
        print(child(lambda: globals().pop("model")))
        print(child(lambda: len(load_audio(clip, sample_rate=24_000))))
        again = model.generate("Hello.", voice=voice, seed=1, max_tokens=5)
        print((again.audio == speech.audio).all(), len(list(begun)) > 0)
        """,
        str(tiny_folder),
        voice_file,
        str(Path(__file__).parent / "data" / "1069-133699-0000.flac"),
    )
    assert len(said) == 11
    for line in said[:7]:
        assert line.startswith("ProcessError: ") and "spawn" in line, said
    assert all(line.startswith("done ") for line in said[7:10]), said
    assert said[10] == "True True"


def test_a_script_ends_well_wherever_it_stops(tiny_folder: Path, voice_file: str) -> None:
    """The model open, a stream unread, a step under way: MLX's streams outlive no thread."""
    said = run(
        """
        import threading
        model, voice = ChatterboxTurbo.from_pretrained(sys.argv[1]), Voice.load(sys.argv[2])
        begun = model.stream("This is not heard to its end.", voice=voice, max_tokens=60)
        print(next(begun).audio.size > 0)
        speak = lambda: model.generate("Hello there.", voice=voice, max_tokens=200)
        threading.Thread(target=speak, daemon=True).start()
        time.sleep(0.05)
        """,
        str(tiny_folder),
        voice_file,
    )
    assert said == ["True"]


def test_workers_that_load_for_themselves_work(tiny_folder: Path, voice_file: str) -> None:
    """The parent has imported the package and no more: a server that forks, multiprocessing."""
    said = run(
        """
        import multiprocessing

        def speak(folder):
            model, voice = ChatterboxTurbo.from_pretrained(folder), Voice.load(sys.argv[2])
            return len(model.generate("Hello.", voice=voice, seed=1, max_tokens=5).audio)

        lengths = {child(lambda: speak(sys.argv[1])) for _ in range(2)}
        with multiprocessing.get_context("fork").Pool(2) as pool:
            lengths |= {f"done {each}" for each in pool.map(speak, [sys.argv[1]] * 2)}
        print(lengths)
        """,
        str(tiny_folder),
        voice_file,
    )
    assert said == ["{'done 7680'}"]


def test_a_pool_with_the_model_of_its_parent_says_so(tiny_folder: Path, voice_file: str) -> None:
    said = run(
        """
        import multiprocessing
        model, voice = ChatterboxTurbo.from_pretrained(sys.argv[1]), Voice.load(sys.argv[2])

        def speak(text):
            return model.generate(text, voice=voice, max_tokens=5)

        with multiprocessing.get_context("fork").Pool(1) as pool:
            try:
                pool.map(speak, ["Hello."])
            except TurboError as error:
                print(type(error).__name__, error)
        """,
        str(tiny_folder),
        voice_file,
    )
    assert said[0].startswith("ProcessError this model was loaded in another process")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_dropped_models_give_their_memory_back(tiny_folder: Path, voice_file: str) -> None:
    """Weights of 190 MB in pieces below the size that the C library gives back by itself."""
    said = run(
        """
        import gc
        import mlx.core as mx

        def own():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) // 1024 for line in status if "RssAnon" in line)

        def load():
            model = ChatterboxTurbo.from_pretrained(sys.argv[1])
            def make():
                pieces = [mx.random.normal((16_000,)) for _ in range(3_000)]
                mx.eval(pieces)
                return pieces
            model._networks.extra = model._engine.run(make)
            return model

        load()
        gc.collect()
        before = own()
        for _ in range(2):
            model = load()
            loaded = own()
            del model
            gc.collect()
            print(loaded - before, own() - before)
        """,
        str(tiny_folder),
        voice_file,
    )
    for line in said:
        loaded, dropped = map(int, line.split())
        assert loaded > 150, said
        assert dropped < 60, said
