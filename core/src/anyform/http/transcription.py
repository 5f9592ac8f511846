"""POST /v1/audio/transcriptions and /v1/audio/translations: speech to text, in five formats, whole or streamed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyform.contract.events import Done, Event, Segment
from anyform.contract.jobs import Sound, Transcribe, Translate
from anyform.http.fields import Fields, NotSupported, Upload, Written, mistyped, wrong
from anyform.http.media import Media, data_url, decode, too_large
from anyform.http.reply import JSON, SSE, Ask, Head, Writer, dumps

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
STREAMED = ("json", "text")
"""Formats that a stream may be asked for; what is streamed is the same."""
GRANULARITIES = ("segment", "word")
PLAIN = "text/plain; charset=utf-8"
VTT = "text/vtt; charset=utf-8"
SHORTEST_S = 0.001
"""Of a subtitle."""
CHUNKING = "chunking_strategy"
LONGEST_PROMPT = 100_000
"""Letters; no model takes a hundredth of it."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the answer is to look like."""

    task: str
    form: str = "json"
    granularities: tuple[str, ...] = ("segment",)


def read(body: Mapping[str, Any], media: Media) -> Ask:
    """The request as a Transcribe job. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    wish = _wish(fields, Transcribe.task)
    return _ask(fields, wish, Transcribe(audio=_sound(fields, media), **_shared(fields), **_wanted(fields, wish)))


def read_translation(body: Mapping[str, Any], media: Media) -> Ask:
    """The request as a Translate job. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    wish = _wish(fields, Translate.task)
    if "word" in wish.granularities:
        wrong(_granularity(fields), "words of a translation have no times", "Ask for segments.")
    return _ask(fields, wish, Translate(audio=_sound(fields, media), **_shared(fields)))


def _ask(fields: Fields, wish: Wish, job: Transcribe | Translate) -> Ask:
    model, stream = fields.need_text("model"), bool(fields.flag("stream"))
    if stream and wish.form not in STREAMED:
        wrong(fields.path("stream"), f"'{wish.form}' cannot be streamed", "Use response_format json, or do not stream.")

    def writer(head: Head) -> Writer:
        return Stream() if stream else Whole(wish)

    return Ask(model=str(model), jobs=(job,), writer=writer, stream=stream, prompt="prompt")


def _wish(fields: Fields, task: str) -> Wish:
    form = fields.choice("response_format", *FORMATS) or "json"
    for name in ("include", "known_speaker_names", "known_speaker_references"):
        fields.refuse(name, "Leave it out.")
    wanted = fields.strings(_granularity(fields))
    if wanted and form != "verbose_json":
        wrong(_granularity(fields), f"'{form}' has no place for them", "Set response_format to verbose_json.")
    for one in wanted or ():
        if one not in GRANULARITIES:
            wrong(_granularity(fields), f"'{one}'", "Supported values are: 'segment', 'word'.")
    return Wish(task=task, form=str(form), granularities=tuple(map(str, wanted or ("segment",))))


def _granularity(fields: Fields) -> str:
    return fields.find("timestamp_granularities", "timestamp_granularities[]")[0]


def _shared(fields: Fields) -> dict[str, Any]:
    prompt = str(fields.text("prompt") or "")
    if len(prompt) > LONGEST_PROMPT:
        wrong(fields.path("prompt"), f"it has {len(prompt)} letters", f"Expected at most {LONGEST_PROMPT}.")
    return {"prompt": prompt, "temperature": fields.number("temperature", low=0, high=1)}


def _wanted(fields: Fields, wish: Wish) -> dict[str, Any]:
    return {
        "language": str(fields.text("language") or ""),
        "words": "word" in wish.granularities,
        "vad": bool(fields.flag("vad_filter")) or _detects(fields),
    }


def _detects(fields: Fields) -> bool:
    """Whether `chunking_strategy` asks for a detector of voices; `auto` leaves it to the server."""
    value = _chunking(fields)
    if value is None or value == "auto":
        return False
    kind = value.get("type") if isinstance(value, dict) else value
    if kind != "server_vad":
        wrong(fields.path(CHUNKING), "it is neither 'auto' nor of the type 'server_vad'")
    if isinstance(value, dict) and len(value) > 1:
        raise NotSupported(
            "Unsupported parameter: settings of 'chunking_strategy'.",
            "Give its type alone.",
            param=fields.path(CHUNKING),
        )
    return True


def _chunking(fields: Fields) -> Any:
    """A word, or an object: in a form the text of one, or a field for each of its own, as `chunking_strategy[type]`."""
    value = fields.data.get(CHUNKING)
    parts = {
        name[len(CHUNKING) + 1 : -1]: part
        for name, part in fields.data.items()
        if name.startswith(f"{CHUNKING}[") and name.endswith("]") and part is not None
    }
    if isinstance(value, Written) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            wrong(fields.path(CHUNKING), f"it is no JSON: {error}", 'Write auto, or {"type": "server_vad"}.')
    return parts or value


