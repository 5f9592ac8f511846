"""What one model answers in each form, and what each request may choose for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from anyform.picture.writing import about

from .direct import NEEDS, PROMPT, SIDE, STEPS, Direct, file, opened, photo, same, transparent

pytestmark = NEEDS

SIZE: Any = f"{SIDE}x{SIDE}"
Find = Callable[[str], Direct]


def fetched(house: Any, url: str) -> Any:
    assert url.startswith(house.url)
    answer = house.http.get(url)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize(("form", "kind"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")])
def test_a_url_is_of_a_file_that_says_how_it_was_made(house: Any, directly: Find, form: str, kind: str) -> None:
    answer = fetched(house, house.answer(response_format="url", output_format=form).data[0].url)
    made = opened(answer.content)
    assert (answer.headers["content-type"], made.format, made.size) == (kind, form.upper(), (SIDE, SIDE))
    told = about(answer.content)
    assert (told["seed"], told["prompt"], told["steps"]) == ("7", PROMPT, str(STEPS))
    assert "Seed: 7" in told["parameters"]
    if form == "png":
        assert same(made, directly("sd").paint())


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_compression_says_how_large_a_file_may_be(house: Any, form: str) -> None:
    sizes = [
        len(house.answer(output_format=form, output_compression=share, num_inference_steps=1).data[0].b64_json)
        for share in (10, 100)
    ]
    assert sizes[0] < sizes[1]


def test_two_pictures_have_two_seeds_of_which_each_gives_the_picture_again(house: Any) -> None:
    both = [opened(one.b64_json) for one in house.answer(n=2).data]
    assert len(both) == 2
    assert same(both[0], house.paint(seed=7))
    assert same(both[1], house.paint(seed=8))


def test_a_seed_that_is_drawn_is_told(house: Any) -> None:
    """In the answer and in its file, so that the picture can be made again."""
    [answer] = house.answer(seed=None).data
    made = opened(answer.b64_json)
    assert int(made.info["seed"]) == answer.seed
    assert same(made, house.paint(seed=answer.seed))


def test_a_stream_has_unfinished_pictures_and_then_the_whole(house: Any) -> None:
    with house.answer(stream=True, partial_images=2, response_format=None) as stream:
        events = list(stream)
    shown = [event for event in events if event.type == "image_generation.partial_image"]
    [whole] = [event for event in events if event.type == "image_generation.completed"]
    assert events[-1] is whole
    assert [event.partial_image_index for event in shown] == [0, 1]
    assert [opened(event.b64_json).size for event in shown] == [(SIDE, SIDE)] * 2
    assert (whole.size, whole.output_format) == (SIZE, "png")
    painted = opened(whole.b64_json)
    assert same(painted, house.paint())
    assert not same(opened(shown[0].b64_json), painted)


def test_an_edit_can_be_streamed(house: Any) -> None:
    given = {"model": "sd", "prompt": PROMPT, "size": SIZE}
    own = {"num_inference_steps": STEPS, "seed": 7}
    sent = {"image": file(photo()), "mask": file(transparent())}
    with house.openai.images.edit(**given, **sent, stream=True, partial_images=1, extra_body=own) as stream:
        events = list(stream)
    pictures = [event.type for event in events if getattr(event, "b64_json", None)]
    assert pictures == ["image_edit.partial_image", "image_edit.completed"]
    answer = house.openai.images.edit(**given, **sent, response_format="b64_json", extra_body=own)
    assert same(opened(events[-1].b64_json), opened(answer.data[0].b64_json))


def test_steps_are_told_in_the_stream_and_to_those_who_watch(house: Any) -> None:
    mark = house.watch.mark()
    with house.answer(n=2, stream=True, response_format=None, scheduler="DDIMScheduler") as stream:
        events = [event.to_dict() for event in stream]
    steps = [(done, 2 * STEPS) for done in range(1, 2 * STEPS + 1)]
    told = [(event["step"], event["steps"]) for event in events if event["type"] == "image_generation.progress"]
    assert told == steps
    assert events[0] == {"type": "image_generation.queued", "position": 0}
    house.watch.wait(mark, "step", 2 * STEPS)
    assert [(fact["done"], fact["total"]) for fact in house.watch.since(mark, "step")] == steps


def test_each_request_has_its_own_scheduler(house: Any, directly: Find) -> None:
    """Two at once, and after them the model's own again."""
    names = ("DDIMScheduler", "EulerAncestralDiscreteScheduler", "")
    together = threading.Barrier(len(names))

    def paint(name: str) -> Any:
        together.wait(20)
        return house.paint(**({"scheduler": name} if name else {}))

    with ThreadPoolExecutor(len(names)) as pool:
        painted = dict(zip(names, pool.map(paint, names), strict=True))
    for name in names[:2]:
        assert same(painted[name], directly("sd").with_scheduler(name).paint())
    assert same(painted[""], directly("sd").paint())
    assert same(house.paint(), painted[""])


def test_an_addon_has_the_weight_that_the_request_gives_it(studio: Any, directly: Find, pipelines: Any) -> None:
    plain = studio.paint()
    assert same(plain, directly("sd").paint())
    weighed = studio.paint(loras={"wild": 0.5})
    assert same(weighed, Direct.of(pipelines / "sd").with_lora(pipelines / "wild.safetensors", 0.5).paint())
    assert not same(weighed, plain)
    assert same(studio.paint(), plain)
