"""The page to try a network: what it computes, what it shows, and the page in a real browser."""

import importlib.metadata
import importlib.util
import io
import json
import re
import shutil
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import recordings
import torch
from PIL import Image

from dataloaders import DataError
from dataloaders.sampling import resize_points
from engine.checkpoint import CheckpointError, save_checkpoint
from engine.errors import RunError
from inference.predictor import Predictor
from models import build_model
from tools.demo import __main__ as command
from tools.demo import panels
from tools.demo.inputs import (
    MAX_FRAME_PIXELS,
    example_frames,
    open_depth,
    open_image,
    open_recording,
    recording_frames,
)
from tools.demo.session import (
    MAX_STEPS,
    Frame,
    Propagation,
    Session,
    SessionError,
    has_settings,
    own_settings,
)
from visualize.pictures import FOOT_HEIGHT, GAP, LABEL_HEIGHT

ROOT = Path(__file__).resolve().parent.parent
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


def make_predictor(**settings):
    torch.manual_seed(3)
    return Predictor(build_model("resnet18", **settings), resize="none")


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


@pytest.fixture
def frame():
    rng = np.random.default_rng(5)
    rgb = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    depth = (2 + np.mgrid[:64, :96][1] / 50).astype(np.float32)
    depth[:8, :8] = 0
    return Frame("plane", rgb, depth)


@pytest.fixture
def session(predictor, frame):
    return Session(predictor, frame)


@pytest.fixture
def network_runs(predictor):
    """A list that grows by one whenever the network's encoder runs."""
    runs = []
    handle = predictor.model.encoder.register_forward_hook(lambda *_: runs.append(1))
    yield runs
    handle.remove()


