"""Chats about pictures: transformers' own greedy text, alone and among others; what it costs, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Text
from anyform.contract.jobs import Answer, Caption, Chat, Complete, Embed, Generation, Message, Picture, Sampling, Sound
from anyform.contract.jobs import Text as Said
from anyform.contract.model import LoadedModel, Stop

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
PIL = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.engine

MARKS = (
    "<pad>", "<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>", "<start_of_image>", "<end_of_image>", "<fake_token_around_image>", "<global-img>",
    "<end_of_utterance>", *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
)  # fmt: skip
LETTERS = [*(chr(code) for code in range(33, 127)), "Ġ", "Ċ"]
"""ASCII in the byte-level alphabet."""
WORDS = len(MARKS) + len(LETTERS)
SHAPE = {
    "vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SIGHT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
ROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
SINGLE = ("qwen3_5",)
"""What keeps more than keys and values."""
SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['content'] is string %}{{- message['content'] }}
    {%- else %}
        {%- for part in message['content'] %}
            {%- if part['type'] == 'image' %}{{- 'PICTURE' }}{%- else %}{{- part['text'] }}{%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
NEW = 24


def tokenizer(**special: str) -> Any:
    """Knows ASCII, a letter a token."""
    vocabulary = {piece: id for id, piece in enumerate([*MARKS, *LETTERS])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(mark, special=True) for mark in MARKS])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", extra_special_tokens=special
    )


def save(folder: Path, name: str, config: Any, embedded: float = 0.25) -> None:
    """A model of random weights, large enough that no answer is like another."""
    torch.manual_seed(3)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    for part, weights in model.named_parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=embedded if "embed_tokens" in part else 0.25)
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=0, bos_token_id=1, eos_token_id=[2, MARKS.index("<|im_end|>")], do_sample=False
    )
    model.save_pretrained(folder)


def write_llava(folder: Path) -> None:
    sight = transformers.CLIPVisionConfig(**SIGHT, image_size=30, patch_size=10, projection_dim=32)
    text = transformers.LlamaConfig(**SHAPE)
    save(folder, "Llava", transformers.LlavaConfig(
        text_config=text, vision_config=sight, image_token_index=3, image_seq_length=9
    ))  # fmt: skip
    transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30}),
        tokenizer(image_token="<image>"),
        patch_size=10,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("PICTURE", "<image>\\n"),
    ).save_pretrained(folder)


def write_idefics3(folder: Path) -> None:
    sight = {**SIGHT, "image_size": 32, "patch_size": 8}
    text = transformers.LlamaConfig(**SHAPE)
    save(folder, "Idefics3", transformers.Idefics3Config(
        text_config=text, vision_config=sight, image_token_id=3, scale_factor=2
    ))  # fmt: skip
    images = transformers.Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    transformers.Idefics3Processor(
        images, tokenizer(), image_seq_len=4, chat_template=TEMPLATE.replace("PICTURE", "<image>")
    ).save_pretrained(folder)


def write_gemma3(folder: Path) -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    text = {**SHAPE, "head_dim": 8, "sliding_window": 16, "layer_types": kinds, "query_pre_attn_scalar": 8}
    sight = {**SIGHT, "image_size": 32, "patch_size": 8}
    begin, end = MARKS.index("<start_of_image>"), MARKS.index("<end_of_image>")
    save(folder, "Gemma3", transformers.Gemma3Config(
        text_config=text, vision_config=sight, mm_tokens_per_image=4, image_token_index=3, boi_token_index=begin,
        eoi_token_index=end,
    ), embedded=0.02)  # fmt: skip
    special = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image>"}
    transformers.Gemma3Processor(
        transformers.Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
        tokenizer(**special),
        image_seq_length=4,
        chat_template="{{ bos_token }}" + TEMPLATE.replace("PICTURE", "<start_of_image>"),
    ).save_pretrained(folder)


def write_qwen(folder: Path, name: str, text: dict[str, Any], sight: dict[str, Any]) -> None:
    ids = {"image_token_id": 8, "video_token_id": 9, "vision_start_token_id": 6, "vision_end_token_id": 7}
    patches = {"num_heads": 4, "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2, "depth": 2}
    config = getattr(transformers, f"{name}Config")(
        text_config={**SHAPE, "rope_parameters": ROPE, **text}, vision_config={**patches, **sight}, **ids
    )
    save(folder, name, config)
    made = tokenizer(image_token="<|image_pad|>", video_token="<|video_pad|>")
    made.chat_template = TEMPLATE.replace("PICTURE", SEEN)
    made.save_pretrained(folder)
    transformers.Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, temporal_patch_size=2, min_pixels=16 * 16 * 4, max_pixels=16 * 16 * 24
    ).save_pretrained(folder)


WRITERS: dict[str, Callable[[Path], None]] = {
    "llava": write_llava,
    "qwen2_vl": partial(write_qwen, name="Qwen2VL", text={}, sight={
        "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2,
    }),
    "qwen2_5_vl": partial(write_qwen, name="Qwen2_5_VL", text={}, sight={
        "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "window_size": 32,
        "fullatt_block_indexes": [1],
    }),
    "qwen3_vl": partial(write_qwen, name="Qwen3VL", text={"head_dim": 8}, sight={
        "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "deepstack_visual_indexes": [0, 1],
        "num_position_embeddings": 64,
    }),
    "qwen3_5": partial(write_qwen, name="Qwen3_5", text={
        "head_dim": 16, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5},
    }, sight={
        "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "num_position_embeddings": 64,
    }),
    "idefics3": write_idefics3,
    "gemma3": write_gemma3,
}  # fmt: skip


def png(seed: int, width: int = 40, height: int = 52) -> bytes:
    """Noise."""
    pixels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    encoded = BytesIO()
    PIL.fromarray(pixels.to(torch.uint8).numpy()).save(encoded, "PNG")
    return encoded.getvalue()


ONE, TWO = png(1), png(2, 64, 40)
PROMPTS: list[tuple[str | bytes, ...]] = [
    (ONE, "what is it"), (TWO, "what is it"), ("first ", ONE, " then ", TWO, " which"), (TWO, ONE), ("no picture",),
    ("see ", ONE), (ONE, ONE, "same?"),
]  # fmt: skip


def chat(*parts: str | bytes, **generation: Any) -> Chat:
    generation = {"max_tokens": NEW, "sampling": Sampling(temperature=0.0), **generation}
    return Chat(messages=(turn(*parts),), generation=Generation(**generation))


def turn(*parts: str | bytes, role: str = "user") -> Message:
    said = (Picture(data=part) if isinstance(part, bytes) else Said(text=part) for part in parts)
    return Message(role=role, parts=tuple(said))


class Original:
    """Transformers' own model of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def given(self, parts: tuple[str | bytes, ...]) -> Any:
        """What generate() takes."""
        opened = [PIL.open(BytesIO(part)).convert("RGB") for part in parts if isinstance(part, bytes)]
        pictures = iter(opened)
        content = [
            {"type": "image", "image": next(pictures)} if isinstance(part, bytes) else {"type": "text", "text": part}
            for part in parts
        ]
        messages = [{"role": "user", "content": content}]
        if "Qwen" in type(self.model).__name__:
            return self._qwen(
                self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True), opened
            )
        processor = transformers.AutoProcessor.from_pretrained(self.folder)
        return processor.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )

    def _qwen(self, text: str, opened: list[Any]) -> Any:
        """By hand: its processor cannot be had without torchvision, for videos."""
        images = transformers.AutoImageProcessor.from_pretrained(self.folder)
        made = dict(images(opened, return_tensors="pt")) if opened else {}
        first, *others = text.split("<|image_pad|>")
        for grid, other in zip(made.get("image_grid_thw", ()), others, strict=True):
            first += "<|image_pad|>" * (int(grid.prod()) // 4) + other
        made |= self.tokenizer(first, return_tensors="pt", add_special_tokens=False)
        return {**made, "mm_token_type_ids": (made["input_ids"] == 8).int()}

    def answer(self, parts: tuple[str | bytes, ...]) -> tuple[str, int]:
        """The greedy text, and the tokens of the prompt."""
        given = self.given(parts)
        length = given["input_ids"].shape[1]
        out = self.model.generate(**given, max_new_tokens=NEW)[0, length:]
        return self.tokenizer.decode(out, skip_special_tokens=True), length


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    written: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in written:
            written[family] = tmp_path_factory.mktemp(family)
            WRITERS[family](written[family])
        return written[family]

    return folder


@pytest.fixture(scope="module", params=["llava", "qwen2_vl"])
def seeing(request: pytest.FixtureRequest, folders: Any, kit: Any) -> Iterator[LoadedModel]:
    from anyform_hf_transformers import backend

    model = backend.load(kit.plan(folders(request.param), text_interval=0))
    yield model
    model.close()


@pytest.mark.parametrize("family", [*WRITERS])
def test_greedy_text_is_generates_own(family: str, folders: Any, engine: Any, kit: Any) -> None:
    """With a picture first, in the middle and last, with two, and with none."""
    original, model = Original(folders(family)), engine.load(folders(family))
    expected = [original.answer(parts) for parts in PROMPTS]
    answered = [kit.ask(model, chat(*parts)) for parts in PROMPTS]
    assert [(one.text, one.prompt_tokens) for one in answered] == expected
    assert len({text for text, _ in expected}) == len(PROMPTS)
    assert model._loop._decoder.batched == (family not in SINGLE)


@pytest.mark.parametrize("family", ["gemma3", "qwen2_vl", "llava"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pieces_of_a_picture_look_at_each_other_where_they_do_in_the_model(
    family: str, dtype: str, folders: Any, engine: Any
) -> None:
    """Also where rounding is as large as what that changes."""
    model = engine.load(folders(family), dtype=dtype)
    assert model._loop._decoder._mutual == (family == "gemma3")


def test_one_after_another_they_get_the_same(folders: Any, engine: Any, kit: Any) -> None:
    model = engine.load(folders("qwen3_5"))
    jobs = [chat(*parts) for parts in PROMPTS]
    alone = [kit.ask(model, job).text for job in jobs]
    assert [one.text for one in kit.together([partial(kit.ask, model, job) for job in jobs])] == alone
    messages = (turn("look at ", ONE), turn("yes", role="assistant"), turn("and now?"))
    first = replace(chat("x"), messages=messages[:1])
    longer = replace(chat("x"), messages=messages)
    fresh = kit.ask(engine.load(folders("qwen3_5")), longer).text
    kit.ask(model, first)
    assert kit.ask(model, longer).text == fresh


def test_greedy_text_is_the_pipelines(folders: Any, engine: Any, kit: Any) -> None:
    model = engine.load(folders("llava"))
    pipe = transformers.pipeline("image-text-to-text", model=str(folders("llava")), dtype=torch.float32)
    for data in (ONE, TWO):
        content = [{"type": "image", "image": PIL.open(BytesIO(data))}, {"type": "text", "text": "what"}]
        said = pipe([{"role": "user", "content": content}], max_new_tokens=NEW, return_full_text=False)
        assert kit.ask(model, chat(data, "what")).text == said[0]["generated_text"]


def test_each_gets_the_text_it_gets_alone(seeing: LoadedModel, kit: Any) -> None:
    """Half of them greedy, half with a seed; five times as many as run at once."""
    jobs = [chat(*parts) for parts in PROMPTS]
    jobs += [chat(*parts, sampling=Sampling(temperature=1.0, seed=3)) for parts in PROMPTS[:3]]
    alone = [kit.ask(seeing, job).text for job in jobs]
    answered = kit.together([partial(kit.ask, seeing, job) for job in jobs * 2])
    assert [one.text for one in answered] == alone * 2


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "idefics3"])
def test_pictures_are_read_whole_also_where_prompts_are_read_in_pieces(
    family: str, folders: Any, engine: Any, kit: Any
) -> None:
    whole, pieces = engine.load(folders(family)), engine.load(folders(family), batch=8)
    jobs = [chat(*parts) for parts in [*PROMPTS, ("a longer text before ", ONE, " and a longer text behind it")]]
    alone = [kit.ask(whole, job).text for job in jobs]
    answered = kit.together([partial(kit.ask, pieces, job) for job in jobs])
    assert [one.text for one in answered] == alone


def test_what_was_seen_before_is_not_read_again(seeing: LoadedModel, kit: Any) -> None:
    kit.ask(seeing, chat("unlike the others"))
    first = kit.ask(seeing, chat("look at ", ONE, " this"))
    again = kit.ask(seeing, chat("look at ", ONE, " this"))
    assert again.done.usage.cached_tokens == first.prompt_tokens - 4
    assert again.text == first.text
    messages = (turn("look at ", ONE, " this"), turn(first.text, role="assistant"), turn("and ", TWO, "?"))
    longer = replace(chat(), messages=messages)
    seen = kit.ask(seeing, longer)
    assert seen.done.usage.cached_tokens >= first.prompt_tokens - 1
    other = kit.ask(seeing, chat("look at ", TWO, " this"))
    assert 0 < other.done.usage.cached_tokens < 20


def test_the_second_turn_is_what_generate_says(folders: Any, engine: Any, kit: Any) -> None:
    """With what was read of the first turn: a picture behind it, and one before it, at their right places."""
    original = Original(folders("qwen2_vl"))
    model = engine.load(folders("qwen2_vl"))
    kit.ask(model, chat("look at ", ONE, " this"))
    between = "<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n<|im_start|>user\n"
    parts = ("look at ", ONE, " this", between, "and ", TWO, "?")
    messages = (turn("look at ", ONE, " this"), turn("yes", role="assistant"), turn("and ", TWO, "?"))
    answered = kit.ask(model, replace(chat(), messages=messages))
    assert answered.done.usage.cached_tokens > 20
    assert (answered.text, answered.prompt_tokens) == original.answer(parts)


def test_another_picture_gives_other_likelihoods(seeing: LoadedModel, kit: Any) -> None:
    found = []
    for data in (ONE, TWO, ONE):
        answered = kit.ask(seeing, chat(data, "what", logprobs=True, top_logprobs=3, max_tokens=1, ignore_eos=True))
        found.append(next(one for event in answered.events if isinstance(event, Text) for one in event.logprobs))
    assert abs(found[0].logprob - found[1].logprob) > 0.01
    assert found[0].logprob == pytest.approx(found[2].logprob, abs=1e-4)


def test_likelihoods_are_the_models_own(folders: Any, engine: Any, kit: Any) -> None:
    original, model = Original(folders("qwen2_vl")), engine.load(folders("qwen2_vl"))
    answered = kit.ask(model, chat(ONE, "what", logprobs=True, top_logprobs=4, ignore_eos=True, max_tokens=8))
    found = [one for event in answered.events if isinstance(event, Text) for one in event.logprobs]
    given = original.given((ONE, "what"))
    length = given["input_ids"].shape[1]
    more = torch.tensor([[one.id for one in found]])
    given["input_ids"] = torch.cat([given["input_ids"], more], dim=1)
    given["mm_token_type_ids"] = (given["input_ids"] == 8).int()
    given.pop("attention_mask")
    with torch.no_grad():
        rows = torch.log_softmax(original.model(**given).logits[0, length - 1 : -1], -1)
    assert len(found) == 8
    for row, one in zip(rows, found, strict=True):
        assert one.logprob == pytest.approx(float(row[one.id]), abs=1e-4)


def test_what_texts_can_ask_for_pictures_can(seeing: LoadedModel, kit: Any) -> None:
    hot = Sampling(temperature=2.0, top_k=0, top_p=1.0, seed=5)
    several = kit.ask(seeing, chat(ONE, "what", n=3, sampling=hot))
    assert len({several.text_of(index) for index in range(3)}) == 3
    assert several.text_of(0) == kit.ask(seeing, chat(ONE, "what", sampling=hot)).text
    plain = kit.ask(seeing, chat(ONE, "what")).text
    stopped = kit.ask(seeing, chat(ONE, "what", stop=(plain[4:6],)))
    assert stopped.text == plain[: plain.index(plain[4:6])]
    schema: dict[str, Any] = {"type": "object", "properties": {"seen": {"enum": ["cat", "dog"]}}, "required": ["seen"]}
    schema["additionalProperties"] = False
    answered = kit.ask(seeing, chat(ONE, "what", schema=schema, max_tokens=80))
    assert json.loads(answered.text)["seen"] in ("cat", "dog")
    pushed = Sampling(temperature=0.0, repeat_penalty=1.5, repeat_last_n=-1, logit_bias={LETTERS.index("q") + 19: 50.0})
    assert kit.ask(seeing, chat(ONE, "what", sampling=pushed)).done.usage.completion_tokens > 0


def test_text_comes_as_it_is_written(seeing: LoadedModel) -> None:
    """The first of it while most is still to be written."""
    stop = Stop()
    running = seeing.generate(chat(TWO, "what", ignore_eos=True, max_tokens=400), stop)
    first = next(event for event in running if isinstance(event, Text))
    rest = [event for event in running if isinstance(event, Text)]
    assert first.text
    assert len(rest) > 1


def test_a_cancelled_request_ends_and_others_go_on(seeing: LoadedModel, kit: Any) -> None:
    others = [partial(kit.ask, seeing, chat(TWO, "what")) for _ in range(3)]

    def cancelled() -> Any:
        stop = Stop()
        events = []
        for event in seeing.generate(chat(ONE, "what", ignore_eos=True, max_tokens=None), stop):
            events.append(event)
            if isinstance(event, Text):
                stop.set()
        return events

    events, *texts = kit.together([cancelled, *others])
    assert isinstance(events[-1], Done)
    assert events[-1].finishes[0].reason == "cancelled"
    assert events[-1].usage.completion_tokens < 100
    assert {one.text for one in texts} == {kit.ask(seeing, chat(TWO, "what")).text}


def test_a_picture_counts_in_the_context(folders: Any, engine: Any, kit: Any) -> None:
    model = engine.load(folders("llava"), context=60)
    used = kit.ask(model, chat(ONE, "what")).prompt_tokens
    assert used == kit.ask(model, chat("what")).prompt_tokens + 9 + 1  # 30 x 30 pixels in patches of 10, and a line end
    with pytest.raises(ContextExceeded) as caught:
        model.generate(chat(ONE, TWO, ONE, TWO, "what"), Stop())
    assert caught.value.details == {"prompt_tokens": used + 30, "context": 60}
    assert str(used + 30) in caught.value.message
    assert "60" in caught.value.message
    full = kit.ask(model, chat(ONE, TWO, "what", max_tokens=None, ignore_eos=True))
    assert full.prompt_tokens + full.done.usage.completion_tokens == 60


def test_captions_and_answers_are_asked_for_in_a_chat(seeing: LoadedModel, kit: Any) -> None:
    caption = kit.ask(seeing, Caption(picture=Picture(data=ONE), max_tokens=12))
    assert caption.text == kit.ask(seeing, chat(ONE, "Describe this picture in one sentence.", max_tokens=12)).text
    answer = kit.ask(seeing, Answer(picture=Picture(data=ONE), question="how many?", max_tokens=12))
    assert answer.text == kit.ask(seeing, chat(ONE, "how many?", max_tokens=12)).text
    assert answer.text != caption.text


def test_what_cannot_be_read_is_refused(seeing: LoadedModel, kit: Any) -> None:
    for data in (b"", b"no picture", ONE[:60]):
        with pytest.raises(Invalid, match="picture 1"):
            seeing.generate(chat(ONE, data), Stop())
    with pytest.raises(Unsupported, match="sound"):
        seeing.generate(Chat(messages=(Message(role="user", parts=(Sound(data=b"RIFF"),)),)), Stop())
    with pytest.raises(Unsupported, match="embed"):
        seeing.generate(Embed(inputs=("x",)), Stop())
    mark = seeing._projector.mark
    with pytest.raises(Invalid, match="2 times; there are 1 pictures"):
        seeing.generate(chat(ONE, f"what is {mark}?"), Stop())
    assert kit.ask(seeing, chat(ONE, "what")).text == kit.ask(seeing, chat(ONE, "what")).text
    assert kit.complete(seeing, "once upon", max_tokens=4).done.usage.completion_tokens > 0


def test_what_stands_for_pieces_of_a_picture_is_no_text(folders: Any, engine: Any, kit: Any) -> None:
    """Gemma 3 writes another token for a picture than for its pieces."""
    model = engine.load(folders("gemma3"))
    with pytest.raises(Invalid, match="<image>, which stands for a picture, 1 times"):
        model.generate(chat(ONE, "an <image>"), Stop())
    assert kit.ask(model, chat("an <image>")).done.usage.completion_tokens > 0


def test_without_a_processor_it_reads_text(folders: Any, tmp_path: Path, engine: Any, kit: Any) -> None:
    for file in folders("llava").iterdir():
        if file.name != "processor_config.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    model = engine.load(tmp_path)
    expected, _ = Original(folders("llava")).answer(("no picture",))
    assert kit.ask(model, chat("no picture")).text == expected
    with pytest.raises(Unsupported, match="nor preprocessor_config"):
        model.generate(chat(ONE, "what"), Stop())


def test_closing_it_ends_what_runs(folders: Any, engine: Any, kit: Any) -> None:
    model = engine.load(folders("qwen2_vl"))
    running = model.generate(chat(ONE, "what", ignore_eos=True, max_tokens=None), Stop())
    next(running)
    model.close()
    with pytest.raises(Closed):
        list(running)
    with pytest.raises(Closed):
        model.generate(chat(ONE, "what"), Stop())
    with pytest.raises(Closed):
        model.generate(Complete(prompt="once"), Stop())
