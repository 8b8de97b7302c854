"""The published NYU numbers, and whether an evaluation may stand beside them."""

from visualize.report.folder import RunContent

# NYU Depth v2, 654 test images, 500 samples, mean of 5 draws: the release's README.
PUBLISHED_METRICS = ("RMSE", "ABS_REL", "DELTA1.02", "DELTA1.05", "DELTA1.10")
_ROWS = {
    "CSPN, slow unpool": (0.1165, 0.0159, 0.8331, 0.9366, 0.9716),
    "CSPN, 8sum": (0.1172, 0.0160, 0.8344, 0.9351, 0.9707),
    "CSPN, 8sum_abs": (0.1169, 0.0161, 0.8300, 0.9347, 0.9708),
}
PUBLISHED = {name: dict(zip(PUBLISHED_METRICS, row, strict=True)) for name, row in _ROWS.items()}
TEST_IMAGES = 654
# Flag -> what it may be, the published value first.
PROTOCOL = {
    "n_sample": (500,),
    "sampler": ("bernoulli",),
    "depth_resize": ("released", None),
}


def data_set(run: RunContent) -> str:
    """Return the data set by the evaluation's flags or else the run's; "" if unknown."""
    return str((run.recorded("args") or run.args).get("data_set", ""))


def why_not_comparable(run: RunContent) -> list[str]:
    """Return reasons why the scores are not those of the published experiment; none if they are.

    The images themselves are not checked, only what the evaluation recorded about them.
    """
    if not run.record:
        return ["what was scored is not recorded (no evaluation.json)"]
    args, reasons = run.recorded("args"), []
    if run.record.get("sample_set"):
        reasons.append(
            f"the images are rendered by this project ({run.record['sample_set']}); they are not "
            "NYU Depth v2"
        )
    elif args.get("data_set") != "nyudepth":
        reasons.append(f"the data set is {args.get('data_set')}, not NYU Depth v2")
    names = set(run.first_draw()["name"])
    if len(names) != TEST_IMAGES or not all(name.startswith("val/official/") for name in names):
        reasons.append(
            f"{len(names)} images were scored, not the {TEST_IMAGES} of the official test split"
        )
    return reasons + [
        f"{flag} is {args.get(flag)}, published {expected[0]}"
        for flag, expected in PROTOCOL.items()
        if args.get(flag) not in expected
    ]
