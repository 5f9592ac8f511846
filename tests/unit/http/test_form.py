"""Forms become the mapping that JSON would be."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.http.fields import Fields, Upload, Written, WrongType
from anyform.http.form import PARTS, NotForm, is_form, parse

KIND = "multipart/form-data; boundary=B"


def part(head: str, data: bytes = b"x") -> bytes:
    return b"--B\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"


def named(name: str, data: bytes = b"x") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"', data)


END = b"--B--\r\n"


def sent(**form: Any) -> dict[str, Any]:
    """What arrives of a form that a real client writes."""
    form.setdefault("files", {"": ("", b"")})  # which makes it a multipart one, and is nothing
    request = httpx.Request("POST", "http://h/", **form)
    return parse(request.read(), request.headers["content-type"])


def test_text_files_and_lists() -> None:
    found = sent(
        data={"model": "a/b", "labels[]": ["cat", "dog"], "word": ["one", "two"], "only[]": "x"},
        files=[("image", ("ä.png", b"\0\r\n--B\r\n", "image/png")), ("more", ("a.bin", b"y")), ("more", ("b", b"z"))],
    )
    assert found == {
        "model": "a/b",
        "labels": ["cat", "dog"],
        "word": ["one", "two"],
        "only": ["x"],
        "image": Upload(data=b"\0\r\n--B\r\n", filename="ä.png", media_type="image/png"),
        "more": [
            Upload(data=b"y", filename="a.bin", media_type="application/octet-stream"),
            Upload(data=b"z", filename="b", media_type="application/octet-stream"),
        ],
    }
    assert all(isinstance(value, Written) for value in [found["model"], *found["labels"]])


def test_numbers_and_booleans_are_read_from_text() -> None:
    fields = Fields(sent(data={"top_k": "5", "t": "-0.5e1", "stream": "True", "off": "0", "word": "5x"}))
    assert fields.integer("top_k") == 5
    assert fields.number("t") == -5.0
    assert fields.number("top_k") == 5
    assert (fields.flag("stream"), fields.flag("off")) == (True, False)
    assert fields.text("top_k") == "5"
    assert fields.array("word") == ["5x"]
    for wrong in (lambda: fields.integer("word"), lambda: fields.number("stream"), lambda: fields.flag("word")):
        with pytest.raises(WrongType, match="but got a string"):
            wrong()


@pytest.mark.parametrize("text", ["5", "true", "1e3", " 5", "\u0665", "0x5", "1_000", "inf", "nan", ""])
def test_text_of_json_stays_text(text: str) -> None:
    fields = Fields({"a": text})
    for read in (fields.integer, fields.number, fields.flag):
        with pytest.raises(WrongType):
            read("a")
    if text not in ("5", "1e3"):
        with pytest.raises(WrongType):
            Fields({"a": Written(text)}).number("a")


def test_a_file_is_no_text_and_text_no_file() -> None:
    fields = Fields(sent(data={"a": "x"}, files={"b": ("f.txt", b"x")}))
    with pytest.raises(WrongType, match="expected a string, but got a file"):
        fields.text("b")


def test_an_empty_file_field_of_a_browser_is_absent() -> None:
    assert parse(part('Content-Disposition: form-data; name="f"; filename=""', b"") + END, KIND) == {}


def test_names_keep_quotes_and_line_ends_as_clients_escape_them() -> None:
    head = 'Content-Disposition: form-data; name="a\\"b"; filename="c;d.png"'
    assert parse(part(head) + END, KIND) == {'a"b': Upload(data=b"x", filename="c;d.png")}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "its last boundary is missing"),
        (b"x", "form in your request"),
        (b'{"model": "m"}', "form in your request"),
        (named("a"), "its last boundary is missing"),
        (named("a") + b"--B", "its last boundary is missing"),
        (b"--C\r\n" + named("a") + END, "form in your request"),
        (part("Content-Type: text/plain") + END, "part 1 has no name"),
        (named("a") + part("Content-Disposition: form-data") + END, "part 2 has no name"),
        (part('Content-Disposition: attachment; name="a"') + END, "part 1 has no name"),
        (b"--B\r\n\r\nx\r\n" + END, "part 1 has no name"),
        (named("a", b"\xff") + END, "'a' is not UTF-8"),
        (
            part('Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64') + END,
            "'a' has the Content-Transfer-Encoding 'base64'",
        ),
        (named("a", b"") * (PARTS + 1) + END, f"more than {PARTS} parts"),
        (part("X: " + "y" * 10_000) + END, "form in your request"),
        (part("\r\n".join(["X: y"] * 100)) + END, "form in your request"),
        (part("no colon") + END, "form in your request"),
    ],
)
def test_what_is_no_form_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(NotForm, match=words):
        parse(data, KIND)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; b="'])
def test_a_form_without_a_boundary(kind: str) -> None:
    assert is_form(kind)
    with pytest.raises(NotForm, match="names no boundary"):
        parse(named("a") + END, kind)


def test_a_boundary_that_is_too_long() -> None:
    with pytest.raises(NotForm, match="Boundary length"):
        parse(b"", f"multipart/form-data; boundary={'b' * 5000}")


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/mixed; boundary=B", "multipart/form-datax"])
def test_what_says_to_be_no_form(kind: str) -> None:
    assert not is_form(kind)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([named("a"), b"--B", b"--", b"\r\n", END, b"\xff", b":", b'"', b"name=", b"x"]), max_size=12
    )
)
def test_any_bytes_give_a_mapping_or_a_fault(pieces: list[bytes]) -> None:
    with suppress(NotForm):
        assert isinstance(parse(b"".join(pieces), KIND), dict)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_every_file_and_text_survives(data: bytes, text: str) -> None:
    found = sent(data={"text": text}, files={"file": ("f", data)})
    assert (found["file"].data, found["text"]) == (data, text)
