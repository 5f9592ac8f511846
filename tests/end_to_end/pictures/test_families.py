"""Every family over HTTP, with the client of OpenAI: its pictures are those of diffusers called directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from openai import APIStatusError

from .direct import (
    NEEDS,
    PROMPT,
    SIDE,
    STEPS,
    Direct,
    file,
    opened,
    photo,
    same,
    transparent,
    white,
)

pytestmark = NEEDS

FAMILIES = ("sd", "sdxl", "sd3", "flux")
SIZE: Any = f"{SIDE}x{SIDE}"
OWN = {"num_inference_steps": STEPS, "seed": 7}
Find = Callable[[str], Direct]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_of_a_prompt(house: Any, directly: Find, family: str) -> None:
    painted = house.paint(family)
    assert same(painted, directly(family).paint())
    assert not same(painted, house.paint(family, seed=8))
    assert not same(painted, house.paint(family, prompt="two dogs"))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_with_a_mask(house: Any, directly: Find, family: str) -> None:
    """What is transparent is repainted; of the rest there is what diffusers leaves of it."""
    answer = house.openai.images.edit(
        model=family, image=file(photo()), mask=file(transparent()), prompt=PROMPT, size=SIZE, extra_body=OWN,
        response_format="b64_json",
    )  # fmt: skip
    assert same(opened(answer.data[0].b64_json), directly(family).edit(photo(), white()))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_of_the_whole(house: Any, directly: Find, family: str) -> None:
    answer = house.openai.images.edit(
        model=family, image=[file(photo())], prompt=PROMPT, extra_body={**OWN, "strength": 0.7},
        response_format="b64_json",
    )  # fmt: skip
    assert same(opened(answer.data[0].b64_json), directly(family).edit(photo(), strength=0.7))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_variation(house: Any, directly: Find, family: str) -> None:
    answer = house.openai.images.create_variation(
        model=family, image=file(photo()), response_format="b64_json", extra_body={**OWN, "strength": 0.6}
    )
    assert same(opened(answer.data[0].b64_json), directly(family).edit(photo(), prompt="", strength=0.6))


def test_a_negative_prompt_and_guidance(house: Any, directly: Find) -> None:
    painted = house.paint("sd", negative_prompt="a green tree", guidance_scale=3.5)
    assert same(painted, directly("sd").paint(negative_prompt="a green tree", guidance_scale=3.5))
    assert not same(painted, directly("sd").paint(guidance_scale=3.5))


def test_a_single_file_paints_what_its_folder_does(house: Any, directly: Find) -> None:
    assert same(house.paint("painted"), directly("sd").paint())


def test_a_single_file_without_configurations_says_what_to_fetch(house: Any) -> None:
    with pytest.raises(APIStatusError) as refused:
        house.paint("bare")
    assert refused.value.status_code == 400
    assert "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --include" in refused.value.message
    assert "--option config=DIR" in refused.value.message
