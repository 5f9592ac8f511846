"""What a folder says of words, chats and sampling, in the files of whichever exporter wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.jobs import Tool
from anyform.testing.onnxdecoder import write_decoder

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine


@pytest.fixture
def folder(tmp_path: Path, kit: Any) -> Path:
    return write_decoder(tmp_path, layout="onnx_genai")


def loading(folder: Path, kit: Any) -> Any:
    from anyform_onnx import options
    from anyform_onnx.loading import Loading

    return Loading(kit.plan(folder), options.read({}))


def rewrite(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None: take one out."""
    said = {**(json.loads(path.read_text()) if path.exists() else {}), **changes}
    path.write_text(json.dumps({name: value for name, value in said.items() if value is not None}))


def test_the_first_file_that_names_ends_is_believed(folder: Path, kit: Any) -> None:
    from anyform_onnx.vocabulary import words

    eos = words(loading(folder, kit), 316).eos
    rewrite(folder / "generation_config.json", eos_token_id=[9, 11], suppress_tokens=[5])
    found = words(loading(folder, kit), 316)
    assert {9, 11, eos} <= found.ends
    assert found.suppressed == (5,)
    (folder / "generation_config.json").unlink()
    rewrite(folder / "config.json", eos_token_id=13)
    assert 13 in words(loading(folder, kit), 316).ends
    (folder / "config.json").unlink()
    genai = json.loads((folder / "genai_config.json").read_text())
    genai["model"]["eos_token_id"] = [17, 19]
    (folder / "genai_config.json").write_text(json.dumps(genai))
    assert {17, 19} <= words(loading(folder, kit), 316).ends


def test_marks_are_as_the_tokenizers_files_spell_them(folder: Path, kit: Any) -> None:
    from anyform_onnx.vocabulary import words

    said = folder / "tokenizer_config.json"
    rewrite(said, eos_token={"content": "<|im_start|>"}, bos_token="")
    found = words(loading(folder, kit), 316)
    assert (found.bos, found.eos) == (-1, loading(folder, kit).tokenizer.token_to_id("<|im_start|>"))
    rewrite(said, eos_token=None, bos_token=None)
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    rewrite(folder / "config.json", bos_token_id=3, eos_token_id=4)
    rewrite(folder / "generation_config.json", bos_token_id=None, eos_token_id=None)
    found = words(loading(folder, kit), 316)
    assert (found.bos, found.eos) == (3, 4)


def test_sampling_is_what_its_makers_said_and_not_what_a_builder_filled_in(folder: Path, kit: Any) -> None:
    from anyform_onnx.vocabulary import defaults

    rewrite(folder / "generation_config.json", temperature=0.6, top_k=20, do_sample=True)
    assert defaults(loading(folder, kit)) == {"temperature": 0.6, "top_k": 20}
    (folder / "generation_config.json").unlink()
    genai = json.loads((folder / "genai_config.json").read_text())
    genai["search"] |= {"do_sample": False, "temperature": 1.0}
    (folder / "genai_config.json").write_text(json.dumps(genai))
    assert defaults(loading(folder, kit)) == {}
    genai["search"] |= {"do_sample": True, "temperature": 0.7, "top_k": 30, "top_p": 0.9, "repetition_penalty": 1.1}
    (folder / "genai_config.json").write_text(json.dumps(genai))
    expected = {"temperature": 0.7, "top_k": 30, "top_p": 0.9, "repeat_penalty": 1.1, "repeat_last_n": -1}
    assert defaults(loading(folder, kit)) == expected


def test_chat_templates_lie_in_files_of_their_own_or_in_the_tokenizers(folder: Path, kit: Any) -> None:
    from anyform_onnx.vocabulary import chat_form, words

    def written(text: str, **fields: Any) -> str:
        asked = loading(folder, kit)
        said: str = chat_form(asked, words(asked, 316)).render(kit.chat(text, **fields))
        return said

    (folder / "chat_template.jinja").unlink(missing_ok=True)
    rewrite(folder / "tokenizer_config.json", chat_template="A {{ messages[0]['content'] }}")
    assert written("x") == "A x"
    both = [{"name": "default", "template": "B"}, {"name": "tool_use", "template": "T {{ tools[0].function.name }}"}]
    rewrite(folder / "tokenizer_config.json", chat_template=both)
    assert written("x") == "B"
    assert written("x", tools=(Tool(name="f", description="", parameters={}),)) == "T f"
    (folder / "chat_template.jinja").write_text("C")
    assert written("x") == "C"
