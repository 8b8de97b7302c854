"""README and docs/ hold: commands parse, code runs, links exist, the quick start starts."""

import argparse
import importlib.util
import itertools
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.checkpoint import save_checkpoint
from models import build_model
from tools.flag_tables import BEGIN, END, SCRIPTS, flag_table, flag_tables, parsers

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))


def blocks(language, page):
    """Return the fenced blocks of one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


PYTHON_BLOCKS = [block for page in PAGES for block in blocks("python", page)]


def commands():
    """Every command of the pages, from bash blocks and from inline code, as lists of words."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in blocks("bash", page):
            found += block.replace("\\\n", " ").splitlines()
        outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        found += [
            " ".join(code.split())
            for code in re.findall(r"`([^`]+)`", outside)
            if re.match(r"(python|bash|pip|torchrun) ", code)
        ]
    words = [shlex.split(line, comments=True) for line in found]
    return sorted({tuple(line) for line in words if line})


class Parsed(BaseException):
    """Raised in place of what a command does after its flags were read."""


@pytest.fixture
def only_parse(monkeypatch):
    """Make every parser stop the program once it has accepted the command line."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, args=None, namespace=None):
        parse(parser, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)

    def run(arguments):
        """`python ARGUMENTS`, up to the point where its flags have been accepted."""
        is_module = arguments[0] == "-m"
        name, flags = arguments[is_module], list(arguments[is_module + 1 :])
        monkeypatch.setattr(sys, "argv", [name, *flags])
        with pytest.raises(Parsed):
            if is_module:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(ROOT / name), run_name="__main__")

    return run


def test_there_are_commands_to_check():
    assert len(commands()) > 15
    assert ("bash", "train_cspn_nyu.sh") in commands()
    assert len(PYTHON_BLOCKS) >= 4


def test_the_readme_fits_two_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_one_that_its_parser_accepts(command, only_parse):
    program, *rest = command
    if "..." in rest:
        rest[rest.index("...")] = "CHECKPOINT"
    if program == "pip":
        assert rest[0] == "install"
        for option, value in itertools.pairwise(rest):
            assert option != "-r" or (ROOT / value).is_file(), value
        return
    if program == "torchrun":
        from torch.distributed.run import get_args_parser

        launched, _ = get_args_parser().parse_known_args(rest)
        only_parse([launched.training_script, *launched.training_script_args])
        return
    if program.endswith("python"):
        only_parse(rest)
        return
    assert program == "bash"
    script, *flags = rest
    assert (ROOT / script).is_file(), f"{script} does not exist"
    if script == "tests/run.sh":
        assert all((ROOT / flag).exists() for flag in flags), flags
        return
    if flags and flags[0] in ("8sum", "8sum_abs") and script.startswith("eval_"):
        flags = flags[1:]
    only_parse([f"{script.split('_')[0]}.py", *flags])


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("*.sh")))
def test_every_shell_script_is_valid_bash_and_hands_its_arguments_on_last(script):
    assert subprocess.run(["bash", "-n", script], cwd=ROOT).returncode == 0
    assert '"$@"' in (ROOT / script).read_text()


@pytest.fixture(scope="module")
def workplace(tiny_root, tmp_path_factory):
    """A folder with what the README's code asks for: frames, a checkpoint, exported networks."""
    from models.export import ONNX_PACKAGES, export_program, save_onnx, save_program

    folder = tmp_path_factory.mktemp("workplace")
    (folder / "data").mkdir()
    (folder / "data" / "sample_rooms").symlink_to(tiny_root)
    torch.manual_seed(0)
    model = build_model("resnet18", cspn_steps=2).eval()
    args = {"arch": "resnet18", "cspn_step": 2}
    state = {"args": args, "epoch": 1, "scores": {}, "model": model.state_dict()}
    for run in ("my_run", "sample_rooms_resnet18"):
        save_checkpoint(folder / "output" / run / "best_model.pth", state)
    text = "\n".join(PYTHON_BLOCKS)
    if "model.pt2" in text:
        program = export_program(model)
        save_program(program, folder / "model.pt2", {})
        if all(importlib.util.find_spec(name) for name in ONNX_PACKAGES):
            save_onnx(program, folder / "model.onnx", {"rgb_encoding": "released"})
    return folder


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_every_python_block_runs_as_it_stands(block, workplace, monkeypatch):
    for module in set(re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE)):
        if module in ("onnx", "onnxruntime"):
            pytest.importorskip(module, reason="requirements-export.txt is not installed")
    monkeypatch.chdir(workplace)
    if "model.onnx" in block and not Path("model.onnx").exists():
        pytest.skip("requirements-export.txt is not installed")
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_the_example_for_other_networks_trains_every_layer_and_any_channels():
    block = next(block for block in PYTHON_BLOCKS if "cross_entropy" in block)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["refined"].shape == (2, 21, 60, 80)
    for layer in ("features", "scores", "guidance"):
        for parameter in names[layer].parameters():
            assert parameter.grad.abs().sum() > 0, layer


