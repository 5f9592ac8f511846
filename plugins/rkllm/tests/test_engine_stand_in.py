"""The stand-in library by itself: what the other tests build on."""

from __future__ import annotations

import ctypes
import gc
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform_rkllm.layout import Era, Mode, State
from anyform_rkllm.library import look

pytestmark = pytest.mark.engine
Drive = Callable[..., Any]
SAMPLED = "k=40 p=0.90 t=0.80 r=1.10 f=0.00 e=0.00 m=0 5.00 0.10"
SINCE_120, SINCE_121 = [Era.V120, Era.V121, Era.V13], [Era.V121, Era.V13]


def fnv(data: bytes) -> str:
    found = 2166136261
    for byte in data:
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return f"{found:08x}"


@pytest.mark.parametrize("era", Era)
def test_it_names_itself_a_stand_in(stand_in: Callable[..., Path], drive: Drive, capfd: Any, era: Era) -> None:
    assert drive(era).code == 0
    ctypes.CDLL(None).fflush(None)
    printed = capfd.readouterr().out
    assert "STAND-IN" in printed
    version = ("1.1.4", "1.2.0", "1.2.3", "1.3.0")[era]
    assert f"I rkllm: rkllm-runtime version: {version}, rknpu driver version: 0.9.8, platform: RK3588\n" in printed
    assert (
        f"I rkllm: rkllm-toolkit version: {version}, max_context_limit: 4096, npu_core_num: 3, "
        "target_platform: RK3588, model_dtype: W8A8\n" in printed
    )
    found = look(stand_in(era))
    assert found is not None
    assert (found.version, found.stand_in) == (version, True)


def test_it_tells_what_it_was_started_with(drive: Drive, capfd: Any) -> None:
    drive(Era.V13, base_domain_id=3, enabled_cpus_mask=0xF0, embed_flash=1, max_new_tokens=77, ignore_eos_token=True)
    ctypes.CDLL(None).fflush(None)
    printed = capfd.readouterr().out
    assert "max_new_tokens=77 skip_special_token=1 is_async=0 base_domain_id=3\n" in printed
    assert "embed_flash=1 enabled_cpus_num=4 enabled_cpus_mask=0xf0\n" in printed
    assert "ignore_eos_token=1\n" in printed


@pytest.mark.parametrize(
    ("facts", "context", "words"),
    [
        ('"context":4096', 16384, "max_context[16384] must be less than the model's max_context_limit[4096]"),
        ('"platform":"RK3576"', 512, "the model's target_platform does not match the real platform"),
        ('"toolkit":"1.9.0"', 512, "The rkllm-runtime version is lower than the rkllm-toolkit version"),
    ],
)
@pytest.mark.parametrize("era", Era)
def test_it_refuses_in_the_words_of_the_real_one(
    drive: Drive, capfd: Any, facts: str, context: int, words: str, era: Era
) -> None:
    made = drive(era, facts, max_context_len=context)
    assert (made.code, made.handle.value) == (-1, None)
    assert f"E rkllm: {words}\n" in capfd.readouterr().err


def test_it_takes_no_other_file_for_a_model(drive: Drive, tmp_path: Path, capfd: Any) -> None:
    made = drive(Era.V13)
    for name in ("absent.rkllm", "librkllmrt.so"):
        (tmp_path / "librkllmrt.so").write_bytes(b"\x7fELF and no more")
        again = type(made)(Path(made.bound.library._name), tmp_path / name)
        assert again.code == -1
    assert capfd.readouterr().err.count("invalid rkllm model!") == 2


@pytest.mark.parametrize("era", Era)
def test_the_answer_depends_on_all_that_it_is_given(drive: Drive, era: Era) -> None:
    made = drive(era, max_new_tokens=300, top_k=1, top_p=0.11, temperature=0.22, repeat_penalty=1.33)
    role = "user" if era >= Era.V121 else "-"
    sampled = "k=1 p=0.11 t=0.22 r=1.33 f=0.00 e=0.00 m=0 5.00 0.10"
    tail = "|h=0|n=300|lora=|tools=|tmpl=model|cache="
    assert made.said("Grüße, 日本") == f"{role}|0|prompt|Grüße, 日本|{sampled}{tail}"
    assert made.said("", [72, 105, 9999]) == f"{role}|0|token|72 105 9999|{sampled}{tail}"


@pytest.mark.parametrize("era", SINCE_121)
def test_role_and_thinking(drive: Drive, era: Era) -> None:
    made = drive(era)
    given = made.input("Hi")
    given.role, given.enable_thinking = b"tool", True
    assert made.said(given).startswith("tool|1|prompt|Hi|")


