"""Florence-2, of random weights: tasks and questions about one picture, as transformers' generate answers them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Text
from anyform.contract.jobs import Answer, Caption, Chat, Complete, Generation, Message, Picture, Sampling
from anyform.contract.jobs import Text as Said
from anyform.contract.model import LoadedModel, Stop

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
PIL = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.engine

PLACES = [f"<loc_{place}>" for place in range(20)]
MARKS = ["<s>", "<pad>", "</s>", "<unk>", "<image>", *PLACES]
LETTERS = [*(chr(code) for code in range(33, 127)), "Ġ"]
PIECES = 17
"""4 x 4 places of a picture of 32 x 32 pixels, and their mean."""
NEW = 30
RUN = 3
"""Tokens of a run that may not come twice, as the generation_config.json of Florence-2 has it."""


def write(folder: Path) -> None:
    names = {name: id for id, name in enumerate([*MARKS, *LETTERS])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=names, merges=[]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(mark, special=True) for mark in MARKS])
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    images = transformers.CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
    images.image_seq_length = PIECES
    transformers.Florence2Processor(images, words).save_pretrained(folder)
    text = {
        "model_type": "bart", "vocab_size": len(names), "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
        "max_position_embeddings": 128, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 2,
    }  # fmt: skip
    sight = {
        "depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1],
        "patch_prenorm": [False, True], "embed_dim": [16, 32], "num_heads": [2, 4], "num_groups": [2, 4],
        "window_size": 4, "projection_dim": 32,
    }  # fmt: skip
    torch.manual_seed(5)
    model = transformers.Florence2ForConditionalGeneration(
        transformers.Florence2Config(text_config=text, vision_config=sight, image_token_id=4)
    ).eval()
    for weights in model.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=0.25)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_bos_token_id=0,
        no_repeat_ngram_size=RUN, do_sample=False,
    )  # fmt: skip
    model.save_pretrained(folder)


def png(seed: int) -> bytes:
    pixels = torch.randint(0, 256, (40, 52, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    encoded = BytesIO()
    PIL.fromarray(pixels.numpy()).save(encoded, "PNG")
    return encoded.getvalue()


ONE, TWO = png(1), png(2)
TASKS = [("<CAPTION>", ONE), ("<CAPTION>", TWO), ("<DETAILED_CAPTION>", ONE), ("<OD>", TWO), ("what is it?", ONE)]


def chat(*parts: str | bytes, **generation: Any) -> Chat:
    said = tuple(Picture(data=part) if isinstance(part, bytes) else Said(text=part) for part in parts)
    generation = {"max_tokens": NEW, "sampling": Sampling(temperature=0.0), **generation}
    return Chat(messages=(Message(role="user", parts=said),), generation=Generation(**generation))


@pytest.fixture(scope="module")
def florence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("florence")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def seeing(florence: Path, kit: Any) -> Iterator[LoadedModel]:
    from anyform_hf_transformers import backend

    model = backend.load(kit.plan(florence, context=None, text_interval=0))
    yield model
    model.close()


@pytest.fixture(scope="module")
def generated(florence: Path) -> dict[tuple[str, bytes], tuple[str, int]]:
    """Text and prompt tokens, from transformers' own generate."""
    processor = transformers.AutoProcessor.from_pretrained(florence)
    model = transformers.AutoModelForImageTextToText.from_pretrained(florence, dtype=torch.float32)
    found = {}
    for task, data in TASKS:
        given = processor(text=task, images=PIL.open(BytesIO(data)), return_tensors="pt")
        out = model.generate(**given, max_new_tokens=NEW + 1)[0]  # it counts the forced <s>
        said = processor.tokenizer.decode(out)
        for mark in ("<s>", "</s>", "<pad>", "<unk>"):
            said = said.replace(mark, "")
        found[task, data] = (said, given["input_ids"].shape[1])
    return found


def test_greedy_text_is_generates_own(seeing: LoadedModel, generated: Any, kit: Any) -> None:
    answered = {(task, data): kit.ask(seeing, chat(data, task)) for task, data in TASKS}
    assert {asked: (one.text, one.prompt_tokens) for asked, one in answered.items()} == generated
    assert len({text for text, _ in generated.values()}) == len(TASKS)
    assert any(place in text for text, _ in generated.values() for place in PLACES)
    assert min(length for _, length in generated.values()) > PIECES


