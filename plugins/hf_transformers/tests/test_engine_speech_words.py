"""When words were spoken: the path through attention, and tokens gathered into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.engine


def cheapest(cost: Any) -> float:
    """The cost of the cheapest path, the plain way."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for row in range(rows):
        for column in range(columns):
            before = min(total[row, column], total[row, column + 1], total[row + 1, column])
            total[row + 1, column + 1] = cost[row, column] + before
    return float(total[-1, -1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 3), (40, 150), (60, 60)])
def test_the_path_is_the_cheapest(shape: tuple[int, int]) -> None:
    from anyform_hf_transformers.alignment import warp

    cost = np.random.default_rng(sum(shape)).standard_normal(shape)
    rows, columns = warp(cost)
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, shape[0] - 1, shape[1] - 1)
    steps = {(int(down), int(along)) for down, along in zip(np.diff(rows), np.diff(columns), strict=True)}
    assert steps <= {(0, 1), (1, 0), (1, 1)}
    assert cost[rows, columns].sum() == pytest.approx(cheapest(cost), abs=1e-4)


def test_tokens_begin_where_attention_moves_to() -> None:
    from anyform_hf_transformers.alignment import STEP_S, times

    looked = [10, 40, 41, 90]
    attention = np.full((2, len(looked), 120), 1e-3, np.float32)
    for token, column in enumerate(looked):
        attention[:, token, column : column + 25] = 1.0
    found = times(attention, 7)
    assert len(found) == len(looked)
    assert found == sorted(found)
    assert found[-1] == pytest.approx(90 * STEP_S, abs=5 * STEP_S)


PIECES = (" Good", " morn", "ing", ",", ' "', "Mr", ".", " ", "Ü", "mit", '"', "!")


def gathered(pieces: Sequence[str | bytes], language: str = "en") -> list[tuple[str, float, float]]:
    from anyform_hf_transformers.alignment import words

    data = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    timed = [(token, float(token), token + 1.0) for token in range(len(data))]
    found = words(timed, lambda ids: b"".join(data[id] for id in ids).decode("utf-8", "replace"), language)
    return [(word.text, word.start, word.end) for word in found]


def test_punctuation_goes_with_its_word() -> None:
    found = gathered(PIECES)
    assert "".join(text for text, _, _ in found) == "".join(PIECES)
    assert found[:2] == [(" Good", 0.0, 1.0), (" morning,", 1.0, 4.0)]
    assert found[2][0].startswith(' "Mr.')


def test_half_a_character_waits_for_the_rest() -> None:
    assert gathered([" na", "ï".encode()[:1], "ï".encode()[1:], "ve"]) == [(" naïve", 0.0, 4.0)]


def test_languages_without_spaces_have_a_word_a_character() -> None:
    assert [text for text, _, _ in gathered(["日", "本", "。"], "ja")] == ["日", "本。"]
    assert [text for text, _, _ in gathered(["日", "本"], "en")] == ["日本"]