def test_sampling_of_one_run(drive: Drive) -> None:
    made = drive(Era.V13)
    values = (3, 0.4, 0.5, 1.6, 0.7, 0.8, 2, 3.5, 0.25)
    sampling = made.abi.structures["SamplingParam"](*values)
    told = made.said("Hi", sampling_params=sampling, max_new_tokens=200)
    assert "|k=3 p=0.40 t=0.50 r=1.60 f=0.70 e=0.80 m=2 3.50 0.25|h=0|n=200|" in told
    assert f"|{SAMPLED}|h=0|n=-1|" in made.said("Hi")


@pytest.mark.parametrize("era", Era)
def test_text_comes_in_twos_of_bytes_and_figures_at_the_end(drive: Drive, era: Era) -> None:
    made = drive(era)
    assert made.said("!say aé日👩.") == "aé日👩."
    *parts, last = made.results
    assert [part.text for part in parts] == [b"a\xc3", b"\xa9\xe6", b"\x97\xa5", b"\xf0\x9f", b"\x91\xa9", b"."]
    waiting = [State.WAITING, State.WAITING, State.NORMAL, State.WAITING, State.NORMAL, State.NORMAL]
    assert [part.state for part in parts] == waiting
    assert [part.token for part in parts] == [0x61, 0xA9, 0x97, 0xF0, 0x91, 0x2E]
    assert (last.state, last.text) == (State.FINISH, None)
    if made.abi.measures:
        asked = len("!say aé日👩.".encode())
        assert last.perf == (asked * 2.0, asked, 60.0, 6, 512.5)
        assert all(part.perf == (-1, -1, -1, -1, -1) for part in parts)


@pytest.mark.parametrize("era", Era)
def test_texts_may_be_null(drive: Drive, era: Era) -> None:
    made = drive(era)
    assert made.said("!null !say aé日👩.") == "aé日👩."
    texts = [one.text for one in made.results if one.state == State.WAITING]
    assert texts == [None] * 3


def test_count_and_the_most_tokens(drive: Drive) -> None:
    made = drive(Era.V13)
    assert made.said("!count 12") == "1 2 3 4 5 6 7 8 9 10 11 12"
    assert made.said("!count 12", max_new_tokens=3) == "1 2 3"
    assert drive(Era.V11, max_new_tokens=2).said("!count 12") == "1 2"
    assert drive(Era.V11, max_context_len=16).said("!count 9000") == "1 2 3 4 5"  # 11 of 16 are the prompt's


def test_words_of_earlier_turns_do_not_steer(drive: Drive) -> None:
    made = drive(Era.V13)
    turns = "<|im_start|>user\n!say one<|im_end|>\n<|im_start|>assistant\none<|im_end|>\n"
    assert made.said(f"{turns}<|im_start|>user\n!say two<|im_end|>\n<|im_start|>assistant\n") == "two"
    assert made.said(f"{turns}<|im_start|>tool\n3<|im_end|>\n<|im_start|>assistant\n").startswith("user|0|prompt|")
    assert made.said("", [257, *b"user\n!say hi", 258, 10, 257, *b"assistant\n"]) == "hi"
    assert made.said("", [257, *b"user\n!say ", 259, *b"hm", 260, 52, 258]) == "<think>hm</think>4"


@pytest.mark.parametrize("era", Era)
def test_errors(drive: Drive, era: Era) -> None:
    made = drive(era)
    assert made.run("!error !say 123456789") == -1
    assert made.results[-1].state == State.ERROR
    assert b"".join(one.text or b"" for one in made.results) == b"123456"
    made.results.clear()
    for wrong in ("!fail", "", "x" * 5000):
        assert made.run(wrong) == -1
    assert made.results == []
    assert made.said("!say fine") == "fine"


@pytest.mark.parametrize("era", Era)
def test_one_run_at_a_time(drive: Drive, era: Era) -> None:
    made, codes = drive(era), []
    made.meanwhile = lambda told: codes.append(made.bound.run(made.handle, *map(ctypes.byref, made.kept[::2]), None))
    assert made.said("!say ab") == "ab"
    assert codes == [-1, -1]


@pytest.mark.parametrize("era", Era)
def test_abort(drive: Drive, era: Era) -> None:
    made, begun = drive(era), threading.Event()
    made.meanwhile = lambda told: begun.set()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(made.run("!hang")))
    thread.start()
    assert begun.wait(20)
    assert made.bound.abort(made.handle) == 0
    thread.join(20)
    assert codes == [0]
    assert [one.state for one in made.results] == [State.NORMAL]  # no FINISH
    assert made.bound.abort(made.handle) == -1  # nothing runs
    assert made.said("!say on") == "on"


def test_abort_may_end_with_finish(drive: Drive) -> None:
    made = drive(Era.V121, '"finish":1')
    made.meanwhile = lambda told: made.bound.abort(made.handle) and 0
    assert made.run("!count 100") == 0
    assert [one.state for one in made.results] == [State.NORMAL, State.FINISH]


