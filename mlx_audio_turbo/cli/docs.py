"""docs/cli.md, made of the parsers: ``python -m mlx_audio_turbo.cli.docs > docs/cli.md``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from ..presets import TAGS
from .options import EXIT_CODES, tts_parser, vc_parser, voices_parser

_HEAD = """\
# The commands

<!-- Made by `python -m mlx_audio_turbo.cli.docs > docs/cli.md`; a test compares. -->

`mlx_audio_turbo.tts`, `mlx_audio_turbo.vc` and `mlx_audio_turbo.voices` are installed with the
package. They also run as
`python -m mlx_audio_turbo.tts` and so on. Option names have underscores; dashes are accepted too
(`--ref-audio`). Results go to standard output, everything else to standard error. Progress bars
are shown where standard error is a terminal. An error is one line.

| exit code | |
|---|---|
"""
_TTS = """
A text file of any length is spoken in constant memory, segment by segment (see
[long_text.md](long_text.md)):

```sh
mlx_audio_turbo.tts --file book.txt --voice anna --output book.mp3
```

- Finished segments are kept in `book.mp3.part/` until all of them are there. After Ctrl-C, a crash
  or a power cut, the same command with `--resume` continues with the same seed, and speaks damaged
  segments again. `--restart` begins again. With neither, the command refuses to touch the kept
  work. Another text, voice, model or option is refused by name; line ends, white space at line ends
  and a byte order mark do not matter. One run at a time works for an output: a second one ends at
  once. The lock ends with its process. Between machines it holds on NFS; a disk without locks is
  reported.
- The output file appears whole or not at all, and keeps the mode of the file it replaces. Links are
  followed. A pipe or a device is written to as a stream. A file that the run reads (clip, text,
  voice, model) is never written to, under any spelling of its path. All places are tried before
  anything is loaded. A name without a suffix gets the one of its format; so does `--save_voice`.
- `~` is expanded in every path, also in `MLX_AUDIO_TURBO_CACHE` and `MLX_AUDIO_TURBO_VOICES`.
- `--output -` writes wav or (`--format pcm`) raw 16-bit mono at 24 kHz to standard output. With
  `--stream` the audio is written while it is made, so `mlx_audio_turbo.tts - --stream --voice anna
  --play` speaks each line as it is typed.
- With `-` and `--stream`, line n (from 0) has the seed + n. Empty lines do not count. A line that
  cannot be spoken (only punctuation, not UTF-8) is skipped with a message; the exit code is 0 if
  any line was spoken. Without `--seed` a random seed is used and printed.
- An option that the model does not have is an error that names the models that have it. A model
  folder may have other defaults than those below.
- Silence and noise after the speech are cut by level; `--no_trim` keeps them.
- Of a clip longer than a minute, the 30 s that are most like clean speech are used, or those from
  `--ref_start`. A clip that is clipped, noisy, music, mostly silent or short is used with a
  warning.
- There is no `--speed`: a phase vocoder, which the libraries offer, blurs consonants and adds an
  echo. Change the pace of the reference clip, or stretch the file with a tool made for speech.
- `--json` prints one object: `path`, `duration`, `sample_rate`, `segments`, `tokens`, `seed`,
  `model`, `voice` (its fingerprint), `plot`, `watermarked`, `seconds` by stage, `first_audio`,
  `real_time_factor` and `notes`.
"""
_VC = """
A Turbo folder converts in two steps of the flow, an original one in ten; the language model is not
loaded. Any saved voice will do. Outputs, formats, messages and `--json` are those of
`mlx_audio_turbo.tts`.

```sh
mlx_audio_turbo.vc clip.wav --voice anna --output clip_as_anna.wav
```
"""
_VOICES = """
Voices are saved in the user's data folder, or in `MLX_AUDIO_TURBO_VOICES`, as safetensors files
with the date, the clip's name and SHA-256, a note of consent and the model family. A saved voice
needs neither its clip nor the encoders. A name has letters of any script, digits, and `. _ + -`; é
in one character or in two is one name.

```sh
mlx_audio_turbo.voices add anna anna.m4a --consent "Anna, by mail, 3 May"
mlx_audio_turbo.tts "Good morning!" --voice anna
```
"""
_COMPLETION = """
## Completion

```sh
eval "$(mlx_audio_turbo.tts --print_completion bash)"      # in ~/.bashrc; zsh likewise
mlx_audio_turbo.tts --print_completion fish | source       # in ~/.config/fish/config.fish
```

The other commands have the same option. Names of saved voices are completed too.
"""


def render() -> str:
    """The whole page."""
    return "".join(_page())


def _page() -> Iterator[str]:
    yield _HEAD
    for code, text in EXIT_CODES.items():
        yield f"| {code} | {text} |\n"
    tts, vc, voices = tts_parser(), vc_parser(), voices_parser()
    yield f"\n## {tts.prog}\n\n{tts.description}\n\n    {_usage(tts)}\n"
    yield from _tables(tts)
    yield _TTS
    yield "\nTags: " + " ".join(f"`{tag}`" for tag in TAGS) + "\n"
    yield f"\n## {vc.prog}\n\n{vc.description}\n\n    {_usage(vc)}\n"
    yield _VC
    yield from _tables(vc)
    yield f"\n## {voices.prog}\n\n{voices.description}\n"
    yield _VOICES
    yield from _tables(voices)
    yield _COMPLETION


def _usage(parser: argparse.ArgumentParser) -> str:
    usage = (parser.usage or "%(prog)s [options]") % {"prog": parser.prog}
    return "\n    ".join(map(str.strip, usage.splitlines()))


def _tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    for group in parser._action_groups:
        actions = [
            action
            for action in group._group_actions
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
        ]
        if not actions:
            continue
        yield f"\n| {group.title} | |\n|---|---|\n"
        for action in actions:
            text = (action.help or "") % {"default": action.default}
            yield f"| {_name(action)} | {_escaped(text)} |\n"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                yield f"\n### {name}\n\n{helps[name].capitalize()}.\n"
                yield from _tables(inner)


def _name(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else None
    value = "|".join(map(str, action.choices)) if action.choices else metavar
    if not action.option_strings:
        return f"`{_escaped(value or action.dest)}`"
    name = action.option_strings[-1]
    if action.nargs != 0:
        name += f" {value or action.dest.upper()}"
    return f"`{_escaped(name)}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
