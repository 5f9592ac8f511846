"""What was said, as text: plain, SubRip, WebVTT, and OpenAI's verbose JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from anyform.contract.events import Done, Segment

SHORTEST_S = 0.001
"""Of a subtitle."""
VTT_HEAD = "WEBVTT\n\n"
"""What a WebVTT file begins with."""


def text(segments: Iterable[Segment]) -> str:
    """The whole text, without space around it."""
    return "".join(segment.text for segment in segments).strip()


def srt(segments: Iterable[Segment]) -> str:
    """SubRip, as https://www.matroska.org/technical/subtitles.html#srt-subtitles describes it."""
    return "".join(srt_cue(number, segment) for number, segment in enumerate(segments, 1))


def srt_cue(number: int, segment: Segment) -> str:
    """One subtitle of SubRip; they are counted from 1."""
    return f"{number}\n{_cue(segment, ',')}\n"


def vtt(segments: Iterable[Segment]) -> str:
    """WebVTT, as https://www.w3.org/TR/webvtt1/ describes it."""
    return VTT_HEAD + "".join(map(vtt_cue, segments))


def vtt_cue(segment: Segment) -> str:
    """One cue of WebVTT."""
    return f"{_cue(segment, '.', escaped=True)}\n"


def worded(segment: Segment) -> Iterator[Segment]:
    """A segment for each of its timed words; the segment itself where it has none."""
    words = segment.extra.get("words", ())
    if not words:
        yield segment
    for word in words:
        yield Segment(text=str(word["word"]), start=word["start"], end=word["end"])


def clock(second: float, point: str) -> str:
    """A time such as 01:02:03.450; *point*: what stands before the thousandths."""
    whole, thousandths = divmod(round(second * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"


def verbose(task: str, granularities: Sequence[str], segments: Sequence[Segment], done: Done) -> dict[str, Any]:
    """OpenAI's `verbose_json`. *granularities*: `segment`, `word`, or both.

    https://platform.openai.com/docs/api-reference/audio/verbose-json-object
    """
    said: dict[str, Any] = {
        "task": task,
        "language": done.extra.get("language_name") or done.extra.get("language") or "",
        "duration": done.extra.get("duration", segments[-1].end if segments else 0.0),
        "text": text(segments),
    }
    if "segment" in granularities:
        said["segments"] = [_segment(at, segment) for at, segment in enumerate(segments)]
    if "word" in granularities:
        said["words"] = [_word(word) for segment in segments for word in segment.extra.get("words", ())]
    return {**said, "usage": usage(done)}


def usage(done: Done) -> dict[str, Any]:
    """What OpenAI counts of a transcription: seconds, begun ones as whole."""
    return {"type": "duration", "seconds": math.ceil(float(done.extra.get("duration", 0.0)))}


def _cue(segment: Segment, point: str, escaped: bool = False) -> str:
    """Times and text; an empty line would end it, and an arrow begin another. One of no length is not shown."""
    end = max(segment.end, segment.start + SHORTEST_S)
    said = " ".join(segment.text.split()).replace("-->", "->")
    if escaped:
        said = said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{clock(segment.start, point)} --> {clock(end, point)}\n{said}\n"


_KNOWN = {
    "seek": 0,
    "tokens": (),
    "temperature": 0.0,
    "avg_logprob": 0.0,
    "compression_ratio": 0.0,
    "no_speech_prob": 0.0,
}
"""What OpenAI's segments have beside text and times, and what stands there where the engine does not know."""


def _segment(at: int, segment: Segment) -> dict[str, Any]:
    known = {name: segment.extra.get(name, unknown) for name, unknown in _KNOWN.items()}
    return {"id": at, "start": segment.start, "end": segment.end, "text": segment.text, **known}


def _word(word: Mapping[str, Any]) -> dict[str, Any]:
    return {"word": str(word["word"]).strip(), "start": word["start"], "end": word["end"]}
