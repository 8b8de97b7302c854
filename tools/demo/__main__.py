"""Serve a page to try a network: pick an image, click points, move the propagation.

    python -m tools.demo --resume output/my_run          # then open http://127.0.0.1:7860
    python -m tools.demo --resume output/my_run --data_root data/nyudepth_hdf5
    python -m tools.demo --from tum rgbd_dataset_freiburg1_desk

Examples are frames of a recording (--from, docs/sensors.md), or validation frames of --data_root or
of the sample set where it has been made. Needs Gradio: pip install -r requirements-demo.txt.
"""

import importlib.metadata
import os
import socket
from pathlib import Path

from engine.checkpoint import shipped_network
from engine.cli import run_script
from engine.errors import OptionError, RunError
from engine.flags import command_parser
from inference.predictor import Predictor
from tools.demo.inputs import SAMPLE_ROOTS, example_frames, recording_frames

GRADIO = 6


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser("tools.demo", __doc__)
    add = parser.add_argument
    add("--resume", "-r", metavar="CHECKPOINT", help="file or folder (default pretrained/)")
    add("--data_root", metavar="DIR", help="data set whose val/ frames are examples")
    add("--from", dest="source", nargs=2, metavar=("KIND", "PATH"), help="recording of a sensor")
    add("--intrinsics", metavar="fx,fy,cx,cy", help="of a recording without its own, or a file")
    add("--examples", type=int, default=12, help="frames to pick from (default 12)")
    add("--host", default="127.0.0.1", help="address to serve on (default this machine's own)")
    add("--port", type=int, default=7860, help="port to listen on, 0 for a free one (default 7860)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    args = parser.parse_args(argv)
    if args.examples < 0:
        raise OptionError(f"--examples must not be negative, got {args.examples}")
    predictor = Predictor.from_checkpoint(args.resume or shipped_network(), device=args.device)
    check_gradio()
    root = args.data_root or SAMPLE_ROOTS[predictor.settings.data_set]
    examples = []
    if args.source and args.examples:
        kind, root = args.source
        options = {"count": args.examples, "intrinsics": args.intrinsics}
        examples = recording_frames(kind, Path(root), None, predictor.short_side, **options)
    elif args.examples and (args.data_root or Path(root).is_dir()):
        examples = example_frames(predictor, root, args.examples)
    bound = bind(args.host, args.port)

    # Imported late: without Gradio the sentences above are still given.
    from tools.demo.page import Page
    from tools.demo.server import serve

    port = bound.getsockname()[1]
    print(f"{predictor.checkpoint.path}: {len(examples)} examples of {root}", flush=True)
    print(f"open http://{args.host}:{port} (Ctrl+C stops)", flush=True)
    serve(Page(predictor, examples).build(), bound, args.host)


def check_gradio() -> None:
    """Raise RunError where Gradio is missing or too old."""
    advice = "pip install -r requirements-demo.txt"
    try:
        version = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError as error:
        raise RunError(f"the page needs Gradio, which is not installed: {advice}") from error
    if int(version.split(".")[0]) < GRADIO:
        raise RunError(f"the page needs Gradio {GRADIO}, got {version}: {advice}")


def bind(host: str, port: int) -> socket.socket:
    """Return a server socket at (host, port). Raises RunError: the address is taken, not this
    machine's, or no address."""
    if not 0 <= port <= 65535:
        raise OptionError(f"--port must lie in 0..65535, got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RunError(
            f"cannot listen on {host}, port {port}: {reason}; choose others with --host and --port"
        ) from error


if __name__ == "__main__":
    run_script(main)
