"""A recording from its first frame to its last: reading, network and writing at the same time.

One thread reads ahead and brings images to the network's size, this one runs the network and
nothing else, another brings the maps back to the image's size and writes them. A few frames are
under way at once, so that memory does not grow with the recording. A result gets its name when it
is whole, and a frame whose results are all there is not read again.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tqdm import tqdm

from dataloaders.errors import DataError, counted
from engine.progress import progress
from inference.prediction import Prepared
from inference.predictor import Predictor
from inference.results import Results
from inference.sources.frames import Frame, Source

AHEAD = 3  # frames read before the network wants them, and results not yet written
_END = object()


@dataclass
class Outcome:
    """What became of a recording.

    done, skipped: frames completed now, and by an earlier run. bad: sentences, one for each frame
    that could not be used. notes: clauses on what was written. seconds: of the whole. network: of
    the network alone, beside the reading and writing.
    """

    done: int = 0
    skipped: int = 0
    bad: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    network: float = 0.0

    def __str__(self) -> str:
        parts = [f"{counted(self.done, 'frame')} in {self.seconds:.1f} s"]
        if self.done:
            parts[0] += f", {self.done / self.seconds:.1f} a second"
            alone = self.network / self.done
            parts.append(f"the network {1000 * alone:.0f} ms a frame, {1 / alone:.1f} a second")
        parts += [f"{self.skipped} were there already"] * bool(self.skipped)
        parts += [f"{len(self.bad)} left out, as said above"] * bool(self.bad)
        return "; ".join(parts)


def run_stream(
    source: Source,
    predictor: Predictor,
    results: Results,
    *,
    sentence: Callable[[Exception], str | None] = lambda error: None,
    say: Callable[[str], None] = tqdm.write,
) -> Outcome:
    """Complete the depth of every frame of a recording and write it.

    Args:
        results: what is written, by one thread that closes it at the end.
        sentence: turns what a frame's prediction raised into a sentence and the stream goes on,
            into None and the error is raised.
        say: prints a line beside the progress bar.

    Raises:
        DataError: the recording cannot be read any further, and what was read is written; or it has
            not what shall be written.
    """
    results.check(source)
    outcome, began = Outcome(), time.perf_counter()

    def report(name: str, error: Exception) -> None:
        outcome.bad.append(str(error))
        say(f"left out: {error}")

    def refuse(frame: Frame, error: Exception) -> None:
        if (words := sentence(error)) is None:
            raise error
        report(frame.name, DataError(f"{source.path}, frame {frame.name}: {words}"))

    def skip(name: str) -> bool:
        there = results.has(name)
        outcome.skipped += there
        return there

    def prepared() -> Iterator[tuple[Frame, Prepared]]:
        for frame in source.frames(skip=skip, report=report):
            try:
                ready = predictor.prepare(frame.rgb, frame.sparse_depth)
            except Exception as error:
                refuse(frame, error)
                continue
            yield frame, ready

    def write(frame: Frame, ready: Prepared, maps: object) -> None:
        results.write(frame, predictor.finish(ready, *maps))

    writing: deque = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = _ahead(prepared(), reader)
        try:
            for frame, ready in progress(ahead, label="frames", unit="frame", total=source.length):
                start = time.perf_counter()
                try:
                    maps = predictor.run(ready)
                except Exception as error:
                    refuse(frame, error)
                    continue
                outcome.network += time.perf_counter() - start
                writing.append(writer.submit(write, frame, ready, maps))
                if len(writing) > AHEAD:
                    writing.popleft().result()
                outcome.done += 1
            for written in writing:
                written.result()
        finally:
            outcome.notes = writer.submit(results.close).result()
    outcome.seconds = time.perf_counter() - began
    return outcome


def _ahead(items: Iterator, pool: ThreadPoolExecutor) -> Iterator:
    """Yield what an iterator does, taken from it ahead of time by the one thread of `pool`."""
    waiting = deque(pool.submit(next, items, _END) for _ in range(AHEAD))
    while (item := waiting.popleft().result()) is not _END:
        waiting.append(pool.submit(next, items, _END))
        yield item
