"""Flags as data: fields of dataclasses whose metadata describe a flag completely.

The parsers, the table of flags (`tools.flag_tables`) and the rules of resumption are made from it.
A script's settings are one dataclass that inherits its groups (`engine.config`), so that a function
takes the groups that it reads.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import ClassVar, Self

from engine.errors import OptionError

MAX_SEED = 2**63 - 1  # what PyTorch's generators take
NOT_GIVEN = object()


class Resume(Enum):
    """Whose value a resumed run takes: the checkpoint's where the flag is not given, and"""

    FIXED = "the checkpoint's; another one is refused, since it changes what a number means"
    FRAMES = "the flag's if it names the same frames, as where the data have moved"
    FOLLOW = "the flag's, from the next step on"
    CALL = "the flag's or its default: it belongs to the machine and this call"


def read_number(
    text: str, *, kind: type, holds: Callable[[float], bool], expected: str
) -> int | float:
    """Read a number of a kind for which `holds` is true; argparse prints the sentence otherwise."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"must be {expected}, got {text}")
    return value


_whole = partial(read_number, kind=int)
whole = partial(_whole, holds=lambda v: v >= 0, expected="a whole number from 0 up")
count = partial(_whole, holds=lambda v: v >= 1, expected="a whole number from 1 up")
seed = partial(_whole, holds=lambda v: 0 <= v <= MAX_SEED, expected="a whole number in 0..2^63-1")
_real = partial(read_number, kind=float)
positive = partial(_real, holds=lambda v: 0 < v < float("inf"), expected="a positive number")
fraction = partial(_real, holds=lambda v: 0 <= v <= 1, expected="a number in 0..1")


def flag(default: object, help: str, *, resume: Resume, **options: object) -> dataclasses.Field:
    """Declare the flag of a dataclass's field.

    Args:
        resume: see `Resume`.
        options: `unit` of the value; `published`, the value of the published recipe; `unset`, what
            a default of None means, in words; `short`, further spellings; and those of `argparse`.
    """
    return dataclasses.field(default=default, metadata={"help": help, "resume": resume, **options})


fixed = partial(flag, resume=Resume.FIXED)
frames = partial(flag, resume=Resume.FRAMES)
followed = partial(flag, resume=Resume.FOLLOW)
of_call = partial(flag, resume=Resume.CALL)


@dataclass
class Settings:
    """Values of flags by name; a script's settings inherit the groups it has.

    DASHES: whether words of a flag may be joined by dashes too.
    """

    DASHES: ClassVar[bool] = False

    @classmethod
    def fields(cls) -> dict[str, dataclasses.Field]:
        """Return name -> field, in the groups' order."""
        return {field.name: field for base in cls.groups() for field in base._own_fields()}

    @classmethod
    def rules(cls) -> dict[str, Resume]:
        """Return name -> what a resumed run does with a flag."""
        return {name: field.metadata["resume"] for name, field in cls.fields().items()}

    @classmethod
    def groups(cls) -> list[type["Settings"]]:
        """Return the dataclasses with flags of their own, in the order of inheritance."""
        own = [base for base in cls.__mro__ if "TITLE" in vars(base)]
        return own[1:] + own[:1] if own and own[0] is cls else own

    @classmethod
    def _own_fields(cls) -> list[dataclasses.Field]:
        return [f for f in dataclasses.fields(cls) if f.name in cls.__annotations__]

    @classmethod
    def of(cls, *values: dict) -> Self:
        """Take each field from the last of `values` that has it, else its default; ignore the rest.
        Raise OptionError for a value that the flag would not take."""
        merged = {name: v for part in values for name, v in part.items() if name in cls.fields()}
        for name, value in merged.items():
            _check_value(cls.fields()[name], value)
        return cls(**merged)

    def to_dict(self) -> dict:
        """Return plain values by flag name, as args.json and the checkpoints hold them."""
        return dataclasses.asdict(self)


