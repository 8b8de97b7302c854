"""The command line of a sample set, `python -m sample_data.rooms` or `sample_data.streets`."""

from functools import partial
from pathlib import Path
from typing import NoReturn

from engine.cli import run_script
from engine.flags import command_parser
from sample_data.sample_set import SampleSet

INTERRUPTED = "Interrupted; the same command goes on where this one stopped."


def main(kind: SampleSet, argv: list[str] | None = None) -> None:
    """Make the missing frames of a set, and a contact sheet if asked for."""
    text = f"Makes a set of {kind.name} in the layout of {kind.layout}."
    parser = command_parser(kind.package, text)
    add = parser.add_argument
    add("--root", required=True, metavar="DIR", help="folder of the set, new or made by this")
    begun, per_scene = "default: as begun, {} in a new folder", kind.val_frames_per_scene
    for name, default, text in (
        ("n_train", None, f"train frames ({begun.format(kind.n_train)})"),
        ("n_val", None, f"val frames, {per_scene} per scene ({begun.format(kind.n_val)})"),
        ("frames_per_scene", kind.frames_per_scene, "train frames per scene (default %(default)s)"),
        ("seed", 0, "seed of the whole set (default %(default)s)"),
        ("workers", None, "processes (default: one per CPU core)"),
    ):
        add(f"--{name}", type=int, default=default, help=text)
    add("--contact_sheet", metavar="PATH", help="also write an overview, PNG (default none)")
    flags = vars(parser.parse_args(argv))
    root, sheet, _ = Path(flags.pop("root")), flags.pop("contact_sheet"), flags.pop("debug")
    made = kind.generate(root, **flags)
    counts = [len(list(root.glob(f"{split}/*/*.h5"))) for split in ("train", "val")]
    print(f"{root}: {made} frames written, now {counts[0]} train and {counts[1]} val")
    if sheet:
        # Imported here, since its libraries take longer to load than a frame to render.
        from sample_data.contact_sheet import contact_sheet

        contact_sheet(kind, root, sheet)
        print(f"{sheet}: contact sheet")


def run(kind: SampleSet) -> NoReturn:
    """Run the command and end the process: 0 done, 2 refused, 130 interrupted."""
    run_script(partial(main, kind), interrupted=INTERRUPTED)
