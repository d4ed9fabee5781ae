"""The bad inputs, by group and name; each is made when it is tried."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from mlx_audio_turbo import (
    ChatterboxTurbo,
    ChunkOptions,
    PauseOptions,
    TrimOptions,
    Voice,
    WatchdogOptions,
)
from mlx_audio_turbo.files.lock import Lock
from mlx_audio_turbo_convert.synthetic.tiny import ensure

from .bench import CLIP, Bench, Call, Command, saved_voices

Make = Callable[[Bench], "Command | Call"]
INPUTS: dict[str, dict[str, Make]] = {}


def _group(name: str, inputs: dict[str, Make]) -> None:
    INPUTS[name] = inputs


def _speak(bench: Bench, *more: str, code: int = 2, voice: bool = True) -> Command:
    """The command on the tiny model, with ``more`` in place of what it would be given."""
    given = {"--model": str(bench.tiny), "--text": "Hello.", "--output": str(bench.place / "o.wav")}
    given |= {"--seed": "1", "--max_tokens": "5"}
    if voice:
        given["--voice"] = str(bench.voice_file)
    if more and not more[0].startswith("-"):
        del given["--text"]
    for option in more:
        if option == "--file":
            del given["--text"]
        elif option == "--ref_audio":
            given.pop("--voice", None)
    flat = [word for name, value in given.items() if name not in more for word in (name, value)]
    return Command("tts", [*flat, *more], code)


def _options(*more: str) -> Make:
    return lambda bench: _speak(bench, *more)


def _options_fine(*more: str) -> Make:
    return lambda bench: _speak(bench, *more, code=0)


def _say(text: object, *, fine: bool = False, **options: object) -> Make:
    def make(bench: Bench) -> Call:
        given = {"voice": bench.voice, "seed": 1, "max_tokens": 5} | options
        return Call(lambda: bench.model.generate(text, **given), fine)  # type: ignore[arg-type]

    return make


def _with_file(content: bytes, code: int = 2) -> Make:
    return lambda bench: _speak(bench, "--file", str(bench.file("text.txt", content)), code=code)


def _first_words(text: str) -> Make:
    """Speak the beginning of a text that is too long for a test, and give the rest up."""

    def make(bench: Bench) -> Call:
        def call() -> None:
            chunks = bench.model.stream(text, voice=bench.voice, max_tokens=5, seed=1)
            assert len(next(chunks).audio)
            chunks.close()  # type: ignore[attr-defined]

        return Call(call, fine=True)

    return make


MEGABYTE = 1_000_000
_group(
    "text",
    {
        "empty": _options("--text", ""),
        "only spaces and line breaks": _options("--text", " \n\t\r\n "),
        "only emoji": _options("--text", "🙂🙃👩‍👩‍👧🏳️‍🌈"),
        "only punctuation": _options("--text", "... --- ***"),
        "only a zero-width space": _options("--text", "\u200b"),
        "only a byte order mark": _options("--text", "\ufeff"),
        "half a surrogate pair": _options("--text", "half \ud800 a pair"),
        "a megabyte of spaces": _options("--text", " " * MEGABYTE),
        "a megabyte of emoji": _options("--text", "🙂" * (MEGABYTE // 4)),
        "no text at all": lambda bench: _speak(bench, "--file", os.devnull),
        "two texts": lambda bench: _speak(bench, "Hello", "--text", "there"),
        "a file that is not there": _options("--file", "no-such.txt"),
        "a folder for a file": lambda bench: _speak(bench, "--file", str(bench.place)),
        "a file in UTF-16": _with_file("Hello".encode("utf-16")),
        "a file in Latin-1": _with_file("Grüße".encode("latin-1")),
        "a file of random bytes": _with_file(bytes(range(256)) * 40),
        "an empty file": _with_file(b""),
        "a file with a byte order mark": _with_file("\ufeffHello".encode(), 0),
        "call: empty": _say(""),
        "call: only emoji": _say("🙂🙂"),
        "call: half a surrogate pair": _say("\udfff"),
        "call: None": _say(None),
        "call: bytes": _say(b"Hello"),
        "call: only tags": _say("[laugh] [sigh]", fine=True),
        "call: unknown tags": _say("[levitate] Hello [", fine=True),
        "call: a zero byte": _say("Hello\0there", fine=True),
        "call: control characters": _say("\x01\x1b[31m bell \x07", fine=True),
        "call: right to left": _say("مرحبا بالعالم, שלום", fine=True),
        "call: a letter with 5,000 accents": _say("a" + "\u0301" * 5_000, fine=True, max_tokens=1),
        "call: four bytes a letter": _say("𝕳𝖊𝖑𝖑𝖔" * 100, fine=True, max_tokens=1),
        "call: emoji around one word": _say("🙂" * 298 + " hi", fine=True),
        "call: a megabyte of words": _first_words("word " * (MEGABYTE // 5)),
        "call: a megabyte without a space": _first_words("x" * MEGABYTE),
        "call: a list with an empty text": lambda bench: Call(
            lambda: list(bench.model.generate_batch(["Hello.", ""], voice=bench.voice))
        ),
    },
)


def _clip(make: Callable[[Bench], Path], *more: str, code: int = 2) -> Make:
    return lambda bench: _speak(bench, "--ref_audio", str(make(bench)), *more, code=code)


def _samples(samples: object, rate: int | None = 24_000) -> Make:
    return lambda bench: Call(
        lambda: bench.model.encode_voice(samples, sample_rate=rate)  # type: ignore[arg-type]
    )


def _noise(seconds: float, rate: int = 24_000, channels: int = 1) -> np.ndarray:
    shape = (int(seconds * rate), channels)
    return 0.1 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _hour(bench: Bench) -> Path:
    """An hour at 8 kHz: a minute of noise bursts with pauses, over and over."""
    import soundfile

    path = bench.folder / "hour.wav"
    minute = _noise(60, 8_000)[:, 0] * (np.arange(480_000) // 4_000 % 3 > 0)
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for _ in range(60):
            file.write(minute)
    return path


def _mp3(bench: Bench) -> Path:
    return bench.sound("whole.mp3", _noise(8))


_group(
    "clip",
    {
        "not there": _options("--ref_audio", "no-such.wav"),
        "a folder": lambda bench: _speak(bench, "--ref_audio", str(bench.place)),
        "an empty name": _options("--ref_audio", ""),
        "a zero byte in the name": _options("--ref_audio", "a\0b.wav"),
        "an empty file": _clip(lambda bench: bench.file("empty.wav", b"")),
        "a header only": _clip(
            lambda bench: bench.file("head.wav", bench.sound("h.wav", _noise(8)).read_bytes()[:44])
        ),
        "half a header": _clip(
            lambda bench: bench.file("half.wav", bench.sound("h.wav", _noise(8)).read_bytes()[:20])
        ),
        "cut in its first second": _clip(
            lambda bench: bench.file("cut.wav", bench.sound("h.wav", _noise(8)).read_bytes()[:9000])
        ),
        "a flac cut in the middle": _clip(
            lambda bench: bench.file("cut.flac", CLIP.read_bytes()[: CLIP.stat().st_size // 3])
        ),
        "a flac with a hole": _clip(
            lambda bench: bench.file(
                "hole.flac", CLIP.read_bytes()[:60_000] + bytes(9000) + CLIP.read_bytes()[70_000:]
            ),
            code=0,  # the rest is read, and a warning says so
        ),
        "an mp3 cut in its first second": _clip(
            lambda bench: bench.file("cut.mp3", _mp3(bench).read_bytes()[:3000])
        ),
        "a text named wav": _clip(lambda bench: bench.file("text.wav", b"this is no audio")),
        "a picture named wav": _clip(
            lambda bench: bench.file("picture.wav", b"\x89PNG\r\n\x1a\n" + bytes(500))
        ),
        "an mp4 of zeros": _clip(
            lambda bench: bench.file("zeros.m4a", b"\0\0\0\x20ftypM4A " + bytes(500))
        ),
        "a flac named wav": _clip(
            lambda bench: bench.file("really-flac.wav", CLIP.read_bytes()), code=0
        ),
        "no samples": _clip(lambda bench: bench.sound("none.wav", np.zeros(0))),
        "one sample": _clip(lambda bench: bench.sound("one.wav", np.ones(1) / 2)),
        "exactly five seconds": _clip(lambda bench: bench.sound("five.wav", _noise(5))),
        "silence": _clip(lambda bench: bench.sound("silence.wav", np.zeros(200_000))),
        "a constant": _clip(lambda bench: bench.sound("dc.wav", np.full(200_000, 0.5))),
        "NaN": _clip(
            lambda bench: bench.sound("nan.wav", np.full(200_000, np.nan), subtype="FLOAT")
        ),
        "one infinite sample": _clip(
            lambda bench: bench.sound(
                "inf.wav", np.r_[_noise(8)[:, 0], np.inf].astype(np.float32), subtype="FLOAT"
            )
        ),
        "96 channels": _clip(lambda bench: bench.sound("many.wav", _noise(8, 8_000, 96), 8_000)),
        "100 samples a second": _clip(lambda bench: bench.sound("slow.wav", _noise(800, 100), 100)),
        "an hour, from its end on": _clip(_hour, "--ref_start", "3600"),
        "from before its beginning on": _options("--ref_audio", str(CLIP), "--ref_start", "-1"),
        "from NaN on": _options("--ref_audio", str(CLIP), "--ref_start", "nan"),
        "voice and clip": lambda bench: _speak(
            bench, "--ref_audio", str(CLIP), "--voice", str(bench.voice_file)
        ),
        "neither voice nor clip": lambda bench: _speak(bench, voice=False),
        "call: an hour": lambda bench: Call(
            lambda: bench.model.encode_voice(_hour(bench)), fine=True
        ),
        "call: no sample rate": _samples(_noise(8)[:, 0], None),
        "call: a sample rate of 0": _samples(_noise(8)[:, 0], 0),
        "call: a sample rate of -24,000": _samples(_noise(8)[:, 0], -24_000),
        "call: a sample rate of ten million": _samples(_noise(8)[:, 0], 10_000_000),
        "call: integers": _samples(np.ones(200_000, np.int16)),
        "call: three dimensions": _samples(np.zeros((2, 3, 200_000), np.float32)),
        "call: channels first": _samples(_noise(8, channels=2).T),
        "call: no samples": _samples(np.zeros(0, np.float32)),
        "call: NaN": _samples(np.full(200_000, np.nan, np.float32)),
        "call: silence": _samples(np.zeros(200_000, np.float32)),
        "call: None": _samples(None),
        "call: a list": _samples([0.1] * 200_000),
    },
)


def _voice_file(change: Callable[[bytes], bytes], name: str) -> Make:
    def make(bench: Bench) -> Command:
        return _speak(
            bench, "--voice", str(bench.file(name, change(bench.voice_file.read_bytes())))
        )

    return make


def _renamed_family(bench: Bench) -> Path:
    return replace(bench.voice, family="another").save(bench.folder / "another.safetensors")


def _changed_voice(**fields: object) -> Make:
    def make(bench: Bench) -> Call:
        def call() -> object:
            voice = replace(bench.voice, **fields)  # type: ignore[arg-type]
            return bench.model.generate("Hello.", voice=voice, seed=1, max_tokens=2)

        return Call(call)

    return make


def _voices(*arguments: str, code: int = 2) -> Make:
    def make(bench: Bench) -> Command:
        library = saved_voices(bench.folder / "voices")
        if not library.names():
            library.add("anna", bench.voice)
        return Command("voices", list(arguments), code)

    return make


_group(
    "voice",
    {
        "no such name": _options("--voice", "nobody"),
        "no such file": _options("--voice", "no/such.safetensors"),
        "an empty name": _options("--voice", ""),
        "an empty file": _voice_file(lambda content: b"", "v-empty.safetensors"),
        "cut in the header": _voice_file(lambda content: content[:100], "v-head.safetensors"),
        "cut in the data": _voice_file(lambda content: content[:-5000], "v-cut.safetensors"),
        "zeros": _voice_file(lambda content: bytes(len(content)), "v-zeros.safetensors"),
        "a clip": lambda bench: _speak(bench, "--voice", str(bench.file("v.safetensors", b"RIFF"))),
        "the weights of a model": lambda bench: _speak(
            bench, "--voice", str(bench.tiny / "model.safetensors")
        ),
        "of another family": lambda bench: _speak(bench, "--voice", str(_renamed_family(bench))),
        "call: a name": _say("Hello.", voice="anna"),
        "call: a number": _say("Hello.", voice=3),
        "call: of another family": lambda bench: Call(
            lambda: bench.model.generate("Hello.", voice=Voice.load(_renamed_family(bench)))
        ),
        "call: NaN": _changed_voice(x_vector=np.full(192, np.nan)),
        "call: a short x-vector": _changed_voice(x_vector=np.ones(3)),
        "call: a short embedding": _changed_voice(speaker_embedding=np.ones(3)),
        "call: a token that is none": _changed_voice(t3_prompt_tokens=np.array([9_999_999])),
        "call: a negative token": _changed_voice(t3_prompt_tokens=np.array([-1])),
        "call: half a prompt": _changed_voice(s3gen_prompt_tokens=np.array([1, 2])),
        "voices: add a name with a slash": _voices("add", "a/b", str(CLIP), "--model", "tiny"),
        "voices: add a name that is taken": _voices("add", "anna", str(CLIP), "--model", "tiny"),
        "voices: add no clip": _voices("add", "ben", "no-such.wav", "--model", "tiny"),
        "voices: show nobody": _voices("show", "ana"),
        "voices: remove nobody": _voices("remove", "nobody"),
        "voices: export nobody": _voices("export", "nobody", "out.safetensors"),
        "voices: export to nowhere": _voices("export", "anna", "/no/such/place.safetensors"),
        "voices: import nothing": _voices("import", "no-such.safetensors"),
        "voices: import a clip": _voices("import", str(CLIP)),
        "voices: no such command": _voices("sing"),
    },
)


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _cut(name: str, part: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).unlink()  # a link to the original
        (folder / name).write_bytes(content[: int(part * len(content))])

    return change


def _as_folder(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def _config(edit: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").unlink()
        (folder / "config.json").write_text(json.dumps(edit(values) or values))

    return change


def _model(change: Callable[[Path], None], code: int = 2) -> Make:
    return lambda bench: _speak(bench, "--model", str(bench.copy(bench.tiny, change)), code=code)


def _build(change: Callable[[Path], None], code: int = 2) -> Make:
    def make(bench: Bench) -> Command:
        source = bench.copy(bench.checkpoint, change)
        output = bench.place / "made"
        return Command("convert", ["build", "--source", str(source), "--output", str(output)], code)

    return make


_READ = ("config.json", "model.safetensors", "tokenizer.json")
_UNREAD = ("README.md", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json")
_SOURCES = ("config.json", "t3_tiny_v1.safetensors", "s3gen_meanflow.safetensors")
_SOURCES += ("ve.safetensors", "vocab.json", "merges.txt", "added_tokens.json")
_group(
    "model folder",
    {
        "not there": _options("--model", "no-such-folder"),
        "an empty name": _options("--model", ""),
        "a file": lambda bench: _speak(bench, "--model", str(CLIP)),
        "an empty folder": lambda bench: _speak(bench, "--model", str(bench.place)),
        **{f"without {name}": _model(_without(name)) for name in _READ},
        **{f"half of {name}": _model(_cut(name, 0.5)) for name in _READ},
        **{f"nothing in {name}": _model(_cut(name, 0)) for name in _READ},
        **{f"a folder named {name}": _model(_as_folder(name)) for name in _READ},
        **{f"without {name}, which nobody reads": _model(_without(name), 0) for name in _UNREAD},
        "config.json is a list": _model(_config(lambda values: [1])),
        "config.json of another model": _model(_config(lambda v: v | {"model_type": "gpt2"})),
        "an unknown size": _model(_config(lambda v: v["architecture"].update(x=1))),  # type: ignore
        "a size that is missing": _model(_config(lambda v: v["architecture"].pop("t3"))),  # type: ignore
        "another size": _model(_config(lambda v: v["architecture"]["t3"].update(layers=7))),  # type: ignore
        "a size of zero": _model(_config(lambda v: v["architecture"]["t3"].update(layers=0))),  # type: ignore
        "a size that is a text": _model(
            _config(lambda v: v["architecture"]["t3"].update(layers="two"))  # type: ignore
        ),
        "notes that are a number": _model(_config(lambda v: v | {"notes": 3})),
        "a source that is a number": _model(_config(lambda v: v | {"source": 3})),
        "call: not there": lambda bench: Call(lambda: ChatterboxTurbo.from_pretrained("no-such")),
        "call: None": lambda bench: Call(
            lambda: ChatterboxTurbo.from_pretrained(None)  # type: ignore[arg-type]
        ),
    },
)
_group(
    "checkpoint",
    {
        "not there": lambda bench: Command("convert", ["build", "--source", "no-such-folder"]),
        "an output that exists": lambda bench: Command(
            "convert", ["build", "--source", str(bench.checkpoint), "--output", str(bench.tiny)]
        ),
        "an output to force that is no model": lambda bench: Command(
            "convert",
            ["build", "--source", str(bench.checkpoint), "--output", str(bench.folder), "--force"],
        ),
        **{f"without {name}": _build(_without(name)) for name in _SOURCES},
        **{f"half of {name}": _build(_cut(name, 0.5)) for name in _SOURCES},
        **{
            f"nothing in {name}": _build(_cut(name, 0))
            for name in _SOURCES
            if name != "merges.txt"  # the tiny model has no merges
        },
    },
)

_group(
    "options",
    {
        **{
            f"{name} {value}": _options(f"--{name}={value}")
            for name, values in {
                "temperature": ("-1", "nan", "inf", "hot"),
                "top_k": ("-1", "2.5"),
                "top_p": ("0", "1.1", "nan"),
                "repetition_penalty": ("0", "-1", "inf"),
                "max_tokens": ("0", "-5", "1001", "many"),
                "batch_size": ("0", "65"),
                "seed": ("-1", "1.5", str(2**64)),
                "sentence_pause": ("-1", "nan", "inf"),
                "trim_margin": ("-1", "nan"),
                "trim_threshold": ("0", "nan"),
                "format": ("aiff",),
            }.items()
            for value in values
        },
        "unknown": _options("--exaggeration", "0.5"),
        "abbreviated": _options("--temp", "1"),
        "without its value": _options("--seed"),
        "resume and restart": _options("--resume", "--restart"),
        "json on the audio's way": lambda bench: _speak(bench, "--output", "-", "--json"),
        **{
            f"call: {name}={value!r}": _say("Hello.", **{name: value})
            for name, values in {
                "temperature": (-1, float("nan"), "hot"),
                "top_k": (-1, 2.5),
                "top_p": (0, 1.5),
                "repetition_penalty": (0, float("inf")),
                "max_tokens": (0, 1001, 1.5, "9"),
                "seed": (-1, 2**64, 1.5, "x"),
                "segment_limit": (39, -1),
                "batch_size": (0, 65),
                "retries": (-1,),
            }.items()
            for value in values
        },
        "call: a pause of -1 s": lambda bench: Call(lambda: PauseOptions(sentence=-1)),
        "call: a margin of NaN": lambda bench: Call(lambda: TrimOptions(margin=float("nan"))),
        "call: chunks of no tokens": lambda bench: Call(lambda: ChunkOptions(sizes=())),
        "call: a watchdog of no tokens": lambda bench: Call(lambda: WatchdogOptions(max_run=0)),
        "call: voices for other texts": lambda bench: Call(
            lambda: bench.model.generate_batch(["a", "b"], voices=[bench.voice])
        ),
    },
)


_group(
    "output",
    {
        "a folder that is not there": _options("--output", "/no/such/folder/o.wav"),
        "an unknown suffix": _options("--output", "o.xyz"),
        "an empty name": _options("--output", ""),
        "a name of 300 letters": lambda bench: _speak(
            bench, "--output", str(bench.place / ("x" * 300 + ".wav"))
        ),
        "under a file": lambda bench: _speak(bench, "--output", str(CLIP / "o.wav")),
        "a folder named o.wav": lambda bench: _speak(
            bench, "--output", str(_made(bench.folder / "folder.wav")), "--format", "mp3", code=0
        ),
        "another format than the name": lambda bench: _speak(bench, "--format", "mp3"),
        "flac to standard output": _options("--output", "-", "--format", "flac"),
        "a zero byte in the name": _options("--output", "a\0b.wav"),
        "a plot that is no image": _options("--plot", "o.txt"),
        "call: an unknown suffix": lambda bench: Call(
            lambda: _speech(bench).save(bench.place / "o.xyz")
        ),
        "call: a folder that is not there": lambda bench: Call(
            lambda: _speech(bench).save("/no/such/folder/o.wav")
        ),
        "call: a voice to a folder that is not there": lambda bench: Call(
            lambda: bench.voice.save("/no/such/folder/v.safetensors")
        ),
    },
)


def _over(*more: str, name: str) -> Make:
    """Outputs that are the file ``name`` of the inputs, which the run reads."""

    def make(bench: Bench) -> Command:
        link = bench.folder / f"link{Path(name).suffix}"
        if not (bench.folder / "clip.wav").exists():
            import soundfile

            samples, rate = soundfile.read(CLIP)
            bench.sound("clip.wav", samples[: 6 * rate], rate)
            bench.file("text.wav", b"Hello.")
            bench.file("voice.wav", bench.voice_file.read_bytes())
        link.unlink(missing_ok=True)
        link.symlink_to(bench.folder / name)
        places = {"INPUT": str(bench.folder / name), "LINK": str(link), "PLACE": str(bench.place)}
        words = [word.replace("PLACE", places["PLACE"]) for word in more]
        return _speak(bench, *(places.get(word, word) for word in words))

    return make


def _at(name: str, code: int = 0) -> Make:
    """An output under an odd name."""
    return lambda bench: _speak(bench, "--output", str(bench.place / name), code=code)


def _busy(bench: Bench) -> Command:
    """Another run is at work for the output; its lock is held as long as this module lives."""
    folder = bench.folder / "busy.wav.part"
    if not folder.exists():
        folder.mkdir()
        _HELD.append(Lock(folder / "lock"))
    return _speak(bench, "--output", str(bench.folder / "busy.wav"), "--restart")


_HELD: list[Lock] = []

_group(
    "places",
    {
        "the clip as output": _over("--ref_audio", "INPUT", "--output", "INPUT", name="clip.wav"),
        "a link to the clip as output": _over(
            "--ref_audio", "INPUT", "--output", "LINK", name="clip.wav"
        ),
        "the clip as saved voice": _over(
            "--ref_audio", "INPUT", "--save_voice", "LINK", name="clip.wav"
        ),
        "the text as output": _over("--file", "INPUT", "--output", "LINK", name="text.wav"),
        "two outputs in one file": _over(
            *("--ref_audio", "INPUT", "--save_voice", "PLACE/o.wav", "--output", "PLACE/./o.wav"),
            name="clip.wav",
        ),
        "a saved voice in no folder": _over(
            "--ref_audio", "INPUT", "--save_voice", "PLACE/no/v", name="clip.wav"
        ),
        "a name of 250 bytes": _at("x" * 246 + ".wav"),
        "a Chinese name of 252 bytes": _at("话" * 82 + ".mp3"),
        "a name of 256 bytes": _at("x" * 252 + ".wav", 2),
        "a name in Latin-1": _at(os.fsdecode(b"caf\xe9.flac")),
        "a name that no encoding has": _at("\ud800.wav", 2),
        "/dev/null as output": _options_fine("--output", os.devnull),
        "a folder that another run works in": _busy,
        "~ of an unknown user": _at("~nobody-of-this-name.wav"),
    },
)


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _speech(bench: Bench):
    return bench.model.generate("Hello.", voice=bench.voice, seed=1, max_tokens=5)


@contextlib.contextmanager
def no_network(folder: Path) -> Iterator[None]:
    """No Hub, whatever the machine has: an empty cache, and nobody is asked."""
    names = {"HF_HUB_OFFLINE": True, "HF_HUB_CACHE": str(folder / "hub")}
    with contextlib.ExitStack() as stack:
        for name, value in names.items():
            stack.enter_context(mock.patch(f"huggingface_hub.constants.{name}", value))
        yield


@contextlib.contextmanager
def no_memory_maps() -> Iterator[None]:
    """Files cannot be mapped into memory, as on some network and user-space file systems."""
    error = OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    with mock.patch("mmap.mmap", side_effect=error):
        yield


def _offline(trial: Make) -> Make:
    def make(bench: Bench) -> Command | Call:
        made = trial(bench)

        def call() -> object:
            with no_network(bench.folder):
                assert isinstance(made, Call)
                return made.function()

        return Call(call)

    return make


_group(
    "network",
    {
        "call: a repository nobody has": _offline(
            lambda bench: Call(lambda: ChatterboxTurbo.from_pretrained("someone/not-there"))
        ),
        "call: the official model": _offline(
            lambda bench: Call(lambda: ChatterboxTurbo.from_pretrained())
        ),
        "call: a name that no repository has": _offline(
            lambda bench: Call(lambda: ChatterboxTurbo.from_pretrained("a//b"))
        ),
    },
)


def _unmapped(bench: Bench) -> Call:
    def call() -> None:
        with no_memory_maps():
            ChatterboxTurbo.from_pretrained(bench.tiny)

    return Call(call, fine=True)


def _unwritable_cache(bench: Bench) -> Call:
    def call() -> None:
        ensure(bench.file("cache", b"a file where a folder should be"))

    return Call(call)


_group(
    "file system",
    {
        "call: no memory maps": _unmapped,
        "call: a cache that is a file": _unwritable_cache,
    },
)


def full_disk(bench: Bench, disk: Path) -> dict[str, Command | Call]:
    """Outputs to a disk that is full; ``disk`` holds a few kilobytes and no more."""
    build = ["build", "--source", str(bench.checkpoint), "--output", str(disk / "model")]
    commands: dict[str, Command | Call] = {
        f"a {suffix}": _speak(
            bench,
            *("--text", "Hello there. [laugh]", "--max_tokens", "100"),
            *("--output", str(disk / f"o.{suffix}"), "--no_trim"),
        )
        for suffix in ("wav", "flac", "mp3", "ogg")
    }
    long = " ".join(["This is a sentence of a long text, and it goes on for a while."] * 9)
    return commands | {
        "a long text": _speak(bench, "--text", long, "--output", str(disk / "long.wav")),
        "a voice": Call(lambda: bench.voice.save(disk / "v.safetensors")),
        "a model folder": Command("convert", build),
    }


def read_only_disk(bench: Bench, disk: Path) -> dict[str, Command | Call]:
    """Outputs to a disk that cannot be written."""
    build = ["build", "--source", str(bench.checkpoint), "--output", str(disk / "model")]
    return {
        "a wav": _speak(bench, "--output", str(disk / "o.wav")),
        "a voice": Call(lambda: bench.voice.save(disk / "v.safetensors")),
        "a model folder": Command("convert", build),
        "the cache": Call(lambda: ensure(disk)),
    }