def test_a_click_measures_the_pixel_under_it(session, frame):
    picture = panels.points_picture(session, (1, 4))
    scale = picture.shape[0] // 64
    assert scale > 1 and picture.shape == (64 * scale, 96 * scale, 3)
    for x, y in ((30 * scale, 20 * scale), (31 * scale - 1, 21 * scale - 1)):
        assert panels.pixel_at(frame, x, y) == (20, 30)
    measured = session.add_point(*panels.pixel_at(frame, 30 * scale + 1, 20 * scale + 2))
    assert measured == frame.depth[20, 30] == np.float32(2.6)
    assert session.sparse_depth[20, 30] == np.float32(2.6) and session.n_points == 1
    drawn = panels.points_picture(session, (1, 4))
    at = (20 * scale + scale // 2, 30 * scale + scale // 2)
    color = panels.colorize(np.array([[2.6]], np.float32), 1, 4)[0, 0]
    assert np.array_equal(drawn[at], color) and not np.array_equal(picture[at], color)


def test_points_take_the_given_depth_and_refuse_what_is_impossible(session, frame):
    assert session.add_point(20, 30, 1.25) == 1.25 and session.sparse_depth[20, 30] == 1.25
    for arguments, part in (
        ((64, 0), "outside the image of 64x96"),
        ((0, -1), "outside the image"),
        ((2, 2), "has a hole there"),
        ((9, 9, 0.0), "must lie in 0..100 m, got 0"),
        ((9, 9, float("nan")), "must lie in 0..100 m"),
    ):
        with pytest.raises(SessionError, match=re.escape(part)):
            session.add_point(*arguments)
    assert session.n_points == 1
    session.open(Frame("no truth", frame.rgb))
    with pytest.raises(SessionError, match="no ground truth"):
        session.add_point(9, 9)
    with pytest.raises(SessionError, match="no depth map"):
        session.sample_points(10, 0)


def test_samples_follow_the_seed_and_come_from_the_ground_truth(session, frame):
    assert session.sample_points(50, seed=1) == 50
    first = session.sparse_depth
    assert np.array_equal(first[first > 0], frame.depth[first > 0])
    session.sample_points(50, seed=2)
    assert not np.array_equal(first, session.sparse_depth)
    session.sample_points(50, seed=1)
    assert np.array_equal(first, session.sparse_depth)
    assert session.sample_points(10**6, seed=1) == (frame.depth > 0).sum()


def test_undo_takes_back_one_change_at_a_time(session):
    session.sample_points(20, seed=0)
    session.add_point(40, 40, 3.0)
    session.clear_points()
    assert session.n_points == 0
    session.undo()
    assert session.sparse_depth[40, 40] == 3
    session.undo()
    session.undo()
    assert session.n_points == 0
    with pytest.raises(SessionError, match="nothing to undo"):
        session.undo()


@pytest.mark.parametrize(
    "settings",
    [Propagation(), Propagation(7, "8sum_abs", "sparse"), Propagation(48, "8sum", "sparse")],
)
def test_the_depth_is_that_of_the_networks_own_forward(session, predictor, frame, settings):
    session.sample_points(60, seed=0)
    shown = session.result(settings)
    model = build_model(
        "resnet18",
        cspn_steps=settings.steps,
        cspn_norm_type=settings.norm_type,
        cspn_anchor=settings.anchor,
    )
    model.load_state_dict(predictor.model.state_dict())
    own = Predictor(model, resize="none")(frame.rgb, session.sparse_depth)
    assert np.array_equal(shown.refined_depth, own.depth)
    assert np.array_equal(shown.coarse_depth, own.coarse_depth)
    error = (own.depth - frame.depth)[frame.depth > 0]
    assert shown.scores["refined"]["RMSE"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    assert shown.scores["refined"]["MAE"] == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_moving_the_propagation_never_runs_the_network(session, network_runs):
    session.sample_points(60, seed=0)
    refined = [session.result(Propagation(steps)).refined_depth for steps in range(MAX_STEPS + 1)]
    session.result(Propagation(norm_type="8sum_abs", anchor="sparse"))
    assert len(network_runs) == 1
    assert np.array_equal(refined[0], session.result(Propagation(0)).coarse_depth)
    assert all(not np.array_equal(a, b) for a, b in pairwise(refined))
    session.add_point(30, 30)
    changed = session.result(Propagation())
    assert len(network_runs) == 2 and not np.array_equal(changed.refined_depth, refined[24])
    session.undo()
    assert np.array_equal(session.result(Propagation()).refined_depth, refined[24])
    with pytest.raises(SessionError, match=r"0\.\.48"):
        session.result(Propagation(49))


@pytest.mark.parametrize("refine", ["spn", "none"])
def test_networks_without_cspn_have_nothing_to_set(frame, refine):
    predictor = make_predictor(refine=refine)
    session = Session(predictor, frame)
    session.sample_points(60, seed=0)
    own = predictor(frame.rgb, session.sparse_depth)
    assert not has_settings(predictor) and own_settings(predictor) == Propagation()
    result = session.result(Propagation(3))
    assert np.array_equal(result.refined_depth, own.depth)
    assert np.array_equal(own.depth, own.coarse_depth) == (refine == "none")


def shown(session, settings=None, view=panels.ERROR):
    """First word of each panel's label -> its pixels, and the colour bars' ends."""
    settings = settings or Propagation()
    result = session.result(settings)
    maps, bars = panels.result_panels(session, settings, result, view, "cspn")
    return {label.split()[0]: pixels for label, pixels in maps.items()}, [bar.ends for bar in bars]


def test_the_colour_scale_stays_while_the_steps_move(session):
    session.sample_points(60, seed=0)
    pictures, ends = zip(*(shown(session, Propagation(n)) for n in (0, 5, 30)), strict=True)
    assert ends[0] == ends[1] == ends[2] and len(ends[0]) == 2
    none, few, many = pictures
    assert list(none) == ["Coarse", "Refined", "Ground", "Error,"]
    assert np.array_equal(none["Refined"], none["Coarse"])
    assert np.array_equal(none["Coarse"], few["Coarse"])
    assert np.array_equal(few["Coarse"], many["Coarse"])
    for panel in ("Refined", "Error,"):
        assert not np.array_equal(none[panel], few[panel])
        assert not np.array_equal(few[panel], many[panel])


def test_a_view_without_ground_truth_shows_what_the_propagation_changed(session, frame):
    session.open(Frame("photo.png", frame.rgb))
    session.add_point(10, 10, 2.0)
    result = session.result(Propagation())
    maps, bars = panels.result_panels(session, Propagation(), result, panels.ERROR, "cspn")
    kinds = ["Coarse", "Refined", "Interpolation,", "Refined"]
    assert [label.split()[0] for label in maps] == kinds
    assert bars[1].ends[0] == -bars[1].ends[1] and "refined − coarse" in bars[1].caption
    assert "the error is not known" in panels.about(session, Propagation(), result)
    assert panels.numbers(result)["RMSE (m)"].tolist() == ["–", "–"]
    session.clear_points()
    labels, _ = panels.result_panels(
        session, Propagation(), session.result(Propagation()), panels.ERROR, "cspn"
    )
    assert len(labels) == 3 and "Refined − coarse depth" in labels


def test_the_numbers_are_a_row_for_each_method(session):
    session.sample_points(60, seed=0)
    result = session.result(Propagation())
    table = panels.numbers(result)
    assert table["depth"].tolist() == ["coarse", "refined", "interpolation"]
    assert table["RMSE (m)"][1] == f"{result.scores['refined']['RMSE']:.3f}"
    assert table["time"][0].endswith(" ms") and table["time"][2] == "–"


@pytest.mark.parametrize(("size", "columns"), [((64, 96), 2), ((32, 200), 1)])
def test_the_results_are_one_picture_with_two_colour_bars(predictor, size, columns):
    rgb, depth = np.zeros((*size, 3), np.uint8), np.ones(size, np.float32)
    session = Session(predictor, Frame("flat", rgb, depth))
    maps = panels.result_panels(
        session, Propagation(), session.result(Propagation()), panels.ERROR, "cspn"
    )
    picture = panels.results_picture(*maps)
    scale, rows = panels.SHOWN_WIDTH // (columns * size[1]), 4 // columns
    line = size[0] * scale + GAP + LABEL_HEIGHT
    assert picture.dtype == np.uint8
    assert picture.shape == (
        rows * line + GAP + FOOT_HEIGHT,
        columns * (size[1] * scale + GAP) + GAP,
        3,
    )


def save_png(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_uploads_come_at_the_networks_scale(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    frame = open_image(save_png(tmp_path / "photo.png", rgb, exif=exif), 240)
    assert frame.rgb.shape == (320, 240, 3) and frame.depth is None
    millimetres = np.zeros((640, 480), np.uint16)
    millimetres[101, 51] = 2500
    depth = open_depth(save_png(tmp_path / "depth.png", millimetres), frame)
    assert depth.shape == (320, 240) and np.argwhere(depth).tolist() == [[50, 25]]
    assert depth[50, 25] == 2.5
    np.save(tmp_path / "depth.npy", millimetres.astype(np.float64) / 1000)
    assert np.array_equal(open_depth(tmp_path / "depth.npy", frame), depth)
    large = open_image(save_png(tmp_path / "large.png", rgb.repeat(3, 0).repeat(3, 1)), None)
    assert large.rgb.shape[0] * large.rgb.shape[1] <= MAX_FRAME_PIXELS


def test_a_frame_of_a_recording_is_opened_by_its_number(tmp_path):
    folder = recordings.write_tum(tmp_path / "desk")
    archive = Path(shutil.make_archive(str(tmp_path / "up/desk"), "zip", tmp_path, "desk"))
    camera = "518.86,518.86,325.58,253.74"
    uploaded = open_recording("tum", archive, 1, 240, camera)
    second = sorted((folder / "rgb").iterdir())[1].stem
    assert uploaded.name == f"desk, frame {second}" and uploaded.uploaded_size == (640, 480)
    assert uploaded.rgb.shape == (240, 320, 3)
    expected = resize_points(recordings.sparse(), (240, 320))
    np.testing.assert_allclose(uploaded.depth, expected, atol=1e-3)
    options = {"count": 2, "intrinsics": camera}
    frames = recording_frames("tum", folder, None, 240, **options)
    assert frames[0].name.endswith(sorted((folder / "rgb").iterdir())[0].stem)
    assert len(frames) == 2
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    (tmp_path / "secret.yaml").write_text("password: 1")
    for kind, path, number, text, sentence in (
        ("tum", archive, 9, camera, r"desk has no frame 9, it has 3\."),
        ("kitti", archive, 0, "", r"^desk holds no folder of KITTI: expected image_02/"),
        ("tum", archive, 0, str(tmp_path / "secret.yaml"), "intrinsics must be fx,fy,cx,cy"),
        ("tum", tmp_path / "bad.zip", 0, camera, r"^bad\.zip cannot be read: "),
        ("stray", archive, 0, camera, "intrinsics is no option of stray"),
    ):
        with pytest.raises(DataError, match=sentence) as caught:
            open_recording(kind, path, number, 240, text)
        assert "secret" in text or str(tmp_path) not in str(caught.value)


def test_bad_uploads_are_refused_with_one_sentence(tmp_path, frame):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    narrow = save_png(tmp_path / "narrow.png", np.zeros((4, 9000, 3), np.uint8))
    for path in (text, narrow):
        with pytest.raises(DataError, match=path.name) as caught:
            open_image(path, 240)
        assert str(tmp_path) not in str(caught.value)

    good = np.full(frame.depth.shape, 2000, np.uint16)
    whole = io.BytesIO()
    Image.fromarray(good).save(whole, "PNG")
    bad = [
        save_png(tmp_path / "eight_bits.png", good.astype(np.uint8)),
        save_png(tmp_path / "size.png", good[:-1]),
        save_png(tmp_path / "empty.png", good * 0),
    ]
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.getvalue()[:-40])
    for name, array in (
        ("nan", np.full(good.shape, np.nan)),
        ("negative", np.full(good.shape, -1.0)),
        ("objects", np.array([{}], object)),
        ("three", np.ones((*good.shape, 3))),
    ):
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
        bad.append(tmp_path / f"{name}.npy")
    for path in (*bad, cut):
        with pytest.raises(DataError, match=path.name) as caught:
            open_depth(path, frame)
        assert str(tmp_path) not in str(caught.value)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network of random weights in a file, as a run leaves it."""
    path = tmp_path_factory.mktemp("demo") / "best_model.pth"
    model = make_predictor().model
    args = {"arch": "resnet18", "cspn_step": 12, "cspn_norm_type": "8sum_abs"}
    save_checkpoint(path, {"model": model.state_dict(), "args": args, "epoch": 1})
    return path


def test_examples_are_the_frames_that_evaluation_sees(checkpoint, tiny_root):
    predictor = Predictor.from_checkpoint(checkpoint, device="cpu")
    assert own_settings(predictor) == Propagation(12, "8sum_abs", "coarse")
    frames = example_frames(predictor, tiny_root, 12)
    assert len(frames) == 2 and len(example_frames(predictor, tiny_root, 1)) == 1
    assert frames[0].rgb.shape == (228, 304, 3) and frames[0].depth.shape == (228, 304)
    assert frames[0].rgb.dtype == np.uint8 and frames[0].name.endswith("val/official/00001.h5")
    with pytest.raises(DataError, match="is not a folder"):
        example_frames(predictor, tiny_root / "nowhere", 12)


def test_the_command_refuses_with_a_sentence(checkpoint, monkeypatch):
    with pytest.raises(CheckpointError, match=r"nowhere\.pth does not exist"):
        command.main(["--resume", "nowhere.pth"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"port {port}: Address already in use; choose"):
            command.bind("127.0.0.1", port)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.36.1")
    with pytest.raises(RunError, match=r"Gradio 6, got 3.36.1: pip install -r requirements-demo"):
        command.main(["--resume", str(checkpoint), "--device", "cpu"])

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(RunError, match="needs Gradio, which is not installed: pip install -r req"):
        command.main(["--resume", str(checkpoint), "--device", "cpu"])


def test_nothing_but_the_page_imports_gradio():
    # This file imports everything else of tools.demo at its top.
    assert "gradio" not in sys.modules


@pytest.fixture
def page(checkpoint, tiny_root):
    """The address of a page that a process of its own serves."""
    for package in ("gradio", "selenium"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (requirements-demo.txt)")
    if BROWSER is None or not shutil.which("chromedriver"):
        pytest.skip("no Chromium with chromedriver on this machine")
    flags = ["--resume", checkpoint, "--data_root", tiny_root, "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(
        [sys.executable, "-m", "tools.demo", *map(str, flags)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(server.stdout.readline, "")
        yield next(m.group() for line in lines if (m := re.search(r"http://[\d.:]+", line)))
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture
def browser(page, tmp_path):
    """A headless Chromium on the page, once its first pictures are there."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-sync "
    flags += "disable-background-networking disable-component-update window-size=1360,1300"
    for flag in (*flags.split(), f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.get(page)
        yield driver
    finally:
        driver.quit()


def test_the_page_in_a_browser(browser, page, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(condition):
        return WebDriverWait(browser, 30, ignored_exceptions=(Exception,)).until(condition)

    def find(selector):
        return browser.find_element(By.CSS_SELECTOR, selector)

    def source(name):
        return find(f"#{name} img").get_attribute("src")

    def about():
        return find("#about").text

    def message():
        return find("#message").text

    wait(lambda _: source("results") and source("picture"))
    assert "500 points sampled from the ground truth" in message()
    wait(lambda _: "interpolation" in find("#numbers").text)

    # Another example, then other samples of it.
    picture = source("picture")
    browser.find_elements(By.CSS_SELECTOR, "#examples .thumbnail-item")[1].click()
    wait(lambda _: source("picture") != picture)
    picture, results = source("picture"), source("results")
    seed = find("#seed input")
    seed.send_keys(Keys.CONTROL, "a")
    seed.send_keys("7")
    find("#sample").click()
    wait(lambda _: "seed 7" in message() and source("picture") != picture)
    wait(lambda _: source("results") != results)

    # The slider: other steps give other results, and leave the points alone.
    picture, results = source("picture"), source("results")
    handle = find("#steps input[type=range]")
    handle.send_keys(Keys.HOME)
    wait(lambda _: " 0 steps" in about() and source("results") != results)
    without = source("results")
    handle.send_keys(Keys.END)
    wait(lambda _: " 48 steps" in about() and source("results") != without)
    assert source("results") != results and source("picture") == picture

    # A click in the middle of the picture measures the middle pixel.
    find("#clear").click()
    wait(lambda _: " 0 points" in about())
    find("#picture img").click()
    wait(lambda _: "Measured" in message())
    row, column = map(int, re.search(r"row (\d+), column (\d+)", message()).groups())
    assert abs(row - 114) <= 1 and abs(column - 152) <= 1
    assert " 1 point " in about()

    # Uploads: a bad one is refused in words, a good one is shown.
    (tmp_path / "bad.png").write_text("not a picture")
    picker = find("[id^=upload-image] input[type=file], input[type=file]")
    picker.send_keys(str(tmp_path / "bad.png"))
    wait(lambda _: "bad.png" in find("#message [role=alert]").text)
    photo = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    picker.send_keys(str(save_png(tmp_path / "photo.png", photo)))
    wait(lambda _: "photo.png, 400 × 240 pixels" in about())

    # The page asks nobody but its own server.
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    asked = [url for url in urls if url.startswith(("http", "ws"))]
    assert len(asked) > 10 and all(url.startswith(page) for url in asked)
