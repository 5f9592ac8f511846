"""A transcription, piece by piece, is what HTTP answers whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyform.cli.transcript import ENDINGS, Transcript
from anyform.contract.events import Done, Segment
from anyform.http import transcription
from anyform.http.fields import Upload
from anyform.http.media import Media
from anyform.http.reply import Head

DONE = Done(extra={"duration": 3.5, "language": "en", "language_name": "english"})
HEAD = Head(key="k", created=1700000000, model="m")
SEGMENTS = st.lists(st.text(alphabet="ab \n\t\u3000<-&>é狐", max_size=8), max_size=5).map(
    lambda texts: [Segment(text=text, start=float(at), end=at + 1.0) for at, text in enumerate(texts)]
)


def over_http(form: str, segments: list[Segment]) -> str:
    body = {"model": "m", "file": Upload(data=b"sound"), "response_format": form}
    writer = transcription.read(body, Media(100)).writer(HEAD)
    return (b"".join(writer.write(event, 0) for event in (*segments, DONE)) + writer.end()).decode()


def pieces(form: str, segments: list[Segment], **how: Any) -> list[str]:
    transcript = Transcript(form, "transcribe", **how)
    return [*map(transcript.piece, segments), transcript.end(DONE)]


@given(segments=SEGMENTS)
@pytest.mark.parametrize("form", ENDINGS)
def test_pieces_joined_are_what_http_answers(form: str, segments: list[Segment]) -> None:
    said, answered = "".join(pieces(form, segments)), over_http(form, segments)
    if form.endswith("json"):
        assert json.loads(said) == json.loads(answered)
    else:
        assert said == answered


def test_subtitles_and_text_leave_as_they_come() -> None:
    segments = [Segment(text=f" word{at} ", start=float(at), end=at + 1.0) for at in range(3)]
    assert pieces("text", segments) == ["word0", "  word1", "  word2", "\n"]
    assert pieces("text", segments, lines=True) == ["word0\n", "word1\n", "word2\n", ""]
    assert [piece.partition("\n")[0] for piece in pieces("srt", segments)] == ["1", "2", "3", ""]
    assert [piece.count("-->") for piece in pieces("vtt", segments)] == [1, 1, 1, 0]


def test_every_timed_word_has_a_subtitle_of_its_own() -> None:
    words = [{"word": " a", "start": 0.0, "end": 0.5}, {"word": " b", "start": 0.5, "end": 1.0}]
    segments = [
        Segment(text=" a b", start=0.0, end=1.0, extra={"words": words}),
        Segment(text=" c", start=1.0, end=2.0),
    ]
    said = "".join(pieces("srt", segments, words=True))
    assert [block.split("\n")[::2] for block in said.split("\n\n") if block] == [["1", "a"], ["2", "b"], ["3", "c"]]


def test_all_formats_of_http_have_an_ending() -> None:
    assert set(ENDINGS) == set(transcription.FORMATS)
