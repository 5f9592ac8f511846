"""Lists of models, loading, unloading and downloads; unknown routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from anyform.testing.serving import Served
from anyform_lmstudio_api.listing import bits, parameters

Told = Callable[..., Any]
Post = Callable[..., httpx.Response]
LOAD, UNLOAD, DOWNLOAD = (f"/api/v1/models/{name}" for name in ("load", "unload", "download"))


@pytest.fixture(autouse=True)
def _none_loaded(served: Served) -> None:
    for one in served.runtime.loaded():
        served.runtime.unload(one.model)


def listed(http: httpx.Client, version: str) -> dict[str, dict[str, Any]]:
    """The models by name."""
    told = http.get(f"/api/{version}/models").json()
    if version == "v0":
        assert told["object"] == "list"
        return {one["id"]: one for one in told["data"]}
    return {one["key"]: one for one in told["models"]}


BIRD = "owner/bird:Q4_K_M"


def test_v0_tells_of_each(http: httpx.Client) -> None:
    there = listed(http, "v0")
    assert there[BIRD] == {
        "id": BIRD,
        "object": "model",
        "type": "llm",
        "publisher": "owner",
        "arch": "echo",
        "compatibility_type": "echo",
        "quantization": "Q4_K_M",
        "state": "not-loaded",
        "max_context_length": 4096,
        "capabilities": ["tool_use"],
    }
    assert {name: there[name]["type"] for name in ("parrot", "seer", "embedder")} == {
        "parrot": "llm",
        "seer": "vlm",
        "embedder": "embeddings",
    }
    assert "capabilities" not in there["plain"]
    assert "capabilities" not in there["embedder"]
    assert "hearer" not in there


def test_v1_tells_of_each(http: httpx.Client) -> None:
    there = listed(http, "v1")
    assert there[BIRD] == {
        "type": "llm",
        "publisher": "owner",
        "key": BIRD,
        "display_name": "bird",
        "architecture": "echo",
        "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
        "size_bytes": there[BIRD]["size_bytes"],
        "params_string": "0.6B",
        "loaded_instances": [],
        "max_context_length": 4096,
        "format": None,
        "capabilities": {
            "vision": False,
            "trained_for_tool_use": True,
            "reasoning": {"allowed_options": ["off", "low", "medium", "high", "on"], "default": "on"},
        },
        "description": None,
    }
    assert there[BIRD]["size_bytes"] > 0
    assert there["plain"]["capabilities"] == {"vision": False, "trained_for_tool_use": False}
    assert there["seer"]["capabilities"]["vision"]
    embedder = there["embedder"]
    assert embedder["type"] == "embedding"
    assert not {"capabilities", "architecture", "description"} & set(embedder)


def test_the_same_names_everywhere(http: httpx.Client) -> None:
    names = {one["id"] for one in http.get("/v1/models").json()["data"]} - {"hearer"}
    assert set(listed(http, "v0")) == set(listed(http, "v1")) == names


@pytest.mark.parametrize("name", [BIRD, "owner%2Fbird:F16", "parrot"])
def test_one_of_them(name: str, http: httpx.Client) -> None:
    one = http.get(f"/api/v0/models/{name}").json()
    assert one == listed(http, "v0")[one["id"]]


@pytest.mark.parametrize("name", ["nothing", "owner/nothing", "../parrot", "/etc/passwd", "hearer"])
def test_one_that_is_not_there(name: str, http: httpx.Client) -> None:
    answer = http.get(f"/api/v0/models/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in ("model_not_found", "unknown_url")


@pytest.mark.parametrize("path", ["/api/v0/models", "/api/v0/models/parrot", "/api/v1/models", f"{DOWNLOAD}/status"])
def test_what_may_be_asked_for_may_be_asked_about(path: str, http: httpx.Client) -> None:
    answer = http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_loaded_ones_say_so(http: httpx.Client, told: Told) -> None:
    told(LOAD, model="parrot", context_length=128, parallel=2)
    one = http.get("/api/v0/models/parrot").json()
    assert (one["state"], one["loaded_context_length"], one["max_context_length"]) == ("loaded", 128, 256)
    instances = listed(http, "v1")["parrot"]["loaded_instances"]
    assert instances == [{"id": "parrot", "config": {"context_length": 128, "parallel": 2}}]
    told(LOAD, model="embedder")
    instances = listed(http, "v1")["embedder"]["loaded_instances"]
    assert instances == [{"id": "embedder", "config": {"context_length": 4096}}]


def test_load_answers_what_was_loaded(told: Told, served: Served) -> None:
    answer = told(LOAD, model="owner/bird:F16", echo_load_config=True, context_length=64, flash_attention=True)
    assert answer.pop("load_time_seconds") > 0
    assert answer == {
        "type": "llm",
        "instance_id": "owner/bird:F16",
        "status": "loaded",
        "load_config": {"context_length": 64, "parallel": 4},
    }
    assert [one.expires_s for one in served.runtime.loaded()] == [None]
    assert "load_config" not in told(LOAD, model="owner/bird:F16")
    assert told(LOAD, model="embedder")["type"] == "embedding"


def test_load_may_say_how_long(told: Told, served: Served) -> None:
    told(LOAD, model="parrot", ttl=1000)
    assert [one.expires_s for one in served.runtime.loaded()] == [pytest.approx(1000, abs=60)]


def test_a_second_load_with_other_settings_takes_the_place_of_the_first(told: Told, http: httpx.Client) -> None:
    for context in (32, 200):
        told(LOAD, model="parrot", context_length=context)
        instances = listed(http, "v1")["parrot"]["loaded_instances"]
        assert [one["config"]["context_length"] for one in instances] == [context]


def test_unload(told: Told, post: Post, http: httpx.Client) -> None:
    told(LOAD, model="parrot")
    assert told(UNLOAD, instance_id="parrot") == {"instance_id": "parrot"}
    assert listed(http, "v1")["parrot"]["loaded_instances"] == []
    for name in ("parrot", "nothing", "/etc/passwd"):
        answer = post(UNLOAD, instance_id=name)
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["type"], error["param"]) == ("model_not_found", "instance_id")


def test_what_is_here_is_not_downloaded(told: Told) -> None:
    for name in ("parrot", BIRD):
        assert told(DOWNLOAD, model=name) == {"status": "already_downloaded"}
    assert told(DOWNLOAD, model="owner/bird", quantization="Q4_K_M") == {"status": "already_downloaded"}


def test_a_server_that_fetches_nothing_says_so(post: Post, http: httpx.Client) -> None:
    answer = post(DOWNLOAD, model="owner/other")
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "invalid_request"
    nothing: dict[str, list[Any]] = {name: [] for name in ("downloading", "completed", "failed", "paused")}
    assert http.get(f"{DOWNLOAD}/status").json() == nothing
    answer = http.get(f"{DOWNLOAD}/status/job_1")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "job_not_found"


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    (LOAD, {}, "model", "missing_required_parameter"),
    (LOAD, {"model": 5}, "model", "invalid_type"),
    (LOAD, {"model": "parrot", "context_length": 0}, "context_length", "invalid_value"),
    (LOAD, {"model": "parrot", "context_length": "long"}, "context_length", "invalid_type"),
    (LOAD, {"model": "parrot", "parallel": 0}, "parallel", "invalid_value"),
    (LOAD, {"model": "parrot", "eval_batch_size": 0}, "eval_batch_size", "invalid_value"),
    (LOAD, {"model": "parrot", "flash_attention": "on"}, "flash_attention", "invalid_type"),
    (LOAD, {"model": "parrot", "offload_kv_cache_to_gpu": 1}, "offload_kv_cache_to_gpu", "invalid_type"),
    (LOAD, {"model": "parrot", "num_experts": 2}, "num_experts", "unsupported_parameter"),
    (LOAD, {"model": "parrot", "echo_load_config": "yes"}, "echo_load_config", "invalid_type"),
    (LOAD, {"model": "parrot", "ttl": -1}, "ttl", "invalid_value"),
    (LOAD, {"model": "parrot", "ttl": 0}, "ttl", "invalid_value"),
    (LOAD, {"model": "parrot", "parallel": 1e308}, "parallel", "invalid_value"),
    (LOAD, {"model": "parrot", "context_length": 10**30}, "context_length", "invalid_value"),
    (LOAD, {"model": "parrot", "gpu": 1}, "gpu", "unrecognized_keys"),
    (UNLOAD, {}, "instance_id", "missing_required_parameter"),
    (UNLOAD, {"instance_id": 5}, "instance_id", "invalid_type"),
    (UNLOAD, {"model": "parrot"}, "model", "unrecognized_keys"),
    (DOWNLOAD, {}, "model", "missing_required_parameter"),
    (DOWNLOAD, {"model": ["a"]}, "model", "invalid_type"),
    (DOWNLOAD, {"model": "a/b", "quantization": 4}, "quantization", "invalid_type"),
    (DOWNLOAD, {"model": "a/b:Q4", "quantization": "Q8"}, "quantization", "invalid_value"),
    (DOWNLOAD, {"model": "a/b", "path": "/tmp"}, "path", "unrecognized_keys"),
]


@pytest.mark.parametrize(("path", "body", "param", "code"), WRONG)
def test_what_is_wrong_is_refused(path: str, body: dict[str, Any], param: str, code: str, post: Post) -> None:
    answer = post(path, **body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == ("not_implemented" if code == "unsupported_parameter" else "invalid_request")
    assert param in error["message"]


@pytest.mark.parametrize("name", ["nothing", "/etc/passwd", "a/../b"])
def test_no_model_of_that_name_is_loaded(name: str, post: Post) -> None:
    answer = post(LOAD, model=name)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/chat/completions"),
        ("GET", "/"),
        ("POST", "/api/v0/models"),
        ("GET", "/api/v1/nothing"),
        ("PUT", "/v1/models"),
    ],
)
def test_what_it_does_not_know_is_answered_as_lm_studio_does(method: str, path: str, own: httpx.Client) -> None:
    answer = own.request(method, path)
    assert answer.status_code == 200
    assert answer.json() == {"error": f"Unexpected endpoint or method. ({method} {path})"}


@pytest.mark.parametrize("path", ["/api/v0/nothing", "/api/v1/nothing", "/nothing"])
def test_a_shared_port_answers_in_openais_form(path: str, http: httpx.Client) -> None:
    answer = http.get(path)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert (error["code"], error["type"], error["param"]) == ("unknown_url", "invalid_request_error", None)


def test_its_own_listener_speaks_openai_too(own: httpx.Client) -> None:
    answer = own.post("/v1/completions", json={"model": "parrot", "prompt": "a b"})
    assert answer.json()["choices"][0]["text"] == "a b"
    assert own.get("/api/v0/models/parrot").json()["id"] == "parrot"
    assert own.post("/v1/completions", json={"model": "nothing", "prompt": "a"}).json()["error"]["type"]
    assert "error" in own.get("/health").json()


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, None),
        (0, None),
        (270_000_000, "270M"),
        (600_000_000, "0.6B"),
        (7_241_732_096, "7.2B"),
        (70_553_706_496, "71B"),
        (12, "12"),
        (900_000, "0.9M"),
    ],
)
def test_parameters(count: int | None, said: str | None) -> None:
    assert parameters(count) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Q4_K_M", 4),
        ("F16", 16),
        ("BF16", 16),
        ("IQ2_XS", 2),
        ("MXFP4", 4),
        ("int8", 8),
        ("4bit", 4),
        ("", None),
        ("fp8", 8),
    ],
)
def test_bits(name: str, said: int | None) -> None:
    assert bits(name) == said