def test_the_operator_is_importable_without_the_rest_of_the_project(tmp_path):
    """What `pip install .` copies, in a process that has neither data, network nor numba."""
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["setuptools"]["packages"] == ["cspn", "cspn.backends"]
    shutil.copytree(ROOT / "cspn", tmp_path / "cspn")
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "sys.modules.update(dict.fromkeys(['numba', 'triton', 'h5py', 'torchvision']))\n"
        "import torch, cspn\n"
        f"assert cspn.__file__.startswith({str(tmp_path)!r})\n"
        "guidance = torch.randn(1, 8, 9, 12, requires_grad=True)\n"
        "cspn.CSPN()(guidance, torch.rand(1, 5, 9, 12)).sum().backward()\n"
        "assert guidance.grad.isfinite().all()\n"
        "outside = {'models', 'engine', 'dataloaders', 'scipy', 'PIL'} & sys.modules.keys()\n"
        "assert not outside, outside\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def anchors(text):
    """The names GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_leads_to_something_that_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_the_flag_table_is_the_one_of_the_parsers():
    text = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
    shown = text.split(BEGIN)[1].split(END)[0].strip()
    assert shown == flag_tables(), "run: python -m tools.flag_tables --write"


@pytest.mark.parametrize("together", SCRIPTS, ids=" ".join)
def test_the_flag_table_has_every_flag_with_its_default_and_a_meaning(together):
    known = {name: parsers()[name] for name in together}
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in flag_table(known).splitlines()
        if line.startswith("| `")
    ]
    for parser in known.values():
        for action in parser._actions:
            for flag in action.option_strings:
                if flag in ("-h", "--help"):
                    continue
                mine = [row for row in rows if f"`{flag}`" in row[0].replace(" ", "").split(",")]
                assert mine, flag
                # Something is said besides the choices.
                assert all(len(row) == 4 and row[2].split("`:")[-1].strip() for row in mine), flag
                if isinstance(action.default, bool):
                    assert {row[1] for row in mine} == {"yes" if action.default else "no"}, flag
                elif action.default is not None:
                    assert str(action.default) in {row[1] for row in mine}, flag


def test_the_quick_start_trains_and_evaluates_on_a_fresh_clone(tmp_path):
    """`bash train_cspn_nyu.sh` without data, shortened: fewer rooms, one step."""
    for name in ("train.py", "eval.py", "train_cspn_nyu.sh"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for package in PACKAGES:  # with what numba has compiled
        (tmp_path / package).symlink_to(ROOT / package)
    script = tmp_path / "train_cspn_nyu.sh"
    text = script.read_text()
    assert "--n_train 208 --n_val 24" in text
    script.write_text(text.replace("--n_train 208 --n_val 24", "--n_train 2 --n_val 1"))
    shorter = "--max_steps 1 --num_epoch 1 --batch_size_train 2 --cspn_step 2 --num_workers 0"
    done = subprocess.run(
        ["bash", "train_cspn_nyu.sh", *shorter.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    for sentence in ("BUILT-IN SAMPLE ROOMS", "No GPU found", "2 train and 1 val", "done: best"):
        assert sentence in done.stdout, done.stdout
    assert re.search(r"^cspn_unet +\d", done.stdout, re.MULTILINE)
    run = tmp_path / "output" / "sample_rooms_resnet18"
    assert (run / "eval_result" / "summary.csv").is_file()