@pytest.mark.parametrize("era", SINCE_121)
def test_a_callback_may_pause(drive: Drive, era: Era) -> None:
    made = drive(era)
    made.meanwhile = lambda told: 1 if told.text == b" 3" else 2
    assert made.said("!count 5") == "1 2 3"
    assert made.said("another") == " 4 5"  # not what was asked
    assert made.said("!count 5") == "1 2 3"
    made.bound.abort(made.handle)
    assert made.said("!say new") == "new"
    assert made.said("!count 5") == "1 2 3"
    assert made.bound.clear_kv_cache(made.handle, 1, None, None) == 0
    assert made.said("!say new") == "new"


@pytest.mark.parametrize("era", SINCE_120)
def test_history(drive: Drive, era: Era) -> None:
    made = drive(era)
    for number in range(3):
        assert f"|h={number}|" in made.said(f"run {number}", keep_history=1)
    assert made.said("!recall", keep_history=1) == "run 0 / run 1 / run 2"
    if era >= Era.V121:
        size = ctypes.c_int()
        assert made.bound.get_kv_cache_size(made.handle, ctypes.byref(size)) == 0
        assert size.value > 4 * len("run 0")
    rest = (None, None) if era >= Era.V121 else ()
    assert made.bound.clear_kv_cache(made.handle, 0, *rest) == 0
    assert made.said("!recall", keep_history=1) == ""
    assert "|h=0|" in made.said("alone", keep_history=0)


@pytest.mark.parametrize("era", SINCE_120)
def test_template(drive: Drive, era: Era) -> None:
    made = drive(era)
    assert made.bound.set_chat_template(made.handle, b"Be brief.", b"<u>", b"<a>") == 0
    assert "|tmpl=Be brief.~<u>~<a>|" in made.said("Hi")
    assert made.bound.set_chat_template(made.handle, b"", b"", b"") == 0
    assert "|tmpl=~~|" in made.said("Hi")


@pytest.mark.parametrize("era", SINCE_121)
def test_tools(drive: Drive, era: Era) -> None:
    made = drive(era)
    assert made.bound.set_function_tools(made.handle, b"sys", b'[{"name":"f"}]', b"tool_response") == 0
    assert '|tools=sys~[{"name":"f"}]~tool_response|' in made.said("Hi")


@pytest.mark.parametrize("era", Era)
def test_loras(drive: Drive, tmp_path: Path, era: Era) -> None:
    made = drive(era)
    file = tmp_path / "lora.rkllm"
    lora = made.abi.new("LoraAdapter", lora_adapter_path=str(file).encode(), lora_adapter_name=b"pirate", scale=0.5)
    assert made.bound.load_lora(made.handle, ctypes.byref(lora)) == -1
    file.write_bytes(b"x")
    assert made.bound.load_lora(made.handle, ctypes.byref(lora)) == 0
    named = made.abi.new("LoraParam", lora_adapter_name=b"pirate")
    assert "|lora=pirate*0.50|" in made.said("Hi", lora_params=named)
    assert made.run("Hi", lora_params=made.abi.new("LoraParam", lora_adapter_name=b"other")) == -1
    assert "|lora=|" in made.said("Hi")


@pytest.mark.parametrize("era", Era)
def test_prompt_cache(drive: Drive, tmp_path: Path, era: Era) -> None:
    made = drive(era)
    path = str(tmp_path / "cache").encode()
    assert made.bound.load_prompt_cache(made.handle, path) == -1
    saved = made.abi.new("PromptCacheParam", save_prompt_cache=1, prompt_cache_path=path)
    made.said("You are a pirate.", prompt_cache_params=saved)
    assert made.bound.load_prompt_cache(made.handle, path) == 0
    assert made.said("You are a pirate. Hi").endswith("|cache=You are a pirate.")
    if made.abi.measures:
        assert made.results[-1].perf[1] == len(" Hi")
    assert made.bound.release_prompt_cache(made.handle) == 0
    assert made.said("You are a pirate. Hi").endswith("|cache=")


@pytest.mark.parametrize("era", Era)
def test_hidden_states(drive: Drive, era: Era) -> None:
    made = drive(era, '"width":4')

    def rows(text: str) -> list[float]:
        made.results.clear()
        assert made.run(text, mode=Mode.HIDDEN) == 0
        first, last = made.results
        assert (first.state, last.state) == (State.HIDDEN if era == Era.V11 else State.NORMAL, State.FINISH)
        assert first.rows[1:] == (4, len(text))
        assert last.rows == ([], 0, 0)
        return first.rows[0]

    one, other, same = rows("abc"), rows("abd"), rows("abc")
    assert one == same
    assert one[:8] == other[:8]  # a row knows what is before it alone
    assert one[8:] != other[8:]