def _check_value(field: dataclasses.Field, value: object) -> None:
    """Raise OptionError for a value, of a file perhaps, that the command line would refuse."""
    name, rules = field.name, field.metadata
    if "nargs" in rules and isinstance(value, list):
        for one in value:
            _check_value(field, one)
    elif value is None and field.default is None:
        return
    elif choices := rules.get("choices"):
        if not isinstance(value, (str, int)) or value not in choices:
            words = ", ".join(map(str, choices))
            raise OptionError(f"{name} must be one of {words}, got {value!r}")
    elif read := rules.get("type"):
        try:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise argparse.ArgumentTypeError("must be a number")
            read(str(value))
        except argparse.ArgumentTypeError as error:
            raise OptionError(f"{name} is {value!r}, it {error}") from error
    elif not isinstance(value, bool if isinstance(field.default, bool) else str):
        raise OptionError(f"{name} is {value!r}, which is of another kind")


class _ReleaseModel(argparse.Action):
    """`--model`, the release's name for two values of `--refine`: "unet" is "none"."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)
        if values == "unet":
            namespace.refine = "none"
        elif getattr(namespace, "refine", None) in (None, NOT_GIVEN, "none"):
            namespace.refine = "cspn"


# The flag that stands for two values of another one.
_MODEL = {
    "help": "the release's name of --refine: unet is --refine none",
    "action": _ReleaseModel,
    "choices": ("cspn_unet", "unet"),
    "published": "cspn_unet",
}


def build_parser(
    description: str, settings: type[Settings] = Settings, **options: object
) -> argparse.ArgumentParser:
    """Return the parser of a script: its flags in groups, none of them abbreviated; `options` are
    of `argparse.ArgumentParser`."""
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
    )
    add_flags(parser, settings)
    return parser


def command_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of `python -m COMMAND`, with --debug, whose flags are not abbreviated."""
    parser = build_parser(description, prog=f"python -m {command}")
    parser.add_argument("--debug", action="store_true", help="full traceback on errors")
    return parser


def add_flags(parser: argparse.ArgumentParser, settings: type[Settings]) -> None:
    """Add the flags of every group that `settings` inherits."""
    for title_group in settings.groups():
        group = parser.add_argument_group(title_group.TITLE)
        if title_group.TITLE == "model":
            _add_flag(group, "model", "cspn_unet", **_MODEL)
        for field in title_group._own_fields():
            _add_flag(group, field.name, field.default, dashes=settings.DASHES, **field.metadata)


def _add_flag(
    group: argparse._ActionsContainer,
    name: str,
    default: object,
    *,
    help: str,
    resume: Resume | None = None,
    unit: str = "",
    published: str = "",
    unset: str = "",
    short: tuple[str, ...] = (),
    dashes: bool = False,
    **options: object,
) -> None:
    """Add a flag whose help ends with its unit, its default and its published value.

    `tools.flag_tables` reads `meaning`, `published` and `unset` of the action.
    """
    shown = unset or default
    if isinstance(default, bool):
        shown = "yes" if default else "no"
        options.setdefault("action", argparse.BooleanOptionalAction)
    ends = [f"default {shown}"] * (shown is not None)
    ends += [f"published {published}"] * bool(published)
    meaning = f"{help} [{unit}]" if unit else help
    text = f"{meaning} ({'; '.join(ends)})" if ends else meaning
    names = [f"--{name}", *short]
    if dashes and "_" in name:
        names.insert(1, names[0].replace("_", "-"))
    action = group.add_argument(*names, default=default, help=text.replace("%", "%%"), **options)
    action.meaning, action.published, action.unset = meaning, published, unset


def given_flags(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> dict:
    """Parse a command line; return the values of the flags that stand on it, by name."""
    names = {action.dest for action in parser._actions if action.dest != "help"}
    namespace = argparse.Namespace(**dict.fromkeys(names, NOT_GIVEN))
    parsed = vars(parser.parse_args(argv, namespace))
    return {name: value for name, value in parsed.items() if value is not NOT_GIVEN}
