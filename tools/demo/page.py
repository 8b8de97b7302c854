"""The page itself: Gradio components, and what happens when one of them is touched.

Each visitor has a `Session`, kept by the server. Every handler changes it and draws it anew.
"""

import html
import threading
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from cspn import NORM_TYPES
from dataloaders import DataError
from inference.image_files import DEPTH_SUFFIXES
from inference.predictor import Predictor
from tools.demo import panels
from tools.demo.inputs import open_depth, open_image
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
        """The components, wired up."""
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
        self.gallery = gr.Gallery(
            [panels.thumbnail(frame) for frame in self.examples],
            label="Examples, with ground truth",
            show_label=False,
            columns=8,
            height=146,
            format="jpeg",
            allow_preview=False,
            interactive=False,
            buttons=[],
            object_fit="cover",
            elem_id="examples",
            visible=bool(self.examples),
        )
        with gr.Row():
            self.upload_image = gr.UploadButton(
                "Upload an image",
                file_types=["image"],
                size="sm",
                min_width=120,
                elem_id="upload-image",
            )
            self.upload_depth = gr.UploadButton(
                "Upload its depth map",
                file_types=list(DEPTH_SUFFIXES),
                size="sm",
                min_width=120,
                elem_id="upload-depth",
            )
        gr.HTML(_small(DEPTH_HELP))
        _title("2", "Measure points: click on the image, or sample")
        self.picture = gr.Image(
            show_label=False,
            label="The image and its points",
            interactive=False,
            format="jpeg",
            buttons=[],
            elem_id="picture",
        )
        self.message = gr.HTML("", elem_id="message")
        self._point_controls()

    def _point_controls(self) -> None:
        with gr.Row():
            self.source = gr.Radio(
                SOURCES, value=SOURCES[0], label="A click measures", min_width=200, elem_id="source"
            )
            self.depth = gr.Slider(
                0.1,
                MAX_DEPTH if self.predictor.settings.data_set == "kitti" else 10.0,
                2.0,
                step=0.05,
                label="this depth (m)",
                buttons=[],
                min_width=200,
                elem_id="depth",
            )
        with gr.Row():
            self.count = gr.Number(
                500,
                label="Points to sample",
                precision=0,
                minimum=0,
                maximum=MAX_POINTS,
                min_width=100,
                elem_id="count",
            )
            self.seed = gr.Number(
                0, label="Seed", precision=0, minimum=0, min_width=100, elem_id="seed"
            )
        with gr.Row():
            small = {"size": "sm", "min_width": 80}
            self.sample = gr.Button("Sample", variant="primary", elem_id="sample", **small)
            self.undo = gr.Button("Undo", elem_id="undo", **small)
            self.clear = gr.Button("Clear", elem_id="clear", **small)

    def _result_column(self) -> None:
        own, settable = own_settings(self.predictor), has_settings(self.predictor)
        _title("3", "Propagate" if settable else "Result: this network has no CSPN to set")
        self.steps = gr.Slider(
            0,
            MAX_STEPS,
            own.steps,
            step=1,
            label="Steps (0 is the coarse depth)"
            if settable
            else "Steps: this network has no CSPN",
            buttons=[],
            interactive=settable,
            elem_id="steps",
        )
        with gr.Row(elem_id="choices"):
            self.norm_type = gr.Radio(
                list(NORM_TYPES),
                value=own.norm_type,
                label="Normalisation",
                interactive=settable,
                min_width=150,
                elem_id="norm-type",
            )
            self.anchor = gr.Radio(
                ANCHOR_NAMES,
                value=own.anchor,
                label="Kept at the points",
                interactive=settable,
                min_width=150,
                elem_id="anchor",
            )
            self.view = gr.Radio(
                VIEWS, value=panels.ERROR, label="Last picture", min_width=150, elem_id="view"
            )
        self.results = gr.HTML("", elem_id="results")

    def _connect(self, blocks: gr.Blocks) -> None:
        controls = {self.session, self.steps, self.norm_type, self.anchor, self.view}
        drawn = [self.picture, self.results, self.message]
        common = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}

        def on(event: Callable, handler: Callable, *inputs: gr.components.Component) -> None:
            waiting = {"show_progress": "minimal", "show_progress_on": self.results}
            event(handler, {*controls, *inputs}, drawn, **waiting, **common)

        numbers = (self.count, self.seed)
        blocks.load(
            self._begin,
            {*controls, *numbers},
            [self.session, *drawn],
            show_progress="hidden",
            **common,
        )
        on(self.gallery.select, self._pick, *numbers)
        # The one event that may come before there is a session.
        self.upload_image.upload(
            self._open_image,
            {*controls, self.upload_image},
            [self.session, *drawn],
            show_progress="minimal",
            show_progress_on=self.results,
            **common,
        )
        on(self.upload_depth.upload, self._open_depth, self.upload_depth, *numbers)
        on(self.picture.select, self._click, self.source, self.depth)
        on(self.sample.click, self._sample, *numbers)
        on(self.undo.click, self._undo)
        on(self.clear.click, self._clear)
        for control in controls - {self.session}:
            # Only what the settings change is drawn again, and only the last of many moves.
            control.change(
                self._redraw,
                controls,
                [self.results, self.message],
                show_progress="hidden",
                trigger_mode="always_last",
                queue=False,
                api_visibility="private",
            )

    def _begin(self, values: dict) -> list:
        """A new visitor: the first example with points, or nothing yet."""
        if not self.examples:
            return [None, None, "", _note("Upload an image to begin.")]
        session = Session(self.predictor, self.examples[0])
        values[self.session] = session
        return [session, *self._after(values, self._sampling(values))]

    def _pick(self, values: dict, event: gr.SelectData) -> list:
        def act(session: Session) -> str:
            session.open(self.examples[event.index])
            return self._sampling(values)(session)

        return self._after(values, act)

    def _open_image(self, values: dict) -> list:
        try:
            frame = open_image(Path(values[self.upload_image]), self.predictor.short_side)
        except DataError as error:
            return [gr.skip(), gr.skip(), gr.skip(), _error(str(error))]
        values[self.session] = session = values[self.session] or Session(self.predictor, frame)

        def act(session: Session) -> str:
            session.open(frame)
            return (
                "No ground truth: a click measures the depth of the slider below. "
                "Upload the image's depth map to sample from it."
            )

        return [session, *self._after(values, act)]

    def _open_depth(self, values: dict) -> list:
        def act(session: Session) -> str:
            session.set_truth(open_depth(Path(values[self.upload_depth]), session.frame))
            return self._sampling(values)(session)

        return self._after(values, act)

    def _click(self, values: dict, event: gr.SelectData) -> list:
        def act(session: Session) -> str:
            row, column = panels.pixel_at(session.frame, *event.index)
            from_truth = values[self.source] == SOURCES[0] and session.frame.depth is not None
            depth = session.add_point(row, column, None if from_truth else values[self.depth])
            return f"Measured {depth:.2f} m at row {row}, column {column}."

        return self._after(values, act)

    def _sample(self, values: dict) -> list:
        return self._after(values, self._sampling(values))

    def _sampling(self, values: dict) -> Callable[[Session], str]:
        def act(session: Session) -> str:
            wanted, seed = values[self.count], values[self.seed]
            if wanted is None or seed is None:
                raise SessionError("Points and seed must be whole numbers.")
            drawn = session.sample_points(min(wanted, MAX_POINTS), seed)
            return f"{drawn} points sampled from the ground truth, seed {seed}."

        return act

    def _undo(self, values: dict) -> list:
        return self._after(values, lambda session: session.undo() or "Undone.")

    def _clear(self, values: dict) -> list:
        return self._after(values, lambda session: session.clear_points() or "No points.")

    def _redraw(self, values: dict) -> list:
        session = values[self.session]
        if session is None:
            return [gr.skip(), gr.skip()]
        with self.lock:
            return [self._results(session, values)[1], ""]

    def _after(self, values: dict, act: Callable[[Session], str]) -> list:
        """Let `act` change the session, then draw it: picture, results and a message."""
        session = values[self.session]
        if session is None:
            text = "Upload an image, or reload the page: it has been idle for too long."
            return [gr.skip(), gr.skip(), _error(text)]
        with self.lock:
            try:
                message = _note(act(session))
            except (SessionError, DataError) as error:
                message = _error(str(error))
            result, shown = self._results(session, values)
            ends = panels.depth_ends(session, result.coarse_depth)
            return [panels.points_picture(session, ends), shown, message]

    def _results(self, session: Session, values: dict) -> tuple[Result, str]:
        settings = Propagation(int(values[self.steps]), values[self.norm_type], values[self.anchor])
        result = session.result(settings)
        shown = panels.results_html(session, settings, result, values[self.view], self.refinement)
        return result, shown


def _title(number: str, text: str) -> None:
    gr.HTML(f"<h2><span>{number}</span>{text}</h2>")


def _small(text: str) -> str:
    return f'<p class="small">{html.escape(text)}</p>'


def _note(text: str) -> str:
    return f'<p class="note" role="status">{html.escape(text)}</p>' if text else ""


def _error(text: str) -> str:
    return f'<p class="error" role="alert">{html.escape(text)}</p>'
