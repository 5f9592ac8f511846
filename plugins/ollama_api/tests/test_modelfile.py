"""Modelfiles: as Ollama's documentation has them, and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import Invalid
from anyform_ollama_api.modelfile import HEADER, Modelfile, parse, write

WHOLE = '''\
# A comment
FROM llama3.2
parameter temperature 0.7
PARAMETER num_ctx 4096
PARAMETER stop "<|im_end|>"
PARAMETER stop AI assistant:
PARAMETER penalize_newline true

TEMPLATE """{{ if .System }}<|system|>
{{ .System }}
{{ end }}# not a comment
"""
System You are "Mario".
ADAPTER sha256:abc
LICENSE """
MIT

"""
LICENSE Other
MESSAGE user Is Toronto in Canada?
MESSAGE assistant "yes"
'''


def test_every_command_is_read() -> None:
    assert parse(WHOLE) == Modelfile(
        base="llama3.2",
        parameters={
            "temperature": 0.7,
            "num_ctx": 4096,
            "stop": ["<|im_end|>", "AI assistant:"],
            "penalize_newline": True,
        },
        template="{{ if .System }}<|system|>\n{{ .System }}\n{{ end }}# not a comment\n",
        system='You are "Mario".',
        adapters=("sha256:abc",),
        licenses=("\nMIT\n\n", "Other"),
        messages=(("user", "Is Toronto in Canada?"), ("assistant", "yes")),
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_bytes_are_read_by_their_mark(encoding: str) -> None:
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    assert parse(mark + "FROM møde\nSYSTEM 你好\n".encode(encoding)) == Modelfile(base="møde", system="你好")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no FROM line"),
        ("SYSTEM hi", "no FROM line"),
        (
            "FROM a\n\nBAD x",
            '(line 3): command must be one of "from", "license", "template", "system", "adapter", "parameter", '
            'or "message"',
        ),
        ("F-OO x", "(line 1): command must be one of"),
        ("5FROM x", "(line 1): command must be one of"),
        ("FROM", "(line 1): unexpected EOF"),
        ("FROM a\nSYSTEM", "(line 2): unexpected EOF"),
        ('FROM a\nSYSTEM """hi\nthere', "(line 2): unexpected EOF"),
        ('FROM a\nSYSTEM "hi', "(line 2): unexpected EOF"),
        ("FROM a\nPARAMETER stop", "(line 2): unexpected EOF"),
        ("FROM a\nPARAMETER a-b 5", "(line 2): unexpected EOF: parameter a"),
        ("FROM a\nPARAMETER seed 5\nPARAMETER seed 6", "(line 3): parameter 'seed' is said twice"),
        ("FROM a\nMESSAGE user", "(line 2): unexpected EOF"),
        ("FROM a\nMESSAGE robot hi", '(line 2): message role must be one of "system", "user", or "assistant"'),
        ("FROM a\nFROM b", "(line 2): a second FROM, 'b'"),
        (b"FROM \xff", "the Modelfile is no text in UTF-8"),
        (b"\xff\xfeF", "the Modelfile is no text in UTF-16"),
    ],
)
def test_what_cannot_be_read_is_said_as_ollama_says_it(text: str | bytes, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert caught.value.message.startswith(said)


def test_written_as_ollama_shows_it() -> None:
    made = Modelfile(
        base="stories:latest",
        template='{{ .System }}\n"{{ .Prompt }}"',
        system="Tell a tale.",
        parameters={"temperature": 0, "stop": ["a", "b"], "num_ctx": 256, "top_p": 0.5},
        licenses=("MIT", "two\nlines"),
        messages=(("user", "Hi"), ("assistant", " Hello")),
    )
    assert write(made, "whole:latest") == HEADER + (
        "# FROM whole:latest\n\n"
        "FROM stories:latest\n"
        'TEMPLATE """{{ .System }}\n"{{ .Prompt }}""""\n'
        "SYSTEM Tell a tale.\n"
        "PARAMETER num_ctx 256\nPARAMETER stop a\nPARAMETER stop b\nPARAMETER temperature 0\nPARAMETER top_p 0.5\n"
        'LICENSE MIT\nLICENSE "two\nlines"\n'
        'MESSAGE user Hi\nMESSAGE assistant " Hello"\n'
    )


def test_what_no_quotation_marks_can_hold_is_refused() -> None:
    with pytest.raises(Invalid, match="SYSTEM cannot be written"):
        write(Modelfile(base="a", system='x"""\ny"\nz'))


TEXTS = st.text(min_size=1, max_size=40) | st.text(alphabet='"\n a#', min_size=1, max_size=12)
NUMBERS = st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
NAMES = st.sampled_from(["temperature", "num_ctx", "seed", "top_p"])


@settings(max_examples=300, deadline=None)
@given(
    st.builds(
        Modelfile,
        base=st.sampled_from(["llama3.2", "a/b:c"]),
        parameters=st.dictionaries(NAMES, NUMBERS)
        | st.fixed_dictionaries({"stop": st.lists(TEXTS, min_size=1, max_size=3)}),
        template=st.just("") | TEXTS,
        system=st.just("") | TEXTS,
        adapters=st.lists(TEXTS, max_size=2).map(tuple),
        licenses=st.lists(TEXTS, max_size=2).map(tuple),
        messages=st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS), max_size=3).map(tuple),
    )
)
def test_what_is_written_is_read_again(made: Modelfile) -> None:
    try:
        text = write(made, "name:latest")
    except Invalid:  # only quotation marks at the wrong places cannot be said
        assert any('"' in text for text in _texts(made))
        return
    assert parse(text) == made
    assert parse(text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")) == made


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\n" * 500_000,
        'FROM a\nSYSTEM "' + "\n" * 3_000_000,
        'FROM a\nSYSTEM "' + '" "' * 1_000_000,
        "\n" * 4_000_000,
    ],
)
def test_a_large_one_takes_no_longer_than_its_length(text: str) -> None:
    try:
        made = parse(text)
    except Invalid:
        return
    assert made.base == "a"


def _texts(made: Modelfile) -> list[str]:
    said = [made.template, made.system, *made.adapters, *made.licenses, *made.parameters.get("stop", ())]
    return [*said, *(content for _, content in made.messages)]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='FROMSYTEAGPC frommesageparmt"\n\r\t#0.5', max_size=60) | st.binary(max_size=40))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        made = parse(text)
    except Invalid:
        return
    assert made.base
