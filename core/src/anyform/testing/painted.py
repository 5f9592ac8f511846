"""What a job that paints must yield, as `anyform.contract.jobs.Image` promises it."""

from __future__ import annotations

from collections.abc import Sequence

from anyform.contract.events import Blob, Done, Event, Progress
from anyform.contract.jobs import EditImage, Image, VaryImage

TOLD = ("seed", "width", "height", "steps", "scheduler")
"""What `extra` has of a finished picture."""
MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/webp": b"RIFF"}


def check_painted(job: Image | EditImage | VaryImage, events: Sequence[Event]) -> None:
    """Raises AssertionError where *events*, of a job that was not stopped, break the promise."""
    wanted = job if isinstance(job, Image) else job.image
    _check_progress(job.task, events)
    blobs = [event for event in events if isinstance(event, Blob)]
    whole = [blob for blob in blobs if "partial" not in blob.extra]
    assert [blob.index for blob in whole] == list(range(wanted.n)), (
        f"{job.task} yields finished pictures {[blob.index for blob in whole]} for n={wanted.n}. Yield one of each, in "
        f"their order, with its index."
    )
    for blob in whole:
        missing = [name for name in TOLD if name not in blob.extra]
        assert not missing, f"the picture's extra lacks {', '.join(missing)}. Tell {', '.join(TOLD)}."
        seed = None if wanted.seed is None else wanted.seed + blob.index
        assert seed in (None, blob.extra["seed"]), (
            f"picture {blob.index} of seed {wanted.seed} has seed {blob.extra['seed']}. Picture i has seed + i."
        )
    for blob in blobs:
        assert blob.data.startswith(MAGIC.get(blob.media_type, b"")), (
            f"a picture that is called {blob.media_type} begins with {blob.data[:8]!r}. Say what it is."
        )
    for index in range(wanted.n):
        states = [blob.extra["partial"] for blob in blobs if blob.index == index and "partial" in blob.extra]
        assert states == list(range(len(states))), f"unfinished states are called {states}. Count from 0."
        assert len(states) <= wanted.partials, (
            f"{len(states)} unfinished states of a picture come, and partials is {wanted.partials}. Yield no more."
        )
    last = events[-1]
    count = len(last.finishes) if isinstance(last, Done) else 0
    assert count == wanted.n, f"Done has {count} finishes for {wanted.n} pictures. Give one for each."


def _check_progress(task: str, events: Sequence[Event]) -> None:
    progress = [event for event in events if isinstance(event, Progress)]
    queued = events[0] in progress and progress[0].stage == "queue"
    assert queued, (
        f"the first event of {task} is {events[0]}. Yield Progress(stage='queue', total=ahead) as soon as the job is "
        f"known to be valid and to fit: a server answers 200 then."
    )
    told = [(event.done, event.total) for event in progress if event.stage == "step"]
    assert told, f"{task} tells no steps. Yield Progress(stage='step', done, total) after each."
    counted = [(done, told[-1][0]) for done in sorted({done for done, _ in told})]
    assert told == counted, f"{task} tells the steps {told}. Count them up to their total, over all pictures."
