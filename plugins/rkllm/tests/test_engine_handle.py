"""A model in the library of each ABI: runs, what they are given, how they end, and what may come between."""

from __future__ import annotations

import struct
import threading
from array import array
from collections.abc import Callable, Iterator
from math import nan
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.model import Stop
from anyform.testing import rkllm
from anyform_rkllm import engine as engines
from anyform_rkllm.backend import open_library
from anyform_rkllm.engine import Engine, EngineBusy, EngineFailed, EngineStuck, Pictures, Run
from anyform_rkllm.layout import Era, Mode
from anyform_rkllm.options import read

pytestmark = pytest.mark.engine

FACTS = {"toolkit": "1.1.4"}
"""Old enough for all."""


@pytest.fixture(scope="module")
def make(stand_in: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Engine]]:
    """(era, facts of the model, load options) -> an engine, the same for the same; closed in the end."""
    folder, made = tmp_path_factory.mktemp("models"), dict[str, Engine]()

    def engine(era: Era, facts: dict[str, Any] | None = None, **options: Any) -> Engine:
        name = f"{era}-{sorted((facts or {}).items())}-{sorted(options.items())}"
        if name not in made or made[name].closed:
            model = rkllm.write(folder / f"{len(made)}.rkllm", stand_in={**FACTS, **(facts or {})})
            binding = open_library(stand_in(era), stand_in=True)
            made[name] = engines.start(binding, model, options=read({"base_domain_id": 0, **options}))
        return made[name]

    yield engine
    for one in made.values():
        one.close()


@pytest.fixture(params=list(Era), ids=lambda era: era.name)
def era(request: pytest.FixtureRequest) -> Era:
    return Era(request.param)


@pytest.fixture(params=[0, 1], ids=["own thread", "foreign thread"])
def engine(make: Callable[..., Engine], era: Era, request: pytest.FixtureRequest) -> Engine:
    """One whose callbacks come from the thread that runs it, and one whose library calls from a thread of its own."""
    return make(era, {"thread": request.param})


class Heard:
    """Collects what a run gives; *most*: ends it after so many."""

    def __init__(self, most: int = 0) -> None:
        self.texts: list[bytes] = []
        self.ids: list[int] = []
        self._most = most

    def __call__(self, text: bytes, token: int) -> bool:
        self.texts.append(text)
        self.ids.append(token)
        return len(self.texts) != self._most

    @property
    def text(self) -> str:
        return b"".join(self.texts).decode()


def said(engine: Engine, text: str = "", **more: Any) -> str:
    """The whole answer."""
    heard = Heard()
    assert engine.run(Run(text=text, **more), heard).finished
    return heard.text


def fields(answer: str) -> dict[str, str]:
    """The answer's parts that have names."""
    return dict(part.split("=", 1) for part in answer.split("|") if "=" in part)


def test_a_text_and_its_tokens_reach_the_model_and_the_answer_comes_back_whole(engine: Engine) -> None:
    role = "user" if engine.abi.has_roles else "-"
    assert said(engine, "grüße €😀").startswith(f"{role}|0|prompt|grüße €😀|k=40 p=0.90 t=0.80")
    assert said(engine, tokens=(104, 105, 511)).startswith(f"{role}|0|token|104 105 511|")


def test_parts_of_characters_and_null_texts_are_passed_on_as_they_come(engine: Engine) -> None:
    heard = Heard()
    end = engine.run(Run(text="!say ä€😀!"), heard)
    assert heard.texts == ["ä".encode(), "€".encode()[:2], b"\xac\xf0", b"\x9f\x98", b"\x80!"]
    assert heard.ids == [one[0] for one in heard.texts]
    assert end.finished
    assert end.tokens == 5
    held = Heard()
    engine.run(Run(text="!null !say ä€😀!"), held)
    assert held.text == "ä€😀!"
    assert b"" in held.texts


def test_figures_come_with_the_end_where_the_abi_has_them(engine: Engine) -> None:
    perf = engine.run(Run(text="!count 7"), Heard()).perf
    if not engine.abi.measures:
        assert perf is None
        return
    assert perf is not None
    assert (perf.prompt_tokens, perf.generated_tokens) == (len("!count 7"), 7)
    assert perf.prompt_s > 0
    assert perf.generate_s > 0
    assert perf.memory_bytes == pytest.approx(512.5 * 2**20)