def test_no_run_comes_twice(florence: Path, seeing: LoadedModel, kit: Any) -> None:
    answered = kit.ask(seeing, chat(ONE, "<CAPTION>", logprobs=True, max_tokens=60, ignore_eos=True))
    ids = [one.id for event in answered.events if isinstance(event, Text) for one in event.logprobs]
    runs = [tuple(ids[at : at + RUN]) for at in range(len(ids) - RUN + 1)]
    assert len(ids) == 60
    assert len(set(runs)) == len(runs)


def test_captions_and_answers(seeing: LoadedModel, generated: Any, kit: Any) -> None:
    caption = kit.ask(seeing, Caption(picture=Picture(data=TWO), max_tokens=NEW))
    assert caption.text == generated["<CAPTION>", TWO][0]
    answer = kit.ask(seeing, Answer(picture=Picture(data=ONE), question="what is it?", max_tokens=NEW))
    assert answer.text == generated["what is it?", ONE][0]
    assert kit.ask(seeing, chat(TWO)).text == caption.text


def test_each_gets_the_text_it_gets_alone(seeing: LoadedModel, generated: Any, kit: Any) -> None:
    answered = kit.together([partial(kit.ask, seeing, chat(data, task)) for task, data in TASKS * 3])
    assert [one.text for one in answered] == [generated[asked][0] for asked in TASKS] * 3


def test_what_texts_can_ask_for(seeing: LoadedModel, kit: Any) -> None:
    hot = Sampling(temperature=2.0, top_k=0, top_p=1.0, seed=5)
    several = kit.ask(seeing, chat(ONE, "what", n=3, sampling=hot))
    assert len({several.text_of(index) for index in range(3)}) == 3
    assert several.text_of(0) == kit.ask(seeing, chat(ONE, "what", sampling=hot)).text
    plain = kit.ask(seeing, chat(ONE, "what")).text
    stopped = kit.ask(seeing, chat(ONE, "what", stop=(plain[4:6],)))
    assert stopped.text == plain[: plain.index(plain[4:6])]
    grammar = 'root ::= ("cat" | "dog") " sits"'
    assert kit.ask(seeing, chat(ONE, "what", grammar=grammar)).text in ("cat sits", "dog sits")


def test_a_cancelled_request_ends(seeing: LoadedModel, kit: Any) -> None:
    stop = Stop()
    events = []
    for event in seeing.generate(chat(ONE, "what", ignore_eos=True, max_tokens=None), stop):
        events.append(event)
        if isinstance(event, Text):
            stop.set()
    assert isinstance(events[-1], Done)
    assert events[-1].finishes[0].reason == "cancelled"
    assert events[-1].usage.completion_tokens < 60


def test_a_picture_counts_in_the_context(florence: Path, engine: Any) -> None:
    model = engine.load(florence, context=40)
    with pytest.raises(ContextExceeded) as caught:
        model.generate(chat(ONE, "x" * 40), Stop())
    assert caught.value.details == {"prompt_tokens": PIECES + 40 + 2, "context": 40}


def test_what_it_cannot_do_is_refused(seeing: LoadedModel) -> None:
    with pytest.raises(Invalid, match="0 pictures"):
        seeing.generate(chat("<CAPTION>"), Stop())
    with pytest.raises(Invalid, match="2 pictures"):
        seeing.generate(chat(ONE, TWO, "<CAPTION>"), Stop())
    with pytest.raises(Invalid, match="only content"):
        seeing.generate(chat(ONE, "<CAPTION> please"), Stop())
    with pytest.raises(Invalid, match="<image>"):
        seeing.generate(chat(ONE, "an <image>"), Stop())
    with pytest.raises(Invalid, match="picture 0"):
        seeing.generate(chat(b"none", "<CAPTION>"), Stop())
    turns = (*chat(ONE, "<CAPTION>").messages, Message(role="assistant", parts=(Said(text="a cat"),)))
    with pytest.raises(Unsupported, match="2 \\(user, assistant\\)"):
        seeing.generate(Chat(messages=turns), Stop())
    with pytest.raises(Unsupported, match="complete"):
        seeing.generate(Complete(prompt="once"), Stop())


def test_a_closed_one_says_so(florence: Path, engine: Any) -> None:
    model = engine.load(florence)
    model.close()
    with pytest.raises(Closed):
        model.generate(chat(ONE, "<CAPTION>"), Stop())