def _sound(fields: Fields, media: Media) -> Sound:
    """The one file: of a form, or in JSON as base64 or a data: URL."""
    value, param = fields.data.get("file"), fields.path("file")
    if value is None:
        fields.missing("file")
    if isinstance(value, list):
        wrong(param, f"{len(value)} files", "Send one a request.")
    if isinstance(value, Upload):
        if len(value.data) > media.limit_bytes:
            too_large(param, media.limit_bytes)
        return Sound(data=value.data or wrong(param, "it is empty"), media_type=value.media_type)
    if isinstance(value, Written):
        mistyped(param, "a file", value, "With curl, write -F file=@NAME.")
    if not isinstance(value, str):
        mistyped(param, "base64 of a sound file", value)
    if value[:5].lower() == "data:":
        kind, data = data_url(value, param, media.limit_bytes)
        return Sound(data=data, media_type=kind)
    return Sound(data=decode(value, param, media.limit_bytes))


class Stream:
    """Writes segments as OpenAI's transcript events. Their texts joined are the whole text."""

    media_type = SSE

    def __init__(self) -> None:
        self._said: list[str] = []
        self._space = ""
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Done):
            self._done = event
        return self._say(event.text) if isinstance(event, Segment) else b""

    def _say(self, text: str) -> bytes:
        """Space at an end is kept back: the text has none there."""
        text = self._space + text if self._said else text.lstrip()
        self._space = text[len(text.rstrip()) :]
        delta = text.rstrip()
        if not delta:
            return b""
        self._said.append(delta)
        return _event({"type": "transcript.text.delta", "delta": delta})

    def end(self) -> bytes:
        usage = self._done.usage
        counted = {
            "type": "tokens",
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        done = {"type": "transcript.text.done", "text": "".join(self._said), "usage": counted}
        return _event(done)


def _event(value: Mapping[str, Any]) -> bytes:
    return f"data: {dumps(value)}\n\n".encode("ascii")


class Whole:
    """Collects segments into one text of the format that was asked for."""

    def __init__(self, wish: Wish) -> None:
        self.media_type = JSON if wish.form.endswith("json") else VTT if wish.form == "vtt" else PLAIN
        self._wish = wish
        self._segments: list[Segment] = []
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Segment):
            self._segments.append(event)
        elif isinstance(event, Done):
            self._done = event
        return b""

    def end(self) -> bytes:
        return _FORMS[self._wish.form](self._wish, self._segments, self._done).encode("utf-8")


def _text(segments: Sequence[Segment]) -> str:
    return "".join(segment.text for segment in segments).strip()


def _json(wish: Wish, segments: Sequence[Segment], done: Done) -> str:
    return dumps({"text": _text(segments), "usage": _seconds(done)})


def _plain(wish: Wish, segments: Sequence[Segment], done: Done) -> str:
    return f"{_text(segments)}\n"


def _srt(wish: Wish, segments: Sequence[Segment], done: Done) -> str:
    """SubRip, as https://www.matroska.org/technical/subtitles.html#srt-subtitles describes it."""
    return "".join(f"{number}\n{_cue(segment, ',')}\n" for number, segment in enumerate(segments, 1))


def _vtt(wish: Wish, segments: Sequence[Segment], done: Done) -> str:
    """https://www.w3.org/TR/webvtt1/"""
    return "WEBVTT\n\n" + "".join(f"{_cue(segment, '.', escaped=True)}\n" for segment in segments)


def _cue(segment: Segment, point: str, escaped: bool = False) -> str:
    """Times and text; an empty line would end it, and an arrow begin another. One of no length is not shown."""
    end = max(segment.end, segment.start + SHORTEST_S)
    text = " ".join(segment.text.split()).replace("-->", "->")
    if escaped:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{clock(segment.start, point)} --> {clock(end, point)}\n{text}\n"


def clock(second: float, point: str) -> str:
    """Such as 01:02:03.450."""
    whole, thousandths = divmod(round(second * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"


def _verbose(wish: Wish, segments: Sequence[Segment], done: Done) -> str:
    said: dict[str, Any] = {
        "task": wish.task,
        "language": done.extra.get("language_name") or done.extra.get("language") or "",
        "duration": done.extra.get("duration", segments[-1].end if segments else 0.0),
        "text": _text(segments),
    }
    if "segment" in wish.granularities:
        said["segments"] = [_segment(at, segment) for at, segment in enumerate(segments)]
    if "word" in wish.granularities:
        said["words"] = [_word(word) for segment in segments for word in segment.extra.get("words", ())]
    return dumps({**said, "usage": _seconds(done)})


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


def _seconds(done: Done) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(float(done.extra.get("duration", 0.0)))}


_FORMS: Mapping[str, Callable[[Wish, Sequence[Segment], Done], str]] = {
    "json": _json,
    "text": _plain,
    "srt": _srt,
    "vtt": _vtt,
    "verbose_json": _verbose,
}
