"""Completion of a command's options for bash, zsh and fish, made of its parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_OF_A_VOICE = ("show", "remove", "export")
"""Commands whose first word names a kept voice."""
_FREE = ("N", "X", "SECONDS", "NOTE", "NAME", "TEXT")
"""What options may want that no list of files helps with."""
# In one line: what zsh makes of `compgen -W` takes the next one for a command.
_NAMES = "mlx_audio_turbo.voices list --names 2>/dev/null"
_BASH_NAMES = f"$({_NAMES} | tr '\\n' ' ')"
_BASH = """\
# eval "$({program} --print_completion {shell})"
_{function}() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" values="" options
  # To bash, --format=o is three words.
  if [[ "$word" == "=" ]]; then
    word=""
  elif [[ "$before" == "=" ]]; then
    before="${{COMP_WORDS[COMP_CWORD-2]}}"
  fi
  case "$before" in
{values}  esac
  if [[ -n "$values" ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$word"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{options}  esac
  if [[ "$word" == -* || $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  else
    COMPREPLY=()
  fi
}}
complete -o default -F _{function} {program}
"""
_ZSH = """\
(( $+functions[compdef] )) || { autoload -U compinit && compinit; }
autoload -U +X bashcompinit && bashcompinit
"""


@dataclass(frozen=True)
class _Command:
    """A command of the parser, or with an empty name the parser itself."""

    name: str
    help: str
    actions: Sequence[argparse.Action]

    @property
    def options(self) -> Iterator[tuple[str, argparse.Action]]:
        """Long names, each with what it means."""
        for action in self.actions:
            for name in action.option_strings:
                if name.startswith("--"):
                    yield name, action


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What to evaluate in ``shell`` (bash, zsh or fish)."""
    commands = list(_commands(parser))
    if shell == "fish":
        return "".join(_fish(parser.prog, commands))
    text = _BASH.format(
        program=parser.prog,
        shell=shell,
        function=re.sub(r"\W", "_", parser.prog),
        values="".join(_bash_values(commands)),
        options="".join(_bash_options(commands)),
    )
    return _ZSH + text if shell == "zsh" else text


def _commands(parser: argparse.ArgumentParser) -> Iterator[_Command]:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    yield _Command("", "", shown)
    for action in shown:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                yield _Command(name, helps[name], inner._actions)


def _bash_values(commands: Sequence[_Command]) -> Iterator[str]:
    for command in commands:
        for name, action in command.options:
            if action.choices:
                yield f'    {name}) values="{" ".join(map(str, action.choices))}" ;;\n'
            elif name == "--voice":
                yield f'    {name}) values="{_BASH_NAMES}" ;;\n'
    if any(command.name in _OF_A_VOICE for command in commands):
        yield f'    {"|".join(_OF_A_VOICE)}) [[ "$word" == -* ]] || values="{_BASH_NAMES}" ;;\n'


def _bash_options(commands: Sequence[_Command]) -> Iterator[str]:
    whole, *inner = commands
    for command in inner:
        yield f'    {command.name}) options="{_joined(command)}" ;;\n'
    names = " ".join(command.name for command in inner)
    yield f'    *) options="{f"{names} {_joined(whole)}".strip()}" ;;\n'


def _joined(command: _Command) -> str:
    return " ".join(name for name, _ in command.options)


def _fish(program: str, commands: Sequence[_Command]) -> Iterator[str]:
    yield f"# {program} --print_completion fish | source\n"
    first = "__fish_use_subcommand"
    alone = len(commands) == 1
    for command in commands:
        seen = f"__fish_seen_subcommand_from {command.name}"
        if command.name:
            line = f"complete -c {program} -n {first} -fa {command.name}"
            yield f"{line} -d {_quoted(command.help)}\n"
        if command.name in _OF_A_VOICE:
            yield f"complete -c {program} -n '{seen}' -a '({_NAMES})'\n"
        condition = "" if alone else f" -n '{seen if command.name else first}'"
        for name, action in command.options:
            line = f"complete -c {program}{condition} -l {name[2:]}{_fish_value(name, action)}"
            help = (action.help or "") % {"default": action.default}
            yield f"{line} -d {_quoted(help)}\n"
    if not alone:
        yield f"complete -c {program} -n '{first}; or __fish_seen_subcommand_from list remove' -f\n"


def _fish_value(name: str, action: argparse.Action) -> str:
    """What is proposed after an option: nothing, files, or words."""
    if action.nargs == 0:
        return ""
    if action.choices:
        return f" -xa '{' '.join(map(str, action.choices))}'"
    if name == "--voice":
        return f" -ra '({_NAMES})'"
    return " -x" if (action.metavar or action.dest.upper()) in _FREE else " -r"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"
