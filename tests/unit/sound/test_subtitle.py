"""Segments -> plain text, SubRip, WebVTT and OpenAI's JSON."""

from __future__ import annotations

import webvtt
from hypothesis import given
from hypothesis import strategies as st

from anyform.contract.events import Done, Segment
from anyform.sound import subtitle

WORDS = [{"word": " Who", "start": 0.5, "end": 0.9}, {"word": " goes?", "start": 0.9, "end": 1.5}]
SEGMENTS = (
    Segment(text=" Who goes?", start=0.5, end=1.5, extra={"words": WORDS}),
    Segment(text=" I --> <me> &\n\nyou", start=3661.25, end=3661.25),
)


def test_a_clock_carries() -> None:
    assert subtitle.clock(59.9996, ",") == "00:01:00,000"
    assert subtitle.clock(360_000.0, ".") == "100:00:00.000"


def test_texts_are_joined_as_they_are() -> None:
    assert subtitle.text(SEGMENTS) == "Who goes? I --> <me> &\n\nyou"
    assert subtitle.text(()) == ""


def test_subtitles_are_counted_and_none_is_without_length() -> None:
    assert subtitle.srt(SEGMENTS) == (
        "1\n00:00:00,500 --> 00:00:01,500\nWho goes?\n\n2\n01:01:01,250 --> 01:01:01,251\nI -> <me> & you\n\n"
    )


def test_cues_of_webvtt_are_escaped() -> None:
    assert subtitle.vtt(SEGMENTS) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\nWho goes?\n\n"
        "01:01:01.250 --> 01:01:01.251\nI -&gt; &lt;me&gt; &amp; you\n\n"
    )


def test_a_segment_becomes_one_for_each_timed_word() -> None:
    first, second = ([(s.text, s.start, s.end) for s in subtitle.worded(segment)] for segment in SEGMENTS)
    assert first == [(" Who", 0.5, 0.9), (" goes?", 0.9, 1.5)]
    assert second == [(SEGMENTS[1].text, 3661.25, 3661.25)]


def test_what_is_not_known_is_there_in_verbose_json_all_the_same() -> None:
    said = subtitle.verbose("transcribe", ("word", "segment"), SEGMENTS, Done(extra={"language": "en"}))
    assert (said["language"], said["duration"], said["usage"]) == ("en", 3661.25, {"type": "duration", "seconds": 0})
    assert said["words"] == [{"word": "Who", "start": 0.5, "end": 0.9}, {"word": "goes?", "start": 0.9, "end": 1.5}]
    assert (said["segments"][1]["tokens"], said["segments"][1]["no_speech_prob"]) == ((), 0.0)
    assert subtitle.verbose("translate", (), (), Done())["duration"] == 0.0


@given(
    st.lists(st.text(), max_size=4).map(
        lambda texts: [Segment(text=text, start=float(at), end=at + 1.0) for at, text in enumerate(texts)]
    )
)
def test_whatever_is_said_there_are_as_many_cues_as_segments(segments: list[Segment]) -> None:
    read = webvtt.from_string(subtitle.vtt(segments))
    spoken = [segment for segment in segments if segment.text.split()]
    assert [cue.start_in_seconds for cue in read.captions if cue.text.strip()] == [int(one.start) for one in spoken]
