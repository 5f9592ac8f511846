"""`anyform run` for pipes and programs: only the answer on standard output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.testing.gguf import write_llama

Echo = Callable[..., Path]


@pytest.fixture(params=["worker", "here"])
def where(request: pytest.FixtureRequest) -> list[str]:
    return ["--here"] if request.param == "here" else []


def test_a_prompt_is_answered(cli: Any, echo: Echo, where: list[str]) -> None:
    done = cli("run", echo(), "hello", "out", "there", *where)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello out there\n", "")


def test_a_pipe_is_answered(cli: Any, echo: Echo, where: list[str]) -> None:
    done = cli("run", echo(), *where, input="hello from a pipe\n")
    assert (done.returncode, done.stdout) == (0, "hello from a pipe\n")


def test_a_dash_puts_standard_input_into_the_prompt(cli: Any, echo: Echo) -> None:
    assert cli("run", echo(), "say:", "-", input="one\ntwo\n").stdout == "say:\n\none\ntwo\n"


def test_without_a_dash_standard_input_is_not_waited_for(cli: Any, echo: Echo) -> None:
    command = [sys.executable, "-m", "anyform", "run", str(echo()), "hello"]
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            command, stdin=reading, capture_output=True, env=cli.environment(), timeout=60, check=True
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.stdout == b"hello\n"


def test_json_is_one_object(cli: Any, echo: Echo, where: list[str]) -> None:
    answer = cli.json("run", echo(), "hello there", *where)
    assert (answer["text"], answer["finish_reason"]) == ("hello there", "stop")
    assert (answer["model"], answer["backend"]) == ("parrot", "echo")
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["timings"]["load_s"] > 0


def test_what_generation_takes_is_passed_on(cli: Any, echo: Echo) -> None:
    assert cli.json("run", echo(), "one two three", "--max-tokens", "2")["finish_reason"] == "length"
    assert cli.json("run", echo(), "one two three", "--stop", "three")["text"] == "one two "
    assert cli("run", echo(), "one two", "--no-stream").stdout == "one two\n"


def test_stats_go_to_standard_error(cli: Any, echo: Echo) -> None:
    done = cli("run", echo(), "one two", "--stats")
    assert done.stdout == "one two\n"
    assert "2 + 2 tokens" in done.stderr


def test_what_the_model_remarks_goes_to_standard_error(cli: Any, echo: Echo, where: list[str]) -> None:
    said = ("one two", "--option", "remark=the seed was ignored.")
    done = cli("run", echo(), *said, *where)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one two\n", "note: the seed was ignored.\n")
    assert cli.json("run", echo(), *said, *where)["remarks"] == ["the seed was ignored."]


def test_thinking_is_no_part_of_a_piped_answer(cli: Any, echo: Echo) -> None:
    assert cli("run", echo(), "--think", "hello").stdout == "hello\n"
    assert cli.json("run", echo(), "--think", "hello")["reasoning"]


def test_a_model_without_chat_continues_the_prompt(cli: Any, echo: Echo) -> None:
    assert cli("run", echo(tasks=["complete"]), "once upon").stdout == "once upon\n"
    done = cli("run", echo(tasks=["complete"]), "--system", "be kind", "once upon")
    assert done.returncode == 1
    assert "raw completion" in done.stderr


def test_a_model_that_writes_no_text_is_refused(cli: Any, echo: Echo) -> None:
    done = cli("run", echo(tasks=["embed"]), "hello")
    assert done.returncode == 1
    assert "does embed, not chat" in done.stderr


def test_a_prompt_over_the_context_is_refused_with_both_numbers(cli: Any, echo: Echo, where: list[str]) -> None:
    done = cli("run", echo(), "--context", "3", "one two three four", *where)
    assert (done.returncode, done.stdout) == (1, "")
    assert "4 tokens" in done.stderr
    assert "is 3" in done.stderr


def test_bad_input_is_said_and_not_shown_as_a_traceback(cli: Any, echo: Echo, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "anyform", "run", str(echo())]
    done = subprocess.run(command, input=b"\xff\xfe!", capture_output=True, env=cli.environment(), check=False)
    assert done.returncode == 1
    assert b"not UTF-8 at byte 0" in done.stderr
    (tmp_path / "schema.json").write_text("{")
    assert "is not JSON" in cli("run", echo(), "hello", "--schema", tmp_path / "schema.json").stderr


def test_letters_of_every_script_survive(cli: Any, echo: Echo) -> None:
    assert cli("run", echo(), input="žluťoučký 狐 🦊").stdout == "žluťoučký 狐 🦊\n"


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_is_130_without_a_traceback_and_leaves_no_worker(cli: Any, echo: Echo) -> None:
    path = echo(options={"delay_s": 0.2})
    with cli.start("run", path, " ".join(["word"] * 500)) as process:
        assert process.stdout.read(4) == "word"
        workers = children(process.pid)
        assert workers
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == ""
    assert not [pid for pid in workers if alive(pid)]


def test_bench_counts_and_measures(cli: Any, echo: Echo) -> None:
    result = cli.json("bench", echo(), "--requests", "6", "--concurrency", "3", "--tokens", "5")
    assert result["completion_tokens"] == 30
    assert result["tokens_per_s"] > 0
    assert result["first_token_ms_p50"] <= result["first_token_ms_p95"]
    assert "tokens_per_s" in cli("bench", echo(), "--requests", "1").stdout


def test_bench_reports_a_failing_request(cli: Any, echo: Echo) -> None:
    done = cli("bench", echo(), "--context", "10")
    assert done.returncode == 1
    assert "anyform: the prompt has" in done.stderr


def test_a_crashing_worker_is_one_line(cli: Any, echo: Echo) -> None:
    done = cli("run", echo(), "hello", "--option", "crash=first")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def children(pid: int) -> list[int]:
    """Processes that *pid* started."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if int(line.split()[1]) == pid]


