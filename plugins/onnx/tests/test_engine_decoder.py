"""Decoders of every layout: what a batch of slots gives is what the graph gives for each text alone, read whole."""

from __future__ import annotations

import gc
import json
import random
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import LoadFailed, Unsupported

np = pytest.importorskip("numpy")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine

KINDS = {
    "optimum": ("RowDecoder", True), "genai": ("SharedDecoder", True), "exported": ("RowDecoder", False),
    "exported, padded": ("RowDecoder", True), "optimum, I8": ("RowDecoder", True),
    "decode alone": ("RowDecoder", True),
}  # fmt: skip
"""What decodes each, and whether it reads several prompts at once."""
NEAR = {"F16": 3e-2}
SLOTS, CONTEXT = 6, 96


@pytest.fixture(scope="module")
def folders(decoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of the sample decoder, whose numbers hang on places; random weights look everywhere alike."""
    alone = tmp_path_factory.mktemp("decode") / "alone"
    shutil.copytree(decoders["exported, padded"], alone)
    (alone / "prefill.onnx").unlink()
    said = json.loads((alone / "export.json").read_text())
    said["components"] = {"decode": said["components"]["decode"]}
    (alone / "export.json").write_text(json.dumps(said))
    return {**decoders, "decode alone": alone}


def graph_of(folder: Path, kit: Any) -> tuple[Any, Any]:
    """What `textloading` opens."""
    from anyform_onnx import options, textloading
    from anyform_onnx.loading import Loading

    loading = Loading(kit.plan(folder, threads=1), options.read({"threads": 1}))
    return textloading.opened(loading), loading


def opened(folder: Path, kit: Any, slots: int = SLOTS) -> tuple[Any, Any]:
    """The graph, and its decoder."""
    from anyform_onnx import textloading
    from anyform_onnx.generation import open_decoder

    graph, loading = graph_of(folder, kit)
    return graph, open_decoder(graph, slots, CONTEXT, textloading.operators(loading))


def close(found: Any, expected: Any, name: str) -> bool:
    spread = float(expected.max() - expected.min())
    return float(np.abs(found - expected).max()) <= NEAR.get(name.rpartition(", ")[2], 2e-4) * spread


@pytest.mark.parametrize("name", KINDS)
def test_each_layout_has_its_decoder(name: str, folders: dict[str, Path], kit: Any) -> None:
    _, decoder = opened(folders[name], kit)
    assert (type(decoder).__name__, decoder.together) == KINDS[name]


@pytest.mark.parametrize("name", ["optimum", "optimum, F16", "genai", "genai, F16", "exported", "exported, padded"])
def test_slots_come_and_go_and_each_gets_what_it_gets_alone(name: str, folders: dict[str, Path], kit: Any) -> None:
    """Prompts in pieces and together, steps of changing slots, prefixes that are cut and copied, as chance has it."""
    graph, decoder = opened(folders[name], kit)
    chance = random.Random(7)
    texts: dict[int, list[int]] = {}
    expected: dict[int, Any] = {}

    def told(slot: int) -> Any:
        expected[slot] = graph.whole(texts[slot])
        return expected[slot]

    for _ in range(40):
        slot = chance.randrange(SLOTS)
        new = [chance.randrange(3, 250) for _ in range(chance.randint(1, 12))]
        move = chance.choice(["read", "go on", "copy", "together", "step", "step", "step"])
        if move == "read" or not texts:
            texts[slot] = new
            assert close(decoder.read(slot, 0, new, every=True), told(slot), name)
        elif move == "go on" and slot in texts and len(texts[slot]) + len(new) < CONTEXT:
            kept = chance.randint(1, len(texts[slot]))
            texts[slot] = texts[slot][:kept] + new
            assert close(decoder.read(slot, kept, new, every=False), told(slot)[-1:], name)
        elif move == "copy":
            source, target = chance.choice([*texts]), slot
            count = chance.randint(1, len(texts[source]))
            if source != target and len(texts[source]) + len(new) < CONTEXT:
                decoder.copy(source, target, count)
                texts[target] = texts[source][:count] + new
                assert close(decoder.read(target, count, new, every=False), told(target)[-1:], name)
        elif move == "together":
            chosen = sorted(chance.sample(range(SLOTS), 3))
            prompts = [[chance.randrange(3, 250) for _ in range(chance.randint(1, 9))] for _ in chosen]
            rows = decoder.read_all(chosen, [0] * 3, prompts)
            for one, prompt, row in zip(chosen, prompts, rows, strict=True):
                texts[one] = prompt
                assert close(row, told(one)[-1], name)
        else:
            chosen = sorted(one for one in texts if chance.random() < 0.7 and len(texts[one]) < CONTEXT)
            if chosen:
                tokens = [chance.randrange(3, 250) for _ in chosen]
                rows = decoder.step(chosen, tokens, [len(texts[one]) for one in chosen])
                for one, token, row in zip(chosen, tokens, rows, strict=True):
                    texts[one] = [*texts[one], token]
                    assert close(row, told(one)[-1], name)


def test_a_copy_outlives_what_it_was_copied_from(folders: dict[str, Path], kit: Any) -> None:
    """Of a copy, too: a view of an array that an OrtValue was made of does not keep that array alive."""
    graph, decoder = opened(folders["optimum"], kit)
    text = [5, 9, 17, 4, 33, 8, 2, 7, 60, 11, 12, 13]
    decoder.read(0, 0, text, every=False)
    decoder.copy(0, 1, len(text))
    decoder.copy(1, 2, len(text))
    for slot in (0, 1, 0, 1):
        decoder.read(slot, 0, text[::-1], every=False)
    row = decoder.read(2, len(text), [99], every=False)
    assert close(row, graph.whole([*text, 99])[-1:], "optimum")


@pytest.mark.parametrize("name", ["optimum", "genai", "exported, padded"])
def test_prompts_behind_what_is_kept_are_read_together(name: str, folders: dict[str, Path], kit: Any) -> None:
    graph, decoder = opened(folders[name], kit)
    prompts = [[5, 9, 17, 4, 33], [8, 2, 7, 60, 11, 12, 13], [99, 98, 97]]
    starts = [3, 5, 0]
    for slot in (0, 1):
        decoder.read(slot, 0, prompts[slot][: starts[slot]], every=False)
    rows = decoder.read_all([0, 1, 2], starts, [prompt[start:] for prompt, start in zip(prompts, starts, strict=True)])
    for row, prompt in zip(rows, prompts, strict=True):
        assert close(row, graph.whole(prompt)[-1], name)


def test_what_goes_on_unchanged_is_not_copied(folders: dict[str, Path], kit: Any) -> None:
    """What a step gives back is the next one's past, as it lies; what ends gives its row back."""
    _, decoder = opened(folders["optimum"], kit)
    for slot in range(3):
        decoder.read(slot, 0, [5, 6, 7, 8][: slot + 2], every=False)
    decoder.step([0, 1, 2], [9] * 3, [2, 3, 4])
    block = decoder._blocks[0]
    assert block.slots == [0, 1, 2]
    given = decoder._joined([0, 1, 2], [3, 4, 5])
    assert given is block
    decoder.step([0, 2], [9] * 2, [3, 5])
    assert decoder._blocks[0] is decoder._blocks[2]
    assert decoder._blocks[1].slots == [1]
    assert decoder._blocks[1].values[0].shape() == [1, 2, 4, 64]
    decoder.free()
    assert decoder._blocks == [None] * SLOTS


def test_where_rows_disagree_they_are_run_one_by_one(folders: dict[str, Path], kit: Any) -> None:
    """Attention that counts the ones of a mask takes no padding in front; an optimum's graph takes none behind."""
    from anyform_onnx.generation import open_decoder

    graph, _ = graph_of(folders["genai"], kit)
    decoder = open_decoder(graph, SLOTS, CONTEXT, ())
    assert (type(decoder).__name__, decoder.rows, decoder.together) == ("RowDecoder", False, False)
    graph, _ = graph_of(folders["optimum"], kit)
    decoder = open_decoder(graph, SLOTS, CONTEXT, ("GroupQueryAttention",))
    assert (type(decoder).__name__, decoder.rows) == ("RowDecoder", True)


def test_the_logits_of_a_long_prompt_are_not_computed(
    folders: dict[str, Path], kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyform_onnx import generation

    prompt = [3 + place % 200 for place in range(40)]
    for name in ("optimum", "genai", "exported, padded"):
        graph, decoder = opened(folders[name], kit)
        expected = graph.whole(prompt)
        assert close(decoder.read(0, 0, prompt, every=False), expected[-1:], name)
        monkeypatch.setattr(generation, "LOGITS_BYTES", 30 * 4 * graph.vocabulary)
        assert close(decoder.read(1, 0, prompt, every=False), expected[-1:], name)
        rows = decoder.read_all([0, 1], [0, 0], [prompt[:20], prompt])
        assert close(rows, expected[[19, 39]], name)
        monkeypatch.undo()


def test_graphs_that_are_no_decoder_of_text_are_refused(tmp_path: Path, folders: dict[str, Path], kit: Any) -> None:
    from anyform.testing.onnxencoder import write_encoder
    from anyform_onnx import options
    from anyform_onnx.cachegraph import CacheGraph, Size
    from anyform_onnx.session import open_session

    write_encoder(tmp_path)
    session = open_session(tmp_path / "model.onnx", options.read({}), "cpu", model="m")
    with pytest.raises(Unsupported, match="keeps no keys"):
        CacheGraph(session, Size())
    session = open_session(folders["exported"] / "prefill.onnx", options.read({}), "cpu", model="m")
    with pytest.raises(Unsupported, match="keeps no keys"):
        CacheGraph(session, Size())


def test_sides_that_exporters_give_names(kit: Any) -> None:
    """The builder's graphs leave the size of a head open; transformers' exporter calls it `64`."""
    from anyform_onnx.cachegraph import _side

    assert _side("kv_cache_dim", 64) == 64
    assert _side("64", 0) == 64
    assert _side(8, 64) == 8


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, kit: Any) -> None:
    from anyform.testing.onnxdecoder import write_decoder
    from anyform_onnx.generation import open_decoder

    folder = write_decoder(tmp_path, rms_norm_eps=float("nan"))
    graph, _ = graph_of(folder, kit)
    with pytest.raises(LoadFailed, match="not finite"):
        open_decoder(graph, 2, 64, ())


def test_a_graph_for_single_tokens_reads_prompts_by_them(folders: dict[str, Path], kit: Any) -> None:
    graph, decoder = opened(folders["decode alone"], kit)
    prompt = [5, 9, 17, 4, 33, 8, 21, 7, 60, 11]
    expected = graph.whole(prompt)
    assert close(decoder.read(0, 0, prompt, every=True), expected, "decode alone")
    rows = decoder.read_all([0, 1], [4, 0], [prompt[4:], prompt[:6]])
    assert close(rows, expected[[9, 5]], "decode alone")


def test_a_batch_that_one_of_its_slots_has_left_is_not_gone_on_with(folders: dict[str, Path], kit: Any) -> None:
    """Another text that is as long lies in that slot by then: what ran in it before must not come back."""
    graph, decoder = opened(folders["optimum"], kit)
    first, gone, other = [5, 9, 17, 4, 33, 8], [99, 98, 97, 96, 95, 94], [20, 21, 22, 23, 24, 25]
    for slot, text in enumerate((first, gone)):
        decoder.read(slot, 0, text[:5], every=False)
    decoder.step([0, 1], [first[5], gone[5]], [5, 5])
    decoder.read(1, 0, other[:5], every=False)
    decoder.step([1], [other[5]], [5])
    new = [40, 41, 42]
    rows = decoder.read_all([0, 1], [6, 6], [new, new])
    for row, text in zip(rows, (first, other), strict=True):
        assert close(row, graph.whole([*text, *new])[-1], "optimum")


@pytest.mark.parametrize("name", ["optimum", "genai", "exported, padded"])
@pytest.mark.parametrize("used", [False, True])
def test_a_new_prompt_is_read_beside_the_rest_of_a_kept_one(
    used: bool, name: str, folders: dict[str, Path], kit: Any
) -> None:
    """As many tokens of both, in a slot that nobody has used, or that has what ran there before."""
    graph, decoder = opened(folders[name], kit)
    if used:
        decoder.read(1, 0, [99, 98, 97], every=False)
    decoder.read(0, 0, [5, 9, 17, 4, 33], every=False)
    rows = decoder.read_all([0, 1], [5, 0], [[8, 2], [7, 60]])
    for row, text in zip(rows, ([5, 9, 17, 4, 33, 8, 2], [7, 60]), strict=True):
        assert close(row, graph.whole(text)[-1], name)
    rows = decoder.step([0, 1], [11, 12], [7, 2])
    for row, text in zip(rows, ([5, 9, 17, 4, 33, 8, 2, 11], [7, 60, 12]), strict=True):
        assert close(row, graph.whole(text)[-1], name)


def test_a_slot_that_is_full_is_no_bridge_between_others(folders: dict[str, Path], kit: Any) -> None:
    """Its next token has no place in the graph's table of places; attention refuses all rows of such a pass."""
    from anyform_onnx import textloading
    from anyform_onnx.generation import open_decoder

    graph, loading = graph_of(folders["genai"], kit)
    context = loading.plan.metadata.context
    decoder = open_decoder(graph, 3, context, textloading.operators(loading))
    assert type(decoder).__name__ == "SharedDecoder"
    full = [3 + place % 200 for place in range(context)]
    decoder.read(1, 0, full, every=False)
    decoder.read(0, 0, [5, 6, 7], every=False)
    decoder.read(2, 0, [5, 6, 7, 8], every=False)
    rows = decoder.step([0, 2], [9, 9], [3, 4])
    for row, text in zip(rows, ([5, 6, 7, 9], [5, 6, 7, 8, 9]), strict=True):
        assert close(row, graph.whole(text)[-1], "genai")


@pytest.mark.parametrize("name", ["optimum", "genai"])
def test_a_graph_that_is_wrong_for_several_tokens_behind_others_is_given_single_ones(
    name: str, folders: dict[str, Path], kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was traced with a single token: right for prompts and steps, wrong for what is between."""
    from anyform_onnx import textloading
    from anyform_onnx.cachegraph import CacheGraph
    from anyform_onnx.generation import open_decoder

    words = CacheGraph._words

    def turned(self: Any, session: Any, binding: Any, ids: Any, positions: Any, mask: Any, *more: Any) -> None:
        if mask.shape[1] > ids.shape[1] > 1:
            ids = ids[:, ::-1].copy()
        words(self, session, binding, ids, positions, mask, *more)

    monkeypatch.setattr(CacheGraph, "_words", turned)
    graph, loading = graph_of(folders[name], kit)
    decoder = open_decoder(graph, SLOTS, CONTEXT, textloading.operators(loading))
    assert (type(decoder).__name__, graph.many) == ("RowDecoder", False)
    prompt = [5, 9, 17, 4, 33, 8, 77, 120]
    expected = graph.whole(prompt)
    for kept in (2, 5):
        decoder.read(0, 0, prompt[:kept], every=False)
        assert close(decoder.read(0, kept, prompt[kept:], every=False), expected[-1:], name)
        decoder.read(1, 0, prompt[:kept], every=False)
        rows = decoder.read_all([0, 1], [kept, kept], [prompt[kept:], prompt[kept:]])
        assert close(rows, expected[[-1, -1]], name)


@pytest.mark.parametrize("name", ["optimum", "genai"])
def test_what_is_freed_gives_the_weights_back(name: str, folders: dict[str, Path], kit: Any) -> None:
    graph, decoder = opened(folders[name], kit)
    gone = weakref.ref(graph)
    del graph
    assert gone() is not None
    decoder.free()
    gc.collect()
    assert gone() is None