def test_hidden_states_are_copied_while_they_last(engine: Engine) -> None:
    one = engine.run(Run(tokens=(1, 2, 3), mode=Mode.HIDDEN), Heard())
    other = engine.run(Run(tokens=(1, 2, 4), mode=Mode.HIDDEN), Heard())
    assert one.hidden
    assert other.hidden
    assert one.finished
    assert (one.hidden.tokens, one.hidden.width, len(one.hidden.data)) == (3, 8, 3 * 8 * 4)
    rows = [struct.unpack("<8f", one.hidden.data[at : at + 32]) for at in range(0, 96, 32)]
    assert len(set(rows)) == 3
    assert all(-1 <= number <= 1 for row in rows for number in row)
    assert one.hidden.data[:64] == other.hidden.data[:64]
    assert one.hidden.data[64:] != other.hidden.data[64:]


def test_sampling_is_the_runs_own_where_the_abi_can_and_the_models_otherwise(
    make: Callable[..., Engine], era: Era
) -> None:
    engine = make(era, temperature=0.25, top_k=3, mirostat=1)
    usual = "k=3 p=0.90 t=0.25 r=1.10 f=0.00 e=0.00 m=1 5.00 0.10"
    assert f"|{usual}|" in said(engine, "a")
    own = said(engine, "a", sampling={"top_p": 0.5, "top_k": 7.0, "presence_penalty": -0.5})
    assert ("|k=7 p=0.50 t=0.25 r=1.10 f=0.00 e=-0.50 m=1 5.00 0.10|" if era >= Era.V13 else f"|{usual}|") in own
    assert f"|{usual}|" in said(engine, "a")  # not kept
    with pytest.raises(Invalid, match="unknown sampling heat"):
        engine.run(Run(text="a", sampling={"heat": 1}), Heard())


def test_numbers_that_the_library_s_fields_do_not_hold_are_refused(make: Callable[..., Engine]) -> None:
    engine = make(Era.V13)
    for name, value in (("top_k", 2**32 + 1), ("mirostat", -(2**31) - 1), ("temperature", 1e39), ("top_p", nan)):
        with pytest.raises(Invalid, match=f"^{name} is "):
            engine.run(Run(text="a", sampling={name: value}), Heard())
    assert fields(said(engine, "a", max_tokens=2**40))["n"] == str(2**31 - 1)


def test_the_most_tokens_of_a_run_end_it(engine: Engine) -> None:
    heard = Heard()
    end = engine.run(Run(text="!count 9", max_tokens=4), heard)
    assert heard.text == "1 2 3 4"
    assert (end.tokens, end.full, end.finished) == (4, True, engine.abi.samples_per_run)
    whole = engine.run(Run(text="!count 3", max_tokens=4), Heard())
    assert (whole.tokens, whole.full, whole.finished) == (3, False, True)


def test_the_most_tokens_of_the_model_hold_for_runs_that_say_nothing(make: Callable[..., Engine], era: Era) -> None:
    engine, heard = make(era, max_new_tokens=5), Heard()
    engine.run(Run(text="!count 9"), heard)
    assert heard.text == "1 2 3 4 5"


def test_history_is_kept_where_the_abi_can_until_it_is_cleared(engine: Engine) -> None:
    engine.clear()
    if not engine.abi.keeps_history:
        with pytest.raises(Unsupported, match=r"1\.1 keeps no history"):
            engine.run(Run(text="a", keep_history=True), Heard())
        return
    assert fields(said(engine, "one", keep_history=True))["h"] == "0"
    assert fields(said(engine, "two", keep_history=True))["h"] == "1"
    assert said(engine, "!recall", keep_history=True) == "one / two"
    engine.clear()
    assert fields(said(engine, "three"))["h"] == "0"


def test_roles_and_thinking_where_the_abi_has_them(engine: Engine) -> None:
    if not engine.abi.has_roles:
        with pytest.raises(Unsupported, match="the role 'tool'"):
            engine.run(Run(text="a", role="tool"), Heard())
        with pytest.raises(Unsupported, match="thinking"):
            engine.run(Run(text="a", thinking=True), Heard())
        return
    assert said(engine, "a", role="tool", thinking=True).startswith("tool|1|prompt|a|")


def test_template_and_functions_where_the_abi_has_them(make: Callable[..., Engine], era: Era) -> None:
    engine = make(era, max_new_tokens=1000)  # its own: both last
    if era == Era.V11:
        with pytest.raises(Unsupported, match="template"):
            engine.template("S", "<", ">")
    else:
        engine.template("S", "<", ">")
        assert fields(said(engine, "a"))["tmpl"] == "S~<~>"
    if era < Era.V121:
        with pytest.raises(Unsupported, match="functions"):
            engine.tools("S", "[]", "R")
    else:
        engine.tools("S", '[{"a":1}]', "R")
        assert fields(said(engine, "a"))["tools"] == 'S~[{"a":1}]~R'