def alive(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(listed.strip()) and not listed.strip().startswith("Z")


@pytest.mark.engine
def test_the_sample_model_answers(cli: Any, where: list[str], sample: Path) -> None:
    done = cli("run", sample, "How do I list models?", *where)
    assert done.returncode == 0, done.stderr
    assert "`anyform list`" in done.stdout
    assert cli("run", sample, *where, input="How do I list models?\n").stdout == done.stdout
    assert cli("run", sample, "How do I list models?", "--no-stream", *where).stdout == done.stdout


@pytest.mark.engine
def test_an_answer_as_json_says_what_it_took(cli: Any, where: list[str], sample: Path) -> None:
    answer = cli.json("run", sample, "What is 2 + 3?", *where)
    assert (answer["text"], answer["finish_reason"]) == ("2 + 3 = 5", "stop")
    assert 0 < answer["usage"]["completion_tokens"] < 12
    cut = cli.json("run", sample, "What is 2 + 3?", "--max-tokens", "3", *where)
    assert (cut["usage"]["completion_tokens"], cut["finish_reason"]) == (3, "length")
    assert answer["text"].startswith(cut["text"])
    stopped = cli.json("run", sample, "What is 2 + 3?", "--stop", " =", *where)
    assert (stopped["text"], stopped["finish_reason"]) == ("2 + 3", "stop")


@pytest.mark.engine
def test_a_raw_prompt_is_continued(cli: Any, where: list[str], sample: Path) -> None:
    prompt = "<|im_start|>user\nHow do I list models?<|im_end|>\n<|im_start|>assistant\n"
    raw = cli("run", sample, "--raw", prompt, *where)
    assert raw.stdout == cli("run", sample, "How do I list models?", *where).stdout
    assert "`anyform list`" in raw.stdout


@pytest.mark.engine
def test_a_schema_shapes_the_answer(cli: Any, tmp_path: Path, sample: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    (tmp_path / "person.json").write_text(json.dumps(schema))
    asked = "Give me JSON with the keys name, age: Tara is 54 years old and lives in Chicago"
    done = cli("run", sample, asked, "--schema", "person.json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"name": "Tara", "age": 54}


@pytest.mark.engine
def test_a_seed_decides_what_is_drawn(cli: Any, tmp_path: Path) -> None:
    """Of random weights: those of the sample are too sure for chance to show."""
    pytest.importorskip("llama_cpp")
    path = write_llama(tmp_path / "random.gguf")

    def drawn(seed: int) -> str:
        return str(cli("run", path, "once", "--raw", "--max-tokens", "30", "--seed", str(seed)).stdout)

    assert drawn(1) == drawn(1) != drawn(2)