@pytest.mark.parametrize("era", SINCE_120)
def test_logits(drive: Drive, era: Era) -> None:
    made = drive(era, '"vocab":16')
    assert made.run("ab", mode=Mode.LOGITS) == 0
    assert made.results[0].rows[1:] == (16, 2)
    assert len(made.results[0].rows[0]) == 32
    assert drive(Era.V11).run("ab", mode=Mode.LOGITS) == -1


@pytest.mark.parametrize("era", Era)
def test_embeddings_in_place_of_tokens(drive: Drive, era: Era) -> None:
    made = drive(era, '"width":2')
    data = (ctypes.c_float * 6)(*range(6))
    given = made.input("x")
    given.input_type, given.data.embed_input.embed, given.data.embed_input.n_tokens = 2, data, 3
    assert f"|embed|3 {fnv(bytes(data))}|" in made.said(given)


@pytest.mark.parametrize("era", Era)
def test_pictures(drive: Drive, era: Era) -> None:
    markers = {} if era >= Era.V13 else {"img_start": b"<s>", "img_end": b"<e>", "img_content": b"<c>"}
    made = drive(era, '"width":2', **markers)
    count = 2 if era >= Era.V121 else 1
    data = (ctypes.c_float * (count * 3 * 2))(*(0.5 * number for number in range(count * 6)))
    given = made.input("x")
    given.input_type, whole = 3, given.data.multimodal_input
    whole.prompt = b"What is <image>?"
    picture = whole.image if era >= Era.V13 else whole
    picture.image_embed, picture.n_image_tokens = data, 3
    if era >= Era.V121:
        picture.n_image, picture.image_width, picture.image_height = count, 224, 112
    if era >= Era.V13:
        picture.image_start, picture.image_end, picture.image_content = b"<s>", b"<e>", b"<c>"
    size = "224x112" if era >= Era.V121 else "0x0"
    told = made.said(given)
    assert "|multimodal|What is <image>?|" in told
    assert told.endswith(f"|img={count}*3 {size} {fnv(struct.pack(f'<{len(data)}f', *data))} <s>~<c>~<e>")
    whole.prompt = b"What?"
    assert made.run(given) == -1


@pytest.mark.parametrize("era", Era)
def test_it_calls_back_from_a_thread_of_its_own(drive: Drive, era: Era) -> None:
    here = threading.get_ident()
    plain, other = drive(era), drive(era, '"thread":1')
    for made in (plain, other):
        assert made.said("!say hello") == "hello"
    assert {one.thread for one in plain.results} == {here}
    assert here not in {one.thread for one in other.results}
    ended = threading.Event()
    plain.meanwhile = lambda told: ended.set() if told.state == State.FINISH else None
    plain.results.clear()
    assert plain.run("!say later", asynchronous=True) == 0
    assert ended.wait(20)
    assert here not in {one.thread for one in plain.results}


@pytest.mark.parametrize("where", ["at init", "in a run"])
def test_it_crashes_when_told(stand_in: Callable[..., Path], tmp_path: Path, where: str) -> None:
    model = tmp_path / "model.rkllm"
    model.write_text('STANDIN {"crash":1}' if where == "at init" else "STANDIN {}")
    script = (
        "import ctypes, resource, sys\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "from anyform_rkllm.backend import open_library\n"
        "bound = open_library(sys.argv[1], True)\nabi, handle = bound.abi, ctypes.c_void_p()\n"
        "take = abi.result_callback(lambda result, userdata, state: 0)\nparam = bound.default_param()\n"
        "param.model_path = sys.argv[2].encode()\n"
        "bound.init(ctypes.byref(handle), ctypes.byref(param), take)\n"
        "given, infer = abi.new('Input'), abi.new('InferParam')\ngiven.data.prompt_input = b'!crash !say 1234'\n"
        "bound.run(handle, ctypes.byref(given), ctypes.byref(infer), None)\nprint('alive')\n"
    )
    command = [sys.executable, "-c", script, str(stand_in(Era.V121)), str(model)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == -6, ended.stderr
    assert "alive" not in ended.stdout


@pytest.mark.parametrize("era", [Era.V11, Era.V13])
def test_models_come_and_go(drive: Drive, era: Era) -> None:
    """A model that stayed would take a KB, so 200 pages in all."""
    made = drive(era, '"quiet":1')
    library, model, pages = Path(made.bound.library._name), made.model, []
    for number in range(1000):
        one = type(made)(library, model)
        assert one.said("!say hi") == "hi"
        one.close()
        if number in (199, 999):
            gc.collect()
            pages.append(int(Path("/proc/self/statm").read_text().split()[1]))
    assert pages[1] - pages[0] < 64