def test_an_error_of_the_library_is_a_fault_and_the_model_stays_usable(engine: Engine) -> None:
    heard = Heard()
    with pytest.raises(EngineFailed, match="ended the run with an error"):
        engine.run(Run(text="!error !count 8"), heard)
    assert 0 < len(heard.texts) < 8
    with pytest.raises(EngineFailed, match="after 0 tokens"):
        engine.run(Run(text="!fail"), Heard())
    assert said(engine, "!count 3") == "1 2 3"


def test_what_take_raises_is_raised_after_the_run_which_it_ends(engine: Engine) -> None:
    heard = list[bytes]()

    def take(text: bytes, token: int) -> bool:
        heard.append(text)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        engine.run(Run(text="!hang"), take)  # which nothing but an abort ends
    assert len(heard) == 1
    assert said(engine, "!count 3") == "1 2 3"


def test_a_take_that_wants_no_more_ends_the_run(engine: Engine) -> None:
    heard = Heard(most=1)
    end = engine.run(Run(text="!hang"), heard)
    assert (len(heard.texts), end.finished, end.full) == (1, False, False)
    assert said(engine, "!count 3") == "1 2 3"


@pytest.mark.parametrize("finish", [0, 1])
def test_an_abort_from_another_thread_lets_no_token_more_through(
    make: Callable[..., Engine], era: Era, finish: int
) -> None:
    engine, heard = make(era, {"finish": finish}), list[bytes]()

    def take(text: bytes, token: int) -> bool:
        heard.append(text)
        if len(heard) == 3:
            other = threading.Thread(target=engine.abort)
            other.start()
            other.join()
        return True

    end = engine.run(Run(text="!count 100000"), take)
    assert (len(heard), end.tokens, end.finished) == (3, 3, False)
    assert said(engine, "!count 3") == "1 2 3"


def test_an_abort_where_nothing_runs_ends_nothing(engine: Engine) -> None:
    engine.abort()
    assert said(engine, "!count 3") == "1 2 3"


def test_a_stop_that_was_set_before_keeps_the_run_out_of_the_library(engine: Engine, tmp_path: Path) -> None:
    stop, heard, cache = Stop(), Heard(), tmp_path / "cache"
    stop.set()
    end = engine.run(Run(text="!hang", cache_file=str(cache)), heard, stop)
    assert (heard.texts, end.finished, end.tokens) == ([], False, 0)
    assert not cache.exists()  # which the library writes as it begins
    assert said(engine, "!count 3") == "1 2 3"


@pytest.mark.parametrize("rounds", [150])
def test_a_stop_that_comes_while_a_run_begins_is_never_lost(engine: Engine, rounds: int) -> None:
    for number in range(rounds):
        stop, heard = Stop(), Heard()
        started = threading.Barrier(2)

        def end(delay: int = number * 40, stop: Stop = stop, started: threading.Barrier = started) -> None:
            started.wait()
            for _ in range(delay):
                pass
            stop.set()

        other = threading.Thread(target=end)
        other.start()
        started.wait()
        assert not engine.run(Run(text="!hang"), heard, stop).finished  # else it hangs, as lost
        other.join()


@pytest.mark.parametrize("rounds", [150])
def test_an_abort_that_comes_as_a_run_ends_never_hits_the_next(engine: Engine, rounds: int) -> None:
    for number in range(rounds):
        started, stop = threading.Barrier(2), Stop()

        def end(delay: int = number * 40, stop: Stop = stop, started: threading.Barrier = started) -> None:
            started.wait()
            for _ in range(delay):
                pass
            stop.set()

        other = threading.Thread(target=end)
        other.start()
        started.wait()
        engine.run(Run(text="!count 2"), Heard(), stop)
        assert said(engine, "!count 40").endswith(" 40")  # while the abort of the one before may still be on its way
        other.join()


