"""The published NYU numbers, and whether an evaluation may stand beside them."""

from visualize.report.folder import RunContent

# NYU Depth v2, 654 test images, 500 samples, mean of 5 draws: the release's README.
PUBLISHED = {
    "CSPN, slow unpool": (0.1165, 0.0159, 0.8331, 0.9366, 0.9716),
    "CSPN, 8sum": (0.1172, 0.0160, 0.8344, 0.9351, 0.9707),
    "CSPN, 8sum_abs": (0.1169, 0.0161, 0.8300, 0.9347, 0.9708),
}
PUBLISHED_METRICS = ("RMSE", "ABS_REL", "DELTA1.02", "DELTA1.05", "DELTA1.10")
TEST_IMAGES = 654


def data_set(run: RunContent) -> str:
    """The data set's name by the flags of the evaluation or else of the run; "" if unknown."""
    args = run.record.get("args")
    args = args if isinstance(args, dict) else run.args
    return str(args.get("data_set", ""))


def scored_names(run: RunContent) -> list[str]:
    """The images of the first draw, in order."""
    first = run.images[0]["seed"] if run.images else None
    return [row["name"] for row in run.images if row["seed"] == first]


def why_not_comparable(run: RunContent) -> list[str]:
    """Reasons why the scores are not those of the published experiment; none if they are.

    The images themselves are not checked, only what the evaluation says about them.
    """
    if not run.record:
        return ["what was scored is not recorded (no evaluation.json)"]
    args = run.record.get("args")
    args = args if isinstance(args, dict) else {}
    reasons = []
    if run.record.get("sample_set"):
        reasons.append(
            f"the images are rendered by this project ({run.record['sample_set']}); they are not "
            "NYU Depth v2"
        )
    elif args.get("data_set") != "nyudepth":
        reasons.append(f"the data set is {args.get('data_set')}, not NYU Depth v2")
    names = set(scored_names(run))
    official = {name for name in names if name.startswith("val/official/")}
    if len(names) != TEST_IMAGES or official != names:
        reasons.append(
            f"{len(names)} images were scored, not the {TEST_IMAGES} of the official test split"
        )
    for flag, expected in (
        ("n_sample", (500,)),
        ("sampler", ("bernoulli",)),
        ("depth_resize", ("released", None)),
    ):
        if args.get(flag) not in expected:
            reasons.append(f"{flag} is {args.get(flag)}, published {expected[0]}")
    return reasons
