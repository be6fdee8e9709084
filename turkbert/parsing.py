"""A flat JSON file or a command line -> the keys that were given, of any dataclasses, with values of their types.

    @dataclass
    class Walk:
        num_steps: int = key(10, "how far")

    parse_keys([Walk], {}, ["walk.json", "--num_steps", "12"])    # {"num_steps": 12}
    parse_keys([Walk], {}, ["--steps", "12"])    # UserError: unknown key 'steps'; did you mean 'num_steps'?
"""

import argparse
import dataclasses
import difflib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from turkbert.errors import UserError, config_error
from turkbert.redaction import holds_secret

NO_SECRETS = "a token never goes into a file or a command line: set HF_TOKEN or run `hf auth login`"
Groups = Sequence[Any]  # dataclasses
_MAX_CONFIG_BYTES = 1_000_000


def key(default: Any, help: str) -> Any:
    """A field of a dataclass that is a key: its default and what --help says of it."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


def field_default(group: type, name: str) -> Any:
    """The default of one key of a dataclass."""
    found = next(f for f in fields(group) if f.name == name)
    return found.default if found.default is not dataclasses.MISSING else found.default_factory()


def known_keys(groups: Groups) -> set[str]:
    """The names of all keys of these dataclasses."""
    return {f.name for group in groups for f in fields(group)}


def parse_keys(
    groups: Groups,
    refused: dict[str, str],
    argv: list[str] | None = None,
    description: str | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """[CONFIG.json] [--key value ...] -> the keys that were given; the command line wins.

    Args:
        groups: the dataclasses whose fields are the keys.
        refused: keys of theirs that may not be given, each with the reason.
        extra: defaults of keys that one script alone has, on its command line; they are always among what comes back.

    Raises:
        UserError: with exit code 3, naming the key and, where it is unknown, the nearest known one.
    """
    extra = extra or {}
    parser = _make_parser(groups, refused, description, extra)
    argv = _complete_flags(sys.argv[1:] if argv is None else argv, extra)
    _refuse((word[2:].split("=")[0] for word in argv if word.startswith("--")), refused)  # whatever the value
    namespace, unknown = parser.parse_known_args(argv)
    given = {**extra, **vars(namespace)}
    config = given.pop("config", None)
    if unknown:
        raise _unknown_key("command line", unknown[0], {*known_keys(groups), *extra})
    if config is not None:
        path = Path(config)
        given = {**parse_settings(read_json_object(path), path, parser, groups, refused), **given}
    _refuse(given, refused)  # once more, for the --no_ forms
    for name, value in given.items():
        if holds_secret(value):
            raise config_error(name, "holds a token or a secret", NO_SECRETS)
    return given


class _Parser(HfArgumentParser):
    def error(self, message: str):
        raise config_error("command line", message, "see --help")


def _make_parser(
    groups: Groups, refused: dict[str, str], description: str | None, extra: dict[str, Any]
) -> _Parser:
    usage = "%(prog)s [CONFIG.json] [--key value ...]"  # argparse itself would name all keys first
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser([*groups], description=description, usage=usage, formatter_class=form, allow_abbrev=False)
    parser.add_argument("config", nargs="?", metavar="CONFIG.json", help="flat JSON file of the keys below")
    for name, default in extra.items():
        flag = {"type": string_to_bool, "nargs": "?", "const": True}
        parser.add_argument(f"--{name}", **(flag if isinstance(default, bool) else {"type": type(default)}))
    for action in parser._actions:  # the dataclasses hold the defaults; the namespace holds what was given
        if action.dest in refused:
            action.help = argparse.SUPPRESS
        elif action.help and action.nargs != 0 and action.default not in (None, "", []):
            action.help += f" ({_shown(action.default)})".replace("%", "%%")
        action.default = argparse.SUPPRESS
    return parser


def _shown(default: Any) -> str:
    """A default as it is typed."""
    if isinstance(default, list):
        return " ".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(getattr(default, "value", default))


def _complete_flags(argv: list[str], extra: dict[str, Any]) -> list[str]:
    """--debug -> --debug=true: a bare flag must not take the config for its value."""
    flags = {"--debug", *(f"--{name}" for name, default in extra.items() if isinstance(default, bool))}
    bare = [word in flags and argv[i + 1 : i + 2] not in (["true"], ["false"]) for i, word in enumerate(argv)]
    return [f"{word}=true" if is_bare else word for word, is_bare in zip(argv, bare, strict=True)]


def _refuse(names: Iterable[str], refused: dict[str, str]) -> None:
    for name in names:
        if name in refused:
            raise config_error(name, "this key is refused", refused[name])


def _unknown_key(where: str | os.PathLike, name: str, known: Iterable[str]) -> UserError:
    name = name.split("=")[0].lstrip("-")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return config_error(where, f"unknown key '{name}'", f"did you mean '{near[0]}'?")


def read_json_object(path: Path) -> dict[str, Any]:
    """A user's JSON file that holds one object.

    Raises:
        UserError: it is missing, too large, or anything else.
    """
    if path.suffix != ".json":
        raise config_error(path, "a config is a flat .json file", "name one, or write keys as --key value")
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise config_error(path, f"over {_MAX_CONFIG_BYTES:,} bytes", "a config has a line for each key")
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise config_error(path, "no such file", f"the current folder is {Path.cwd().name}/") from None
    except (OSError, ValueError, RecursionError) as error:
        raise config_error(path, f"not readable as JSON ({error})", "mend the file") from None
    if not isinstance(settings, dict):
        raise config_error(path, "not a JSON object", "write {\"key\": value, ...}")
    return settings


def parse_settings(
    settings: dict[str, Any], path: Path, parser: HfArgumentParser, groups: Groups, refused: dict[str, str]
) -> dict[str, Any]:
    """The object of the config file `path` -> its keys, parsed and checked as those of a command line are.

    Raises:
        UserError: a key is unknown or refused, or its value is of another type.
    """
    _refuse(settings, refused)
    words, wordless = _as_words(settings, path, groups)
    try:
        parsed = vars(parser.parse_args(words))
    except UserError as error:
        raise config_error(path, error.what, "mend the file") from None
    for name, value in parsed.items():
        if name not in settings:
            raise config_error(path, f"a value reads as the key --{name}", "write it without the dashes")
        _check_type(name, settings[name], value, path)
    return {**wordless, **parsed}


def _as_words(settings: dict[str, Any], path: Path, groups: Groups) -> tuple[list[str], dict[str, Any]]:
    """The words that say the settings on a command line, and those that cannot be said there: null and []."""
    words: list[str] = []
    wordless: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known_keys(groups):
            raise _unknown_key(path, name, known_keys(groups))
        if value is None:
            if name not in _optional_keys(groups):
                raise config_error(path, f"{name} is null", "give a value, or leave the key out")
            wordless[name] = None
        elif value == []:  # whether it means anything is for the rules of that key to say
            if name not in _keys_of(list, groups):
                raise config_error(path, f"{name} is []", "give a value, or leave the key out")
            wordless[name] = value
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        elif isinstance(value, dict):
            if name not in _keys_of(dict, groups):
                raise config_error(path, f"{name} is a JSON object", "give a plain value")
            words += [f"--{name}={json.dumps(value)}"]
        else:
            words += [f"--{name}={str(value).lower() if isinstance(value, bool) else value}"]
    return words, wordless


def _check_type(name: str, given: Any, parsed: Any, path: Path) -> None:
    """The parser reads "256" as 256; in a file the types are there to be right."""
    single = parsed[0] if isinstance(parsed, list) else parsed  # "corpus": "a.txt" stands for ["a.txt"]
    same_kind = isinstance(given, bool) == isinstance(single, bool)  # 1 == True, but not here
    if not isinstance(given, dict) and (given not in (parsed, single) or not same_kind):
        kind = type(single).__name__
        raise config_error(path, f"{name} is {json.dumps(given)}", f"write it as {kind}, without quotes")


def _optional_keys(groups: Groups) -> set[str]:
    hints = {name: hint for group in groups for name, hint in get_type_hints(group).items()}
    return {name for name, hint in hints.items() if type(None) in get_args(hint)}


def _keys_of(kind: type, groups: Groups) -> set[str]:
    """The keys whose values may be a list, or a dict."""
    hints = {name: hint for group in groups for name, hint in get_type_hints(group).items()}
    parts = {name: (hint, *get_args(hint)) for name, hint in hints.items()}
    return {name for name, some in parts.items() if kind in (*some, *map(get_origin, some))}
