"""The public copy of NYU Depth v2 on the Hugging Face hub, by the hub's own client.

`sayakpaul/nyu_depth_v2` (Apache-2.0) holds the set of the authors' server: 47,584 training and 654
validation frames as HDF5, in twelve and two tar shards, 35.2 GB. They stay shards, which
`dataloaders.shards` reads. HF_ENDPOINT names another server, HF_TOKEN an account.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import DryRunError, HfHubHTTPError, LocalEntryNotFoundError

from dataloaders.errors import DataError

REPOSITORY = "sayakpaul/nyu_depth_v2"


def download(root: Path, splits: Sequence[str]) -> None:
    """Fetch the shards of `splits` into `root/data`, and compare every checksum.

    What is there already is not fetched again; a file that was cut off goes on where it ended. A
    shard whose checksum differs is fetched once more. Raises DataError: the hub cannot be reached
    or lacks the shards, the disk has no room for them, or a shard is damaged after a second try.
    Raises OSError: they cannot be written.
    """
    wanted = {
        "repo_id": REPOSITORY,
        "repo_type": "dataset",
        "local_dir": root,
        "allow_patterns": [f"data/{split}-*.tar" for split in splits],
    }
    root.mkdir(parents=True, exist_ok=True)
    try:
        _check_plan(root, snapshot_download(**wanted, dry_run=True), splits)
        snapshot_download(**wanted)
        print("comparing checksums")
        damaged = _damaged_shards(root)
        if damaged:
            print(f"fetching again, as their checksums differ: {', '.join(damaged)}")
            snapshot_download(**wanted | {"allow_patterns": damaged}, force_download=True)
            damaged = _damaged_shards(root)
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise DataError(
            f"{REPOSITORY} cannot be fetched from the Hugging Face hub ({reason}); run it again "
            "to go on where it stopped"
        ) from error
    if damaged:
        raise DataError(f"{root / damaged[0]} is damaged: its checksum is not the hub's")


def _is_of_the_network(error: Exception) -> bool:
    """Return whether the hub's client failed for its connection or the hub's answer.

    Its HTTP library has had three names; all their errors are called after it.
    """
    library = type(error).__module__.partition(".")[0]
    known = isinstance(
        error, (HfHubHTTPError, LocalEntryNotFoundError, DryRunError, ConnectionError)
    )
    return known or library.startswith(("httpx", "httpcore", "requests", "urllib3", "hf_xet"))


def _check_plan(root: Path, files: list, splits: Sequence[str]) -> None:
    """Refuse to begin where a split has no shards or the disk no room for them."""
    for split in splits:
        if not any(Path(file.filename).name.startswith(f"{split}-") for file in files):
            raise DataError(f"{REPOSITORY} on the hub has no shards data/{split}-*.tar")
    needed = sum(file.file_size or 0 for file in files if file.will_download)
    free = shutil.disk_usage(root).free
    print(f"{REPOSITORY}: {len(files)} shards, {needed / 1e9:.1f} GB to fetch into {root}")
    if needed > free:
        raise DataError(
            f"{root} has {free / 1e9:.1f} GB free, and the shards take {needed / 1e9:.1f} GB"
        )


def _damaged_shards(root: Path) -> list[str]:
    """Return the paths of shards in `root` whose checksum is not the hub's."""
    checked = HfApi().verify_repo_checksums(REPOSITORY, repo_type="dataset", local_dir=root)
    return sorted(mismatch["path"] for mismatch in checked.mismatches)
