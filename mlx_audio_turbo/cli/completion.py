"""Completion of a command's options for bash, zsh and fish, made of its parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

_BASH = """\
# eval "$({program} --print_completion bash)"
_{function}() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  COMPREPLY=()
  case "$before" in
{cases}  esac
  if [[ "$word" == -* || $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W "{words}" -- "$word"))
  fi
}}
complete -o default -F _{function} {program}
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What to evaluate in ``shell`` (bash, zsh or fish)."""
    if shell == "fish":
        return "".join(_fish(parser))
    function = re.sub(r"\W", "_", parser.prog)
    words, cases = [], []
    for command, action in _actions(parser):
        words += [name for name in action.option_strings if name.startswith("--")]
        if command and command not in words:
            words.append(command)
        if action.option_strings and action.choices:
            names = "|".join(action.option_strings)
            chosen = " ".join(map(str, action.choices))
            line = f'    {names}) COMPREPLY=($(compgen -W "{chosen}" -- "$word")); return;;\n'
            if line not in cases:
                cases.append(line)
    text = _BASH.format(
        program=parser.prog,
        function=function,
        cases="".join(cases),
        words=" ".join(dict.fromkeys(words)),
    )
    return _ZSH + text if shell == "zsh" else text


def _fish(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"# {parser.prog} --print_completion fish | source\n"
    commands: list[str] = []
    for command, action in _actions(parser):
        if command and command not in commands:
            commands.append(command)
            yield f"complete -c {parser.prog} -n __fish_use_subcommand -a {command}\n"
        for name in action.option_strings:
            if not name.startswith("--"):
                continue
            line = f"complete -c {parser.prog} -l {name[2:]}"
            if command:
                line += f" -n '__fish_seen_subcommand_from {command}'"
            if action.nargs != 0:
                line += " -r"
            if action.choices:
                line += f" -fa '{' '.join(map(str, action.choices))}'"
            text = (action.help or "") % {"default": action.default}
            yield line + " -d '" + text.replace("'", "\\'") + "'\n"


def _actions(
    parser: argparse.ArgumentParser, command: str = ""
) -> Iterator[tuple[str, argparse.Action]]:
    """Every option, with the command that it belongs to."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _actions(inner, name)
        elif action.help != argparse.SUPPRESS:
            yield command, action
