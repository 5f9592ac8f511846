"""What Prometheus is told: by requests, by what happens to models, by what is there when it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from anyform.contract.errors import Invalid, OutOfMemory
from anyform.contract.events import Blob, Done, Progress, Reasoning, Text, Usage, Vector
from anyform.http import metrics
from anyform.http.gate import Gate
from anyform.http.metrics import Metrics
from anyform.kernel.news import News

ROUTE = "/v1/chat/completions"


class Runtime:
    """As much of one as metrics need."""

    def __init__(self) -> None:
        self.news = News()
        self.there: list[Any] = []
        self.pool = self

    def residents(self) -> list[Any]:
        return self.there


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(metrics, "time", made)
    return made


@pytest.fixture
def made(runtime: Runtime) -> Metrics:
    return Metrics(runtime, Gate(4), {"m": "owner/m", "owner/m": "owner/m"})  # type: ignore[arg-type]


def told(made: Metrics) -> Callable[..., float | None]:
    """The value of a sample by its name and labels; None: there is no such sample."""
    body, content_type = made.render("", made.weighed())
    assert content_type.startswith("text/plain")
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    return lambda name, **labels: samples.get((f"anyform_{name}", frozenset(labels.items())))


M = {"model": "owner/m", "backend": "echo"}


def test_an_answer_is_counted_with_its_tokens_and_times(made: Metrics, runtime: Runtime, clock: Clock) -> None:
    runtime.news.tell("loading", "owner/m", plugin="echo", backend="echo")
    meter = made.begin(ROUTE, "m")
    clock.now += 0.3
    meter.take(0, [Progress(stage="prompt", total=7)])
    clock.now += 0.1
    meter.take(0, [Text(text="one")])
    clock.now += 0.036
    meter.take(0, [Text(text="two"), Reasoning(text="three")])
    clock.now += 0.004
    meter.take(0, [Text(text="four"), Done(usage=Usage(prompt_tokens=7, cached_tokens=5, completion_tokens=4))])
    meter.end("ok")
    value = told(made)
    assert value("requests_total", **M, route=ROUTE, outcome="ok") == 1
    assert value("request_seconds_sum", **M, route=ROUTE) == pytest.approx(0.44)
    assert [value("tokens_total", **M, kind=kind) for kind in ("prompt", "cached", "completion")] == [7, 5, 4]
    assert value("first_token_seconds_sum", **M) == pytest.approx(0.4)
    assert value("first_token_seconds_bucket", **M, le="0.25") == 0
    assert value("first_token_seconds_bucket", **M, le="0.5") == 1
    assert value("token_gap_seconds_count", **M) == 3
    assert value("token_gap_seconds_sum", **M) == pytest.approx(0.04)
    buckets = [value("token_gap_seconds_bucket", **M, le=le) for le in ("0.0025", "0.005", "0.015", "0.02", "+Inf")]
    assert buckets == [0, 1, 1, 3, 3]


def test_tokens_that_come_together_have_nothing_between_them(made: Metrics, clock: Clock) -> None:
    meter = made.begin(ROUTE, "m")
    meter.take(0, [Progress(stage="prompt", total=1), Text(text="a"), Text(text="b"), Reasoning(text="c"), Done()])
    meter.end("ok")
    value = told(made)
    assert value("first_token_seconds_count", model="owner/m", backend="") == 1
    assert value("token_gap_seconds_count", model="owner/m", backend="") == 2
    assert value("token_gap_seconds_sum", model="owner/m", backend="") == 0


def test_answers_of_several_jobs_do_not_shorten_each_others_gaps(made: Metrics, clock: Clock) -> None:
    meter = made.begin(ROUTE, "m")
    for job in (0, 1):
        meter.take(job, [Text(text="x")])
    clock.now += 0.2
    for job in (0, 1):
        meter.take(job, [Text(text="y")])
    value = told(made)
    assert value("token_gap_seconds_sum", model="owner/m", backend="") == pytest.approx(0.4)
    assert value("first_token_seconds_count", model="owner/m", backend="") == 1


def test_what_has_no_tokens_has_no_first_one(made: Metrics) -> None:
    meter = made.begin("/v1/embeddings", "m")
    meter.take(0, [Vector(data=b"", dimensions=0), Done(usage=Usage(prompt_tokens=3))])
    meter.end("ok")
    value = told(made)
    assert value("tokens_total", model="owner/m", backend="", kind="prompt") == 3
    assert value("first_token_seconds_count", model="owner/m", backend="") is None


def test_pictures_are_counted_with_the_time_that_each_took(made: Metrics, clock: Clock) -> None:
    meter = made.begin("/v1/images/generations", "m")
    clock.now += 0.3
    meter.take(
        0, [Progress(stage="step", done=1, total=2), Blob(data=b"", media_type="image/png", extra={"partial": 0})]
    )
    clock.now += 0.2
    meter.take(0, [Blob(data=b"", media_type="image/png")])
    meter.take(0, [Blob(data=b"", media_type="image/webp", index=1), Done(generate_s=6.0)])
    meter.end("ok")
    sound = made.begin("/v1/audio/speech", "m")
    sound.take(0, [Blob(data=b"", media_type="audio/pcm"), Done(generate_s=1.0)])
    value, by = told(made), {"model": "owner/m", "backend": ""}
    assert value("pictures_total", **by) == 2
    assert value("picture_seconds_count", **by) == 2
    assert value("picture_seconds_sum", **by) == pytest.approx(6.0)
    assert value("first_token_seconds_count", **by) == 2
    assert value("first_token_seconds_sum", **by) == pytest.approx(0.3)


def test_a_client_cannot_make_labels(made: Metrics) -> None:
    for number in range(50):
        made.begin(ROUTE, f"nonsense-{number}").failed(Invalid("there is no such model."))
    assert told(made)("requests_total", model="", backend="", route=ROUTE, outcome="invalid_request") == 50
    assert b"nonsense" not in made.render("", [])[0]


def test_a_failed_request_has_the_faults_code_and_its_model(made: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    seen = made.begin(ROUTE, "m").failed(OutOfMemory("m needs 9 GiB.", "Ask for less."))
    assert seen.part == "owner/m"
    assert "[out_of_memory owner/m /v1/chat/completions] m needs 9 GiB. Ask for less." in caplog.text
    made.begin(ROUTE, "m").end("cancelled")
    made.refused(ROUTE, Invalid("no."))
    value = told(made)
    assert value("requests_total", model="owner/m", backend="", route=ROUTE, outcome="out_of_memory") == 1
    assert value("requests_total", model="owner/m", backend="", route=ROUTE, outcome="cancelled") == 1
    assert value("requests_total", model="", backend="", route=ROUTE, outcome="invalid_request") == 1


def test_an_unforeseen_error_is_logged_with_its_traceback(made: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    seen = made.begin(ROUTE, "m").failed(ZeroDivisionError("oh"))
    assert seen.code == "internal_error"
    assert "ZeroDivisionError: oh" in caplog.text
    assert any(record.exc_info for record in caplog.records)


def test_what_happens_to_models_is_heard_of_also_from_before(runtime: Runtime) -> None:
    news = runtime.news
    news.tell("loading", "a", plugin="p", backend="b")
    news.tell("loaded", "a", seconds=1.5)
    made = Metrics(runtime, Gate(1), {})  # type: ignore[arg-type]
    news.tell("unloaded", "a", why="evicted")
    news.tell("unloaded", "a", why="idle")
    news.tell("crashed", "a", message="signal 9")
    news.tell("stuck", "a", seconds=600)
    news.tell("loading", "a", plugin="q", backend="c")
    news.tell("failed", "a", code="out_of_memory", message="x")
    value = told(made)
    assert value("loads_total", model="a", backend="b") == 1
    assert value("load_seconds_sum", model="a", backend="b") == 1.5
    assert value("evictions_total", model="a", backend="b") == 1
    assert value("crashes_total", model="a", backend="b") == 1
    assert value("stuck_total", model="a", backend="b") == 1
    assert value("load_failures_total", model="a", backend="c", code="out_of_memory") == 1


def test_closed_it_hears_no_more(runtime: Runtime, made: Metrics) -> None:
    made.close()
    runtime.news.tell("crashed", "a")
    assert told(made)("crashes_total", model="a", backend="") is None


def test_bytes_are_measured_and_estimated(runtime: Runtime, made: Metrics) -> None:
    held = SimpleNamespace(plan=SimpleNamespace(backend="echo"))
    model = SimpleNamespace(memory_bytes=900)
    promised = {"cpu": 600, "cuda:0": 200}
    runtime.there = [
        SimpleNamespace(name="owner/m", held=held, model=model, promised=promised),
        SimpleNamespace(name="here", held=held, model=object(), promised={"cpu": 5}),
        SimpleNamespace(name="coming", held=None, model=None, promised={"cpu": 7}),
    ]
    value = told(made)
    assert (value("model_bytes", **M, kind="measured"), value("model_bytes", **M, kind="estimated")) == (900, 800)
    assert value("model_bytes", model="here", backend="echo", kind="estimated") == 5
    assert value("model_bytes", model="here", backend="echo", kind="measured") is None
    runtime.there = []
    assert told(made)("model_bytes", **M, kind="measured") is None


def test_the_line_is_told_as_it_stands(runtime: Runtime) -> None:
    async def work() -> None:
        gate = Gate(4)
        made = Metrics(runtime, gate, {})  # type: ignore[arg-type]
        with gate.place("m") as first, gate.place("m"):
            await first.turn(1)
            value = told(made)
            assert value("requests_running", model="m", backend="") == 1
            assert value("requests_waiting", model="m", backend="") == 1
        assert told(made)("requests_running", model="m", backend="") is None

    asyncio.run(work())


def test_two_servers_of_one_process_have_metrics_of_their_own(runtime: Runtime, made: Metrics) -> None:
    other = Metrics(Runtime(), Gate(1), {"m": "m"})  # type: ignore[arg-type]
    other.begin(ROUTE, "m").end("ok")
    assert told(made)("requests_total", model="m", backend="", route=ROUTE, outcome="ok") is None


def test_openmetrics_is_spoken_to_who_asks_for_it(made: Metrics) -> None:
    body, content_type = made.render("application/openmetrics-text; version=1.0.0", [])
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
