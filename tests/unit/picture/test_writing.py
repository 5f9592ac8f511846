"""Pictures that are written: what is in the file, and what its metadata say of it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from anyform.contract.errors import Invalid, Unsupported
from anyform.picture import writing

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore:::PIL")]

ABOUT = {
    "prompt": "a fox, ünique 狐\nin two lines 😀",
    "negative_prompt": "hens",
    "seed": "7",
    "steps": "4",
    "scheduler": "EulerDiscreteScheduler",
    "guidance": "7.5",
    "size": "60x40",
    "model": "owner/repo: special",
    "own": "kept too",
}
PARAMETERS = (
    "a fox, ünique 狐\nin two lines 😀\nNegative prompt: hens\nSteps: 4, Sampler: EulerDiscreteScheduler, "
    'CFG scale: 7.5, Seed: 7, Size: 60x40, Model: "owner/repo: special"'
)


def drawn(width: int = 60, height: int = 40) -> Any:
    """Smooth, as photos are, with a little noise."""
    down, across = np.mgrid[:height, :width]
    plain = np.stack([across * 4, down * 6, across * 2 + down * 2], -1) % 256
    return Image.fromarray((plain * 0.9 + np.random.default_rng(0).integers(0, 20, plain.shape)).astype(np.uint8))


def opened(data: bytes) -> Any:
    return Image.open(io.BytesIO(data))


def apart(data: bytes) -> float:
    """How far the picture in *data* is from the one that was written, on average, of 255."""
    return float(np.abs(np.asarray(opened(data)).astype(int) - np.asarray(drawn())).mean())


@pytest.mark.parametrize(("media_type", "form"), writing.MEDIA_TYPES.items())
def test_a_picture_is_written_with_all_that_is_told_of_it(media_type: str, form: str) -> None:
    data = writing.encode(drawn(), media_type, about=ABOUT)
    assert (opened(data).format, opened(data).size, opened(data).mode) == (form, (60, 40), "RGB")
    assert writing.about(data) == {**ABOUT, "parameters": PARAMETERS}
    assert apart(data) < 5 * (form != "PNG") + 1e-9


@pytest.mark.parametrize("media_type", writing.MEDIA_TYPES)
def test_the_same_gives_the_same_bytes(media_type: str) -> None:
    once, again = (writing.encode(drawn(), media_type, about=ABOUT) for _ in range(2))
    assert once == again
    assert once != writing.encode(drawn(), media_type, about={**ABOUT, "seed": "8"})


def test_other_programs_find_it_where_they_look() -> None:
    png, jpeg, webp = (opened(writing.encode(drawn(), kind, about=ABOUT)) for kind in writing.MEDIA_TYPES)
    assert png.text["parameters"] == PARAMETERS
    assert png.text["seed"] == "7"
    for image in (jpeg, webp):
        comment = image.getexif().get_ifd(0x8769)[0x9286]
        assert comment == b"UNICODE\0" + PARAMETERS.encode("utf-16-be")
        assert image.getexif()[0x010E].startswith('{"prompt": "a fox, \\u00fcnique')


@pytest.mark.parametrize("media_type", writing.MEDIA_TYPES)
def test_nothing_is_told_of_one_of_which_nothing_is_known(media_type: str) -> None:
    data = writing.encode(drawn(), media_type, about={})
    assert writing.about(data) == {}
    assert b"Exif" not in data
    assert b"tEXt" not in data


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/webp"])
def test_compression_is_from_the_smallest_file_to_the_best_picture(media_type: str) -> None:
    files = [writing.encode(drawn(), media_type, compression=number, about={}) for number in (0, 50, 100)]
    usual = writing.encode(drawn(), media_type, about={})
    assert len(files[0]) < len(files[1]) < len(usual) < len(files[2])
    assert apart(files[0]) > apart(files[1]) > apart(usual) > apart(files[2])
    assert files[0] == writing.encode(drawn(), media_type, compression=1, about={})


def test_what_has_transparency_is_written_without_in_jpeg() -> None:
    data = writing.encode(drawn().convert("RGBA"), "image/jpeg", about={})
    assert data == writing.encode(drawn(), "image/jpeg", about={})


@pytest.mark.parametrize(
    ("asked", "kind", "param"),
    [
        ({"media_type": "image/gif"}, Unsupported, "output_format"),
        ({"media_type": ""}, Unsupported, "output_format"),
        ({"compression": -1}, Invalid, "output_compression"),
        ({"compression": 101}, Invalid, "output_compression"),
    ],
)
def test_what_cannot_be_written_is_refused(asked: dict[str, Any], kind: type[Exception], param: str) -> None:
    with pytest.raises(kind) as refused:
        writing.encode(drawn(), **{"media_type": "image/jpeg", "about": {}, **asked})
    assert refused.value.details["param"] == param  # type: ignore[attr-defined]


def test_a_long_prompt_is_shortened_only_in_jpeg_whose_metadata_have_a_limit() -> None:
    prompt = "狐" * 32_000
    for media_type in writing.MEDIA_TYPES:
        told = writing.about(writing.encode(drawn(), media_type, about={**ABOUT, "prompt": prompt}))
        kept = writing.LONGEST if media_type == "image/jpeg" else len(prompt)
        assert told["prompt"] == prompt[:kept]
        assert told["seed"] == "7"
    middling = "a" * 30_000  # fits once, and not twice
    told = writing.about(writing.encode(drawn(), "image/jpeg", about={"prompt": middling}))
    assert told == {"prompt": middling}


@pytest.mark.parametrize("media_type", writing.MEDIA_TYPES)
def test_what_no_metadata_hold_is_replaced(media_type: str) -> None:
    told = writing.about(writing.encode(drawn(), media_type, about={"prompt": "a\0b\ud800c"}))
    assert told["prompt"] == "a\ufffdb?c"


def test_of_the_pictures_of_others_little_is_told_and_what_is_none_is_refused() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "holiday"
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0holiday"
    drawn().save(file, "JPEG", exif=exif)
    assert writing.about(file.getvalue()) == {}
    with pytest.raises(Invalid, match="the picture is no picture that can be read"):
        writing.about(b"no picture")


def test_damaged_metadata_tell_less_and_nothing_else() -> None:
    chance = np.random.default_rng(1)
    for media_type in writing.MEDIA_TYPES:
        whole = writing.encode(drawn(8, 8), media_type, about=ABOUT)
        for _ in range(60):
            data = bytearray(whole)
            for place in chance.integers(0, min(len(data), 1200), 3):
                data[place] = chance.integers(0, 256)
            try:
                told = writing.about(bytes(data))
            except Invalid:
                continue
            assert all(isinstance(value, str) for value in told.values())


def test_the_parameters_of_little_are_short() -> None:
    assert writing.parameters({}) == ""
    assert writing.parameters({"prompt": "a fox"}) == "a fox"
    assert writing.parameters({"seed": "7"}) == "Seed: 7"
