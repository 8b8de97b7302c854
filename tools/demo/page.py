"""The page: Gradio components and the handlers of their events.

Each visitor has a `Session`, kept by the server. Every handler changes it and draws it anew.
"""

import html
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import gradio as gr

from cspn import NORM_TYPES
from dataloaders import DataError
from dataloaders.errors import counted
from inference.image_files import DEPTH_SUFFIXES
from inference.predictor import Predictor
from inference.sources import KINDS
from tools.demo import panels
from tools.demo.inputs import open_depth, open_image, open_recording
from tools.demo.session import (
    MAX_DEPTH,
    MAX_STEPS,
    Frame,
    Propagation,
    Result,
    Session,
    SessionError,
    has_settings,
    own_settings,
)

MAX_POINTS = 20_000
# An idle visitor's session is dropped after this many seconds.
IDLE_SECONDS = 3600
SOURCES = ["the ground truth", "this depth:"]
ANCHOR_NAMES = [("coarse depth", "coarse"), ("measurement", "sparse")]
VIEWS = [("error", panels.ERROR), ("refined − coarse", panels.CHANGE)]
DEPTH_HELP = "Depth: a 16-bit PNG in millimetres, or .npy, .npz or .csv in metres; 0 = none."
STYLE = Path(__file__).with_name("page.css")


