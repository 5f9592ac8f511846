"""POST /v1/audio/transcriptions and /v1/audio/translations: speech to text, in five formats, whole or streamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyform.contract.events import Done, Event, Segment
from anyform.contract.jobs import Sound, Transcribe, Translate
from anyform.http.fields import Fields, NotSupported, wrong
from anyform.http.media import Media
from anyform.http.reply import JSON, SSE, Ask, Head, Writer, dumps, sse
from anyform.sound import subtitle

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
STREAMED = ("json", "text", "verbose_json")
"""Formats that a stream may be asked for; the text is streamed alike, `verbose_json` adds times."""
GRANULARITIES = ("segment", "word")
PLAIN = "text/plain; charset=utf-8"
VTT = "text/vtt; charset=utf-8"
CHUNKING = "chunking_strategy"
LONGEST_PROMPT = 100_000
"""Letters; no model takes a hundredth of it."""
LONGEST_LANGUAGE = 40
"""Letters of a language's code or name."""
NOT_DONE = {
    "include": "Leave it out.",
    "known_speaker_names": "Speakers are not told apart.",
    "known_speaker_references": "Speakers are not told apart.",
    "keywords": "Write them into 'prompt'.",
    "languages": "Give one as 'language', or leave it to be found out.",
}
"""What OpenAI's own models take and Whisper does not, and what to do instead."""


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
    if fields.flag("vad_filter") or _detects(fields):
        name = "vad_filter" if fields.flag("vad_filter") else CHUNKING
        raise NotSupported(
            f"Unsupported parameter: '{name}': translations know no detector of voices.",
            "Leave it out.",
            param=fields.path(name),
        )
    return _ask(fields, wish, Translate(audio=_sound(fields, media), **_shared(fields)))


def _ask(fields: Fields, wish: Wish, job: Transcribe | Translate) -> Ask:
    model, stream = fields.need_text("model"), bool(fields.flag("stream"))
    if stream and wish.form not in STREAMED:
        wrong(fields.path("stream"), f"'{wish.form}' cannot be streamed", "Use response_format json, or do not stream.")

    def writer(head: Head) -> Writer:
        return Stream(wish) if stream else Whole(wish)

    return Ask(
        model=str(model),
        jobs=(job,),
        writer=writer,
        stream=stream,
        prompt="prompt",
        typed=True,
        judged=("language", "temperature", "prompt"),
    )


def _wish(fields: Fields, task: str) -> Wish:
    form = fields.choice("response_format", *FORMATS) or "json"
    for name, hint in NOT_DONE.items():
        fields.refuse(name, hint)
        fields.refuse(f"{name}[]", hint)
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
    # 0 is OpenAI's default, and means that it is raised where a text cannot be trusted.
    return {"prompt": prompt, "temperature": fields.number("temperature", low=0, high=1) or None}


def _wanted(fields: Fields, wish: Wish) -> dict[str, Any]:
    return {
        "language": _language(fields),
        "words": "word" in wish.granularities,
        "vad": bool(fields.flag("vad_filter")) or _detects(fields),
    }


def _language(fields: Fields) -> str:
    """As it is written: which there are is the model's matter."""
    language = str(fields.text("language") or "")
    if len(language) > LONGEST_LANGUAGE or not language.isprintable():
        wrong(fields.path("language"), f"'{language[:LONGEST_LANGUAGE]!a}' is none", "Give a code of ISO 639-1.")
    return language


def _detects(fields: Fields) -> bool:
    """Whether `chunking_strategy` asks for a detector of voices; `auto` leaves it to the server."""
    value = fields.members(CHUNKING, 'Write auto, or {"type": "server_vad"}.')
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


def _sound(fields: Fields, media: Media) -> Sound:
    """The one file: of a form, in JSON as base64 or a data: URL, or the place of one that may be read or fetched."""
    value, param = fields.data.get("file"), fields.path("file")
    if value is None:
        fields.missing("file")
    if isinstance(value, list):
        wrong(param, f"{len(value)} files", "Send one a request.")
    return media.sound(value, param)


class Stream:
    """Writes segments as OpenAI's transcript events. Their texts joined are the whole text.

    `verbose_json` has an event with its times after each segment's text, and all that it says when whole in the last.
    """

    media_type = SSE

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._verbose = wish.form == "verbose_json"
        self._said: list[str] = []
        self._space = ""
        self._segments: list[Segment] = []
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Done):
            self._done = event
        return self._heard(event) if isinstance(event, Segment) else b""

    def _heard(self, segment: Segment) -> bytes:
        said = self._say(segment.text)
        if not self._verbose:
            return said
        self._segments.append(segment)
        told = {"id": str(len(self._segments) - 1), "start": segment.start, "end": segment.end, "text": segment.text}
        if "word" in self._wish.granularities:
            told["words"] = subtitle.verbose("", ("word",), [segment], self._done)["words"]
        return said + sse({"type": "transcript.text.segment", **told, "speaker": ""})

    def _say(self, text: str) -> bytes:
        """Space at an end is kept back: the text has none there."""
        text = self._space + text if self._said else text.lstrip()
        self._space = text[len(text.rstrip()) :]
        delta = text.rstrip()
        if not delta:
            return b""
        self._said.append(delta)
        return sse({"type": "transcript.text.delta", "delta": delta})

    def end(self) -> bytes:
        usage = self._done.usage
        counted = {
            "type": "tokens",
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        done = {"type": "transcript.text.done", "text": "".join(self._said), "usage": counted}
        if self._verbose:
            done = subtitle.verbose(self._wish.task, self._wish.granularities, self._segments, self._done) | done
        return sse(done)


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


def _json(wish: Wish, segments: Sequence[Segment], done: Done) -> str:
    return dumps({"text": subtitle.text(segments), "usage": subtitle.usage(done)})


def _verbose(wish: Wish, segments: Sequence[Segment], done: Done) -> str:
    return dumps(subtitle.verbose(wish.task, wish.granularities, segments, done))


_FORMS: Mapping[str, Callable[[Wish, Sequence[Segment], Done], str]] = {
    "json": _json,
    "text": lambda wish, segments, done: f"{subtitle.text(segments)}\n",
    "srt": lambda wish, segments, done: subtitle.srt(segments),
    "vtt": lambda wish, segments, done: subtitle.vtt(segments),
    "verbose_json": _verbose,
}
