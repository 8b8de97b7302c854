"""The tables of flags in docs/flags.md, made from the parsers of the scripts.

python -m tools.flag_tables            # print it
python -m tools.flag_tables --write    # put them into docs/flags.md

`engine.flags.add_flags` puts meaning, default and published value on every flag as data.
"""

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

from engine.cli import run_script

PAGE = Path(__file__).resolve().parent.parent / "docs" / "flags.md"
BEGIN, END = "<!-- flags: begin -->", "<!-- flags: end -->"
# Scripts that share most of their flags share their tables.
SCRIPTS = (("train", "eval"), ("predict",))


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return script name -> its parser, for every script of SCRIPTS."""
    names = [name for together in SCRIPTS for name in together]
    return {name: importlib.import_module(name).build_parser() for name in names}


def flag_tables() -> str:
    """Return the tables of all scripts, each set of them under its names."""
    known = parsers()
    sections = []
    for together in SCRIPTS:
        title = " and ".join(f"`{name}.py`" for name in together)
        sections += [f"### {title}", flag_table({name: known[name] for name in together})]
    return "\n\n".join(sections)


def flag_table(of_scripts: dict[str, argparse.ArgumentParser]) -> str:
    """Return a Markdown table for each group of flags: flag, default, meaning, published value.

    A flag that several scripts share is one row; a row that not all of them have names its own.
    """
    groups: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for script, parser in of_scripts.items():
        for group in parser._action_groups:
            for action in group._group_actions:
                if not isinstance(action, argparse._HelpAction):
                    rows = groups.setdefault(group.title, {})
                    rows.setdefault(row_of(action), []).append(f"`{script}.py`")
    lines = []
    for title, rows in groups.items():
        lines += [f"| {title} | default | meaning | published |", "|---|---|---|---|"]
        for (flag, default, meaning, published), scripts in rows.items():
            only = "" if len(scripts) == len(of_scripts) else f" ({', '.join(scripts)})"
            lines.append(f"| {flag} | {default} | {meaning}{only} | {published} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def row_of(action: argparse.Action) -> tuple[str, str, str, str]:
    """Return the four cells of one flag."""
    default = action.default
    if default is None:
        default = action.unset or ("required" if action.required else "none")
    elif isinstance(default, bool):
        default = "yes" if default else "no"
    default = f"`{default}`" if "<" in str(default) else str(default)  # not an HTML tag
    meaning = action.meaning
    if action.choices:
        meaning = f"{' / '.join(f'`{choice}`' for choice in action.choices)}: {meaning}"
    flags = ", ".join(f"`{flag}`" for flag in action.option_strings)
    return flags, default, meaning, action.published


def write_between(page: Path, begin: str, end: str, make: Callable[[], str]) -> None:
    """Replace what stands between two markers of a Markdown file."""
    before, rest = page.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    page.write_text(f"{before}{begin}\n{make()}\n{end}{after}", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/flags.md")
    args = parser.parse_args(argv)
    if args.write:
        write_between(PAGE, BEGIN, END, flag_tables)
    else:
        print(flag_tables())


if __name__ == "__main__":
    run_script(main)