class Page:
    """The page of one network.

    Args:
        predictor: the network, shared by all visitors; one event at a time runs it.
        examples: frames to pick from; the first is shown at the start.
    """

    def __init__(self, predictor: Predictor, examples: list[Frame]):
        self.predictor = predictor
        self.examples = examples
        self.refinement = predictor.settings.refine
        # One at a time: visitors share the network and its processor.
        self.lock = threading.Lock()

    def build(self) -> gr.Blocks:
        """Return the page: its components and their events."""
        with gr.Blocks(
            title="CSPN depth completion",
            analytics_enabled=False,
            fill_width=True,
            delete_cache=(IDLE_SECONDS, IDLE_SECONDS),
        ) as blocks:
            self.session = gr.State(None, time_to_live=IDLE_SECONDS)
            gr.HTML(self._heading(), elem_id="heading")
            with gr.Row(equal_height=False):
                with gr.Column(scale=5, min_width=320):
                    self._image_column()
                with gr.Column(scale=6, min_width=320):
                    self._result_column()
            self._connect(blocks)
        return blocks

    def _heading(self) -> str:
        checkpoint, settings = self.predictor.checkpoint, self.predictor.settings
        trained = f", epoch {checkpoint.epoch}" if checkpoint.epoch else ""
        return (
            "<header><h1>CSPN depth completion</h1><p>An image and a few measured points in, dense "
            f"depth out. Network: {settings.arch}, refinement {self.refinement}, "
            f"{checkpoint.kind} checkpoint{trained}, on {self.predictor.device}.</p></header>"
        )

    def _image_column(self) -> None:
        _title("1", "Choose an image")
        still = {"show_label": False, "interactive": False, "buttons": [], "format": "jpeg"}
        self.gallery = gr.Gallery(
            [panels.thumbnail(frame) for frame in self.examples],
            label="Examples, with ground truth",
            columns=8,
            height=146,
            allow_preview=False,
            object_fit="cover",
            elem_id="examples",
            visible=bool(self.examples),
            **still,
        )
        small = {"size": "sm", "min_width": 120}
        with gr.Row():
            self.upload_image = gr.UploadButton(
                "Upload an image", file_types=["image"], elem_id="upload-image", **small
            )
            self.upload_depth = gr.UploadButton(
                "Upload its depth map",
                file_types=list(DEPTH_SUFFIXES),
                elem_id="upload-depth",
                **small,
            )
        gr.HTML(_small(DEPTH_HELP))
        with gr.Accordion("A frame of a recording", open=False), gr.Row():
            self.kind = gr.Dropdown(list(KINDS), value="tum", label="Kind", min_width=100)
            self.frame = gr.Number(0, label="Frame", precision=0, minimum=0, min_width=80)
            self.intrinsics = gr.Textbox(label="fx,fy,cx,cy (if it has none)", min_width=160)
            self.upload_recording = gr.UploadButton(
                "Upload a .zip, bag or .r3d", elem_id="upload-recording", **small
            )
        _title("2", "Measure points: click on the image, or sample")
        self.picture = gr.Image(label="The image and its points", elem_id="picture", **still)
        self.message = gr.HTML("", elem_id="message")
        self._point_controls()

    def _point_controls(self) -> None:
        farthest = MAX_DEPTH if self.predictor.settings.data_set == "kitti" else 10.0
        wide, whole = {"min_width": 200}, {"precision": 0, "minimum": 0, "min_width": 100}
        with gr.Row():
            self.source = gr.Radio(
                SOURCES, value=SOURCES[0], label="A click measures", elem_id="source", **wide
            )
            span = {"minimum": 0.1, "maximum": farthest, "value": 2.0, "step": 0.05, "buttons": []}
            self.depth = gr.Slider(label="this depth (m)", elem_id="depth", **span, **wide)
        with gr.Row():
            self.count = gr.Number(
                500, label="Points to sample", maximum=MAX_POINTS, elem_id="count", **whole
            )
            self.seed = gr.Number(0, label="Seed", elem_id="seed", **whole)
        small = {"size": "sm", "min_width": 80}
        with gr.Row():
            self.sample = gr.Button("Sample", variant="primary", elem_id="sample", **small)
            self.undo = gr.Button("Undo", elem_id="undo", **small)
            self.clear = gr.Button("Clear", elem_id="clear", **small)

    def _result_column(self) -> None:
        own, settable = own_settings(self.predictor), has_settings(self.predictor)
        _title("3", "Propagate" if settable else "Result: this network has no CSPN to set")
        meaning = "0 is the coarse depth" if settable else "this network has no CSPN"
        span = {"minimum": 0, "maximum": MAX_STEPS, "value": own.steps, "step": 1, "buttons": []}
        self.steps = gr.Slider(
            label=f"Steps ({meaning})", interactive=settable, elem_id="steps", **span
        )
        with gr.Row(elem_id="choices"):

            def choice(label: str, choices: Sequence, value: str, **style) -> gr.Radio:
                return gr.Radio(choices, value=value, label=label, min_width=150, **style)

            self.norm_type = choice(
                "Normalisation", NORM_TYPES, own.norm_type, interactive=settable
            )
            self.anchor = choice(
                "Kept at the points", ANCHOR_NAMES, own.anchor, interactive=settable
            )
            self.view = choice("Last picture", VIEWS, panels.ERROR, elem_id="view")
        shown = {"show_label": False, "interactive": False, "buttons": []}
        self.results = gr.Image(format="png", elem_id="results", **shown)
        self.numbers = gr.Dataframe(elem_id="numbers", **shown)
        self.about = gr.HTML("", elem_id="about")

    def _connect(self, blocks: gr.Blocks) -> None:
        controls = {self.session, self.steps, self.norm_type, self.anchor, self.view}
        results = [self.results, self.numbers, self.about, self.message]
        private = {"api_visibility": "private"}

        def on(event: Callable, handler: Callable, *inputs: gr.components.Component) -> None:
            event(
                handler,
                {*controls, *inputs},
                [self.session, self.picture, *results],
                show_progress="minimal",
                show_progress_on=self.results,
                concurrency_id="network",
                concurrency_limit=1,
                **private,
            )

        numbers = (self.count, self.seed)
        on(blocks.load, self._begin, *numbers)
        on(self.gallery.select, self._pick, *numbers)
        on(self.upload_image.upload, self._open_image, self.upload_image)
        on(self.upload_depth.upload, self._open_depth, self.upload_depth, *numbers)
        recording = (self.kind, self.frame, self.intrinsics, self.upload_recording, *numbers)
        on(self.upload_recording.upload, self._open_recording, *recording)
        on(self.frame.submit, self._open_recording, *recording)
        on(self.picture.select, self._click, self.source, self.depth)
        on(self.sample.click, self._sample, *numbers)
        on(self.undo.click, self._undo)
        on(self.clear.click, self._clear)
        # Only what the settings change is drawn again, and only the last of many moves.
        latest = {"show_progress": "hidden", "trigger_mode": "always_last", "queue": False}
        changes = [control.change for control in controls - {self.session}]
        gr.on(changes, self._redraw, controls, results, **latest, **private)

    def _begin(self, values: dict) -> dict:
        """Open a visit: the first example with points, or nothing yet."""
        if not self.examples:
            return {self.message: _message("Upload an image to begin.")}
        return self._open(values, lambda: self.examples[0], self._sampling(values))

    def _pick(self, values: dict, event: gr.SelectData) -> dict:
        return self._open(values, lambda: self.examples[event.index], self._sampling(values))

    def _open_image(self, values: dict) -> dict:
        text = (
            "No ground truth: a click measures the depth of the slider below. "
            "Upload the image's depth map to sample from it."
        )
        path = Path(values[self.upload_image])
        read = partial(open_image, path, self.predictor.short_side)
        return self._open(values, read, lambda session: text)

    def _open_recording(self, values: dict) -> dict:
        if not values[self.upload_recording]:
            return {self.message: _message("Upload a recording first.", "error")}
        read = partial(
            open_recording,
            values[self.kind],
            Path(values[self.upload_recording]),
            int(values[self.frame] or 0),
            self.predictor.short_side,
            values[self.intrinsics] or "",
        )
        return self._open(values, read, self._sampling(values))

    def _open(self, values: dict, read: Callable[[], Frame], act: Callable[[Session], str]) -> dict:
        """Show the frame that `read` returns, and let `act` change the session then."""
        try:
            frame = read()
        except DataError as error:
            return {self.message: _message(str(error), "error")}
        session = values[self.session] or Session(self.predictor, frame)
        return self._after(
            values | {self.session: session}, lambda session: session.open(frame) or act(session)
        )

    def _open_depth(self, values: dict) -> dict:
        def act(session: Session) -> str:
            session.set_truth(open_depth(Path(values[self.upload_depth]), session.frame))
            return self._sampling(values)(session)

        return self._after(values, act)

    def _click(self, values: dict, event: gr.SelectData) -> dict:
        def act(session: Session) -> str:
            row, column = panels.pixel_at(session.frame, *event.index)
            from_truth = values[self.source] == SOURCES[0] and session.frame.depth is not None
            depth = session.add_point(row, column, None if from_truth else values[self.depth])
            return f"Measured {depth:.2f} m at row {row}, column {column}."

        return self._after(values, act)

    def _sample(self, values: dict) -> dict:
        return self._after(values, self._sampling(values))

    def _sampling(self, values: dict) -> Callable[[Session], str]:
        def act(session: Session) -> str:
            wanted, seed = values[self.count], values[self.seed]
            if wanted is None or seed is None:
                raise SessionError("Points and seed must be whole numbers.")
            drawn = session.sample_points(min(wanted, MAX_POINTS), seed)
            return f"{counted(drawn, 'point')} sampled from the ground truth, seed {seed}."

        return act

    def _undo(self, values: dict) -> dict:
        return self._after(values, lambda session: session.undo() or "Undone.")

    def _clear(self, values: dict) -> dict:
        return self._after(values, lambda session: session.clear_points() or "No points.")

    def _redraw(self, values: dict) -> dict:
        """Draw the results alone: the settings moved, the points did not."""
        session = values[self.session]
        if session is None:
            return {self.message: gr.skip()}
        with self.lock:
            return self._results(session, values)[1] | {self.message: ""}

    def _after(self, values: dict, act: Callable[[Session], str]) -> dict:
        """Let `act` change the session, then draw it: picture, results and a message."""
        session = values[self.session]
        if session is None:
            text = "Upload an image, or reload the page: it has been idle for too long."
            return {self.message: _message(text, "error")}
        with self.lock:
            try:
                message = _message(act(session))
            except (SessionError, DataError) as error:
                message = _message(str(error), "error")
            result, shown = self._results(session, values)
            ends = panels.depth_ends(session, result.coarse_depth)
            picture = panels.points_picture(session, ends)
            drawn = {self.session: session, self.picture: picture, self.message: message}
            return shown | drawn

    def _results(self, session: Session, values: dict) -> tuple[Result, dict]:
        """Return the result under the page's settings, and what the components show of it."""
        settings = Propagation(int(values[self.steps]), values[self.norm_type], values[self.anchor])
        result = session.result(settings)
        maps = panels.result_panels(session, settings, result, values[self.view], self.refinement)
        return result, {
            self.results: panels.results_picture(*maps),
            self.numbers: panels.numbers(result),
            self.about: _small(panels.about(session, settings, result)),
        }


def _title(number: str, text: str) -> None:
    gr.HTML(f"<h2><span>{number}</span>{text}</h2>")


def _small(text: str) -> str:
    return f'<p class="small">{html.escape(text)}</p>'


def _message(text: str, kind: str = "note") -> str:
    role = "alert" if kind == "error" else "status"
    return f'<p class="{kind}" role="{role}">{html.escape(text)}</p>'