def test_a_second_run_is_refused_while_one_goes_on(engine: Engine) -> None:
    refused = list[type[Exception]]()

    def take(text: bytes, token: int) -> bool:
        for call in (
            lambda: engine.run(Run(text="a"), Heard()),
            engine.clear if engine.abi.keeps_history else lambda: engine.run(Run(tokens=(1,)), Heard()),
        ):
            with pytest.raises(EngineBusy) as caught:
                call()
            refused.append(caught.type)
        return True

    assert engine.run(Run(text="!count 2"), take).finished
    assert refused == [EngineBusy] * 4


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (Run(), "it is empty"),
        (Run(text="a", tokens=(1,)), "has both"),
        (Run(text="a\0b"), "zero character at 1"),
        (Run(text="a\ud83d"), "half a character at 1"),
        (Run(tokens=(1, 2**40)), "no token"),
        (Run(tokens=(1, -1)), "no token: -1"),
        (Run(tokens=(1, "a")), "no token"),  # type: ignore[arg-type]
        (Run(text="a", max_tokens=0), "max_tokens is 0"),
        (Run(text="a", lora="nobody"), "no LoRA adapter 'nobody' is loaded"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_library_sees_it(engine: Engine, run: Run, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        engine.run(run, Heard())


def test_logits_and_prompts_over_the_context_are_refused(engine: Engine) -> None:
    with pytest.raises(Unsupported, match="logits"):
        engine.run(Run(text="a", mode=Mode.LOGITS), Heard())
    with pytest.raises(ContextExceeded, match="4096 tokens leaves no room") as caught:
        engine.run(Run(tokens=[65] * 4096), Heard())
    assert caught.value.details == {"prompt_tokens": 4096, "context": 4096}


def pictures(count: int, **more: Any) -> Pictures:
    floats = array("f", [number / 7 for number in range(count * 2 * 8)])
    return Pictures(embeddings=floats, tokens=2, count=count, width=28, height=14, **more)


def test_pictures_reach_the_model_as_each_abi_takes_them(make: Callable[..., Engine], era: Era) -> None:
    marks = {"image_start": "<v>", "image_end": "</v>", "image_content": "<p>"}
    engine = make(era, **({} if era >= Era.V13 else marks))
    own = {"start": "<v>", "end": "</v>", "content": "<p>"}
    one = fields(said(engine, "what is <image>?", pictures=pictures(1, **own)))["img"]
    counted, shape, _, shown = one.split(" ")
    assert counted == ("1*2" if era >= Era.V121 else counted)
    assert counted.endswith("*2")
    assert shape == ("28x14" if era >= Era.V121 else shape)
    assert shown == "<v>~<p>~</v>"
    assert "|multimodal|what is <image>?|" in said(engine, "what is <image>?", pictures=pictures(1))
    if era >= Era.V121:
        many = fields(said(engine, "<image>", pictures=pictures(3, **own)))["img"].split(" ")
        assert many[0] == "3*2"
        assert many[2] != one.split(" ")[2]
        return
    with pytest.raises(Unsupported, match="takes one picture, and there are 3"):
        engine.run(Run(text="<image>", pictures=pictures(3)), Heard())


def test_pictures_that_cannot_be_passed_are_refused(make: Callable[..., Engine], era: Era) -> None:
    engine = make(era)
    with pytest.raises(Unsupported, match="with text only"):
        engine.run(Run(tokens=(1,), pictures=pictures(1)), Heard())
    with pytest.raises(Invalid, match="no embeddings of 3 pictures"):
        engine.run(
            Run(text="a", pictures=Pictures(embeddings=bytes(4 * 8), tokens=2, count=3, width=1, height=1)), Heard()
        )
    if era < Era.V13:
        with pytest.raises(Unsupported, match="set load option image_start"):
            engine.run(Run(text="a", pictures=pictures(1, start="<v>")), Heard())


def test_a_closed_model_refuses_and_may_be_closed_again(make: Callable[..., Engine], era: Era) -> None:
    engine = make(era, max_new_tokens=77)
    said(engine, "!count 2")
    engine.close()
    engine.close()
    for call in (lambda: engine.run(Run(text="a"), Heard()), lambda: said(engine, "a")):
        with pytest.raises(Closed):
            call()
    engine.abort()


def test_to_close_ends_what_runs_and_waits_for_it(make: Callable[..., Engine], era: Era) -> None:
    engine, running, ended = make(era, max_new_tokens=78), threading.Event(), list[Any]()

    def take(text: bytes, token: int) -> bool:
        running.set()
        return True

    other = threading.Thread(target=lambda: ended.append(engine.run(Run(text="!hang"), take)))
    other.start()
    running.wait()
    engine.close()
    other.join()
    assert [end.finished for end in ended] == [False]


def test_a_library_that_does_not_end_a_run_is_given_up(make: Callable[..., Engine], era: Era) -> None:
    engine, release = make(era, max_new_tokens=79), threading.Event()
    engine.patience(0.0)

    def take(text: bytes, token: int) -> bool:
        engine.abort()
        release.wait()  # the library waits for us, and sees no abort
        return True

    with pytest.raises(EngineStuck, match="did not end a run"):
        engine.run(Run(text="!count 9"), take)
    with pytest.raises(EngineStuck):
        engine.run(Run(text="a"), Heard())
    release.set()
    engine.close()
