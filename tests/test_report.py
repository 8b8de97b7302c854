"""The report of a run folder: what it says, what it survives, and the page in a real browser."""

import csv
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from engine.checkpoint import save_checkpoint
from engine.errors import RunError
from engine.evaluation import best_and_worst
from engine.metrics import METRICS
from visualize.pictures import result_strip, save_picture
from visualize.report import write_report
from visualize.report.published import PUBLISHED, PUBLISHED_METRICS

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>"


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def scores(value):
    return dict.fromkeys(METRICS, value)


def write_run(folder, names=None, *, args=None, record=None):
    """A run folder as train.py and eval.py leave it, its images drawn in advance."""
    names = names or [f"val/official/{i:05d}.h5" for i in range(8)]
    pictures = folder / "eval_result" / "pictures"
    pictures.mkdir(parents=True)
    args = {"data_set": "nyudepth", "arch": "resnet18", "cspn_step": 24, **(args or {})}
    settings = {"args": args, "environment": {"torch": "2.15.0", "gpu": None}}
    (folder / "args.json").write_text(json.dumps(settings))
    epochs = [{"epoch": e, "lr": 0.01, "is_best": 1, "LOSS": 1 / e} | scores(2 / e) for e in (1, 2)]
    write_csv(folder / "train.csv", epochs)
    write_csv(folder / "eval.csv", [{k: v for k, v in r.items() if k != "LOSS"} for r in epochs])
    events = [
        {"event": "start", "epoch": 0},
        {"event": "epoch", "epoch": 1},
        {"time": "2026-11-22T10:00:00", "event": "bad_frame", "file": "train/broken.h5"},
        {"event": "start", "epoch": 1},
        {"event": "end"},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    weights = {"args": args, "epoch": 2, "scores": scores(0.4321), "model": {"w": torch.ones(3)}}
    save_checkpoint(folder / "best_model.pth", weights)

    rows = [{"seed": 0, "name": name} | scores(0.1 + i / 100) for i, name in enumerate(names)]
    mean = {"seed": "all", "name": "mean"} | scores(0.2)
    write_csv(folder / "eval_result" / "eval.csv", [*rows, mean])
    methods = [{"method": m} | scores(v) for m, v in (("cspn_unet", 0.2), ("linear", 0.3))]
    write_csv(folder / "eval_result" / "summary.csv", methods)
    rng = np.random.default_rng(0)
    for i in range(min(len(names), 8)):
        maps = [rng.uniform(1, 4, (57, 76)).astype(np.float32) for _ in range(4)]
        strip = result_strip(rng.random((3, 57, 76)), *maps)
        save_picture(pictures / f"{i:04d}_strip.png", strip)
        save_picture(pictures / f"{i:04d}_affinity.png", strip)
    recorded = {
        "args": {"n_sample": 500, "sampler": "bernoulli", **args},
        "root": "data/nyudepth_hdf5",
        "sample_set": None,
        "pictures": {str(i): name for i, name in enumerate(names[:8])},
        **(record or {}),
    }
    (folder / "eval_result" / "evaluation.json").write_text(json.dumps(recorded))
    return folder


def page_of(folder):
    return write_report(folder).read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report") / "my_run")


def test_the_report_holds_everything_the_run_holds(run):
    page = page_of(run)
    for piece in (
        "my_run",
        "0.1172",  # published
        "0.4321",  # the checkpoint's
        "below that of linear interpolation of the same samples (0.3000 m)",
        "2 of 2",  # the best epoch of those done
        "train/broken.h5",
        "bad_frame",
        "resumed",
        "Influence maps",
        "resnet18",
    ):
        assert piece in page, piece
    assert page.count("<svg") == 3 and page.count(", epoch 2: ") == 5
    # Three best, three worst, one affinity picture.
    assert page.count("data:image/jpeg;base64,") == 7
    order = [page.index(f"{i:05d}.h5, RMSE") for i in (0, 1, 2, 7, 6, 5)]
    assert order == sorted(order)
    assert "Not everything could be read" not in page


def test_the_page_needs_nothing_from_outside(run):
    tags = Tags(page_of(run))
    assert not tags.tags & {"script", "link", "iframe", "object", "base", "form"}
    links = [v for k, v in tags.attributes if k in ("src", "href", "srcset", "action")]
    assert links and all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert "url(" not in page_of(run) and "@import" not in page_of(run)


def test_published_numbers_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, values in PUBLISHED.items():
        assert tuple(values) == PUBLISHED_METRICS
        cells = " | ".join(f"{value:.4f}" for value in values.values())
        assert f"| {name}, as published | {cells} |" in readme


def test_only_the_real_test_set_is_called_comparable(tmp_path):
    official = [f"val/official/{i:05d}.h5" for i in range(654)]
    assert "NOT comparable" not in page_of(write_run(tmp_path / "real", official))
    for name, change, reason in (
        ("few", {"names": official[:8]}, "8 images were scored, not the 654"),
        ("rooms", {"record": {"sample_set": "sample_data.rooms"}}, "rendered by this project"),
        ("fewer", {"args": {"n_sample": 200}}, "n_sample is 200, published 500"),
        ("exact", {"args": {"sampler": "exact"}}, "sampler is exact"),
        ("other", {"args": {"data_set": "made_up"}}, "data set is made_up"),
    ):
        page = page_of(write_run(tmp_path / name, **{"names": official, **change}))
        assert "NOT comparable with the rows above" in page and reason in page
    (tmp_path / "real" / "eval_result" / "evaluation.json").unlink()
    assert "is not recorded" in page_of(tmp_path / "real")
    kitti = page_of(write_run(tmp_path / "kitti", args={"data_set": "kitti"}))
    assert "no KITTI numbers" in kitti and "0.1172" not in kitti


@pytest.mark.parametrize(
    "missing",
    [
        "args.json",
        "train.csv",
        "eval.csv",
        "log.jsonl",
        "best_model.pth",
        "eval_result/eval.csv",
        "eval_result/summary.csv",
        "eval_result/evaluation.json",
        "eval_result/pictures",
        "eval_result",
    ],
)
def test_what_a_run_lacks_the_report_lacks(run, tmp_path, missing):
    folder = shutil.copytree(run, tmp_path / "my_run")
    whole = page_of(folder)
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = page_of(folder)
    assert "Not everything could be read" not in page
    if missing != "eval_result/evaluation.json":  # whose absence is a reason of its own
        assert len(page) < len(whole)


def test_an_empty_folder_has_a_report_and_no_folder_has_none(tmp_path):
    assert "No evaluation yet" in page_of(tmp_path)
    with pytest.raises(RunError, match="nowhere is not a run folder"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("broken", "content", "sentence"),
    [
        ("train.csv", b"epoch,lr,LOSS,RMSE\n1,0.01,0.5,abc\n", "train.csv, line 2, is not a row"),
        ("train.csv", b"epoch,lr,LOSS,RMSE\n1,0.01,0.5\n", "train.csv, line 2, is not a row"),
        ("eval.csv", b"\x00\xff\xfe garbage", "eval.csv has no column epoch"),
        ("eval.csv", b"", "eval.csv has no column epoch"),
        ("eval_result/eval.csv", b"seed,name\n0,x\n", "eval_result/eval.csv has no column RMSE"),
        ("eval_result/summary.csv", b"method,RMSE\n" + b"a,b\n" * 9, "6 more rows like that"),
        ("eval_result/evaluation.json", b"[" * 100_000, "evaluation.json is not JSON"),
        ("args.json", b"[1, 2]", "holds no object of settings"),
        ("args.json", b"{", "args.json is not JSON"),
        ("log.jsonl", b'{"event": "start"}\n{"eve', "log.jsonl: 1 line not readable"),
        ("best_model.pth", b"no checkpoint", "best_model.pth cannot be read as a checkpoint"),
        ("eval_result/pictures/0007_strip.png", b"\x89PNG", "0007_strip.png cannot be read as a"),
    ],
)
def test_a_damaged_file_costs_a_sentence(run, tmp_path, broken, content, sentence):
    folder = shutil.copytree(run, tmp_path / "my_run")
    (folder / broken).write_bytes(content)
    assert sentence in page_of(folder)


def test_values_of_other_types_than_expected_are_shown_or_left_out(tmp_path):
    record = {"args": [1], "checkpoint": 3, "pictures": {"../0": "x", "0": 5, "٣": "y"}, "root": {}}
    folder = write_run(tmp_path / "odd", args={"arch": {"deep": [1]}}, record=record)
    (folder / "log.jsonl").write_text('{"event": {"a": 1}, "epoch": []}\n{"event": "start"}\n')
    page = page_of(folder)
    assert "data:image" not in page and "Scores" in page


def test_nothing_a_run_folder_holds_becomes_markup(tmp_path):
    names = [HOSTILE, *(f"val/official/{i}.h5" for i in range(5))]
    folder = write_run(
        tmp_path / "<img src=x onerror=alert(1)>",
        names,
        args={HOSTILE: HOSTILE, "data_root": HOSTILE, "model": HOSTILE, "lone": "\ud800\x00"},
        record={"root": HOSTILE, "sample_set": HOSTILE, "checkpoint": {HOSTILE: HOSTILE}},
    )
    with (folder / "log.jsonl").open("a") as stream:
        stream.write(json.dumps({"event": HOSTILE, "time": HOSTILE, HOSTILE: HOSTILE}) + "\n")
    with (folder / "eval_result" / "summary.csv").open("a", newline="") as stream:
        csv.writer(stream).writerow([HOSTILE, *[0.5] * len(METRICS)])
    state = {"format": HOSTILE, "epoch": HOSTILE, "scores": {"RMSE": HOSTILE, HOSTILE: 1.0}}
    torch.save(state, folder / "last.pth")
    page = page_of(folder)
    tags = Tags(page)
    assert "script" not in tags.tags
    assert not [k for k, _ in tags.attributes if k.startswith("on")]
    assert page.count("&lt;script&gt;") > 8
    sources = [v for k, v in tags.attributes if k == "src"]
    assert sources and all(source.startswith("data:") for source in sources)
    # Also where a file that should be a table holds markup alone.
    (folder / "train.csv").write_text(HOSTILE)
    assert "<script>" not in page_of(folder)


def test_pictures_are_bounded_in_width_whatever_the_run_drew(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "my_run")
    small = len(page_of(folder))
    noise = np.random.default_rng(0).integers(0, 256, (600, 4000, 3), dtype=np.uint8)
    imageio.imwrite(folder / "eval_result" / "pictures" / "0000_strip.png", noise)
    assert len(page_of(folder)) - small < 600_000


def test_best_and_worst_leave_out_what_has_no_score_and_never_meet():
    rows = [
        {"name": n, "RMSE": v, "MSE": v}
        for n, v in zip("abcde", (3, float("nan"), 1, 2, 5), strict=True)
    ]
    best, worst = best_and_worst(rows, 3)
    assert [r["name"] for r in best] == ["c", "d"] and [r["name"] for r in worst] == ["e", "a"]
    assert best_and_worst(rows[:1], 3) == ([rows[0]], [])
    assert best_and_worst([], 3) == ([], [])


def test_the_command_writes_the_page(run, tmp_path):
    out = tmp_path / "page.html"
    done = subprocess.run(
        [sys.executable, "-m", "visualize.report", str(run), "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"report: {out}\n" and out.stat().st_size > 10_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium that reports its requests and its console."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium or its driver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        f"disable-component-update disable-sync user-data-dir={profile}"
    ).split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    with webdriver.Chrome(options=options, service=service) as chrome:
        yield chrome


def open_page(browser, path, width, scheme="light"):
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(path.as_uri())


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("hostile", [False, True])
def test_the_page_in_a_browser_loads_nothing_and_fits(run, tmp_path, browser, width, hostile):
    folder = run
    if hostile:
        names = [HOSTILE, "x" * 300, *(f"val/official/{i}.h5" for i in range(4))]
        wide = {"data_root": "/very" * 80, HOSTILE: HOSTILE, "model": "y" * 200}
        folder = write_run(tmp_path / ("r" * 120), names, args=wide)
    page = write_report(folder)
    open_page(browser, page, width)
    messages = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    requested = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in requested if not url.startswith("data:")] == [page.as_uri()]
    assert browser.get_log("browser") == []
    assert browser.title == folder.name
    sizes = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])"
    )
    assert len(sizes) == 7 and all(done and natural > 0 for done, natural, _ in sizes)
    wide, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert wide <= inner == width


def test_the_page_follows_the_readers_colour_scheme(run, browser):
    page = write_report(run)
    brightness = {}
    for scheme in ("light", "dark"):
        open_page(browser, page, 1280, scheme)
        colors = browser.execute_script(
            "const s = getComputedStyle(document.body);"
            "return [s.backgroundColor, s.color].map(c => c.match(/\\d+/g).map(Number))"
        )
        brightness[scheme] = [sum(color[:3]) for color in colors]
    assert brightness["light"][0] > 700 and brightness["light"][1] < 150
    assert brightness["dark"][0] < 150 and brightness["dark"][1] > 600
