"""Whether a Hugging Face folder is sound: everything that would fail, or could harm, once an engine loads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anyform.contract.facts import Finding, FormatMatch, ModelFiles
from anyform.finding import condensed
from anyform.pretrained import architecture, attention, companion, safetensors, steps
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.layout import CONFIG, at, folder_of, is_inside
from anyform.pretrained.safetensors import Header
from anyform_hf_transformers import layout, network, packing, pickled
from anyform_hf_transformers.family import KNOWN, VERSION
from anyform_hf_transformers.finding import AGAIN, FAMILY, critical, warning
from anyform_hf_transformers.layout import PEFT
from anyform_hf_transformers.metadata import home

TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model",
    "source.spm",
)  # fmt: skip

PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """Findings for all files of *match*. Bounded: headers, pickles' opcodes and small files; no weights."""
    return list(condensed(_findings(files, match)))


def _findings(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    folder = folder_of(match.entry)
    broken: set[str] = set()
    for name in match.files:
        for finding in _file(files, name) if name in files.files else ():
            broken.add(name)
            yield finding
    yield from _missing_files(files, match)
    headers = {
        name: safetensors.header(files, name)
        for name in match.files
        if name in files.files and name.endswith(".safetensors") and folder_of(name) == folder
    }
    if match.format == PEFT:
        if at(folder, layout.ADAPTER_CONFIG) not in broken:
            yield from _adapter(files, match, headers)
        return
    config = Configuration(files.json(at(folder, CONFIG)))
    if at(folder, CONFIG) not in broken:
        yield from _config(files, folder, config)
    yield from steps.check(files, home(match), broken, FAMILY)
    if match.entry not in broken:
        yield from _index(files, match, headers)
    yield from _twins(headers)
    if all(header.read for header in headers.values()) and headers:
        if not any(header.tensors for header in headers.values()):
            yield critical("no_tensors", f"{match.entry} holds no tensor at all. {AGAIN}")
        else:
            yield from network.check(config, [tensor for one in headers.values() for tensor in one.tensors])


def _file(files: ModelFiles, name: str) -> Iterator[Finding]:
    """What is wrong with one file by itself."""
    other = companion.substitute(files, name, FAMILY)
    if other is not None:
        yield other
    elif name.endswith(".safetensors"):
        yield from safetensors.check(safetensors.header(files, name), name, FAMILY)
    elif name.endswith(".bin"):
        yield from pickled.check(files, name)
    else:
        yield from companion.check(files, name, FAMILY)


def _config(files: ModelFiles, folder: str, config: Configuration) -> Iterator[Finding]:
    """What is wrong with what config.json says."""
    name = at(folder, CONFIG)
    if name not in files.files:
        yield critical("missing_config", f"{name} is missing: it says what the weights are. Get the whole model.")
        return
    if not config.content:
        yield critical("bad_config", f"{name} is no JSON object, or an empty one. {AGAIN}")
        return
    if "architectures" in config.content and not config.architectures:
        said = repr(config.content["architectures"])[:100]
        yield critical("bad_config", f"{name}: architectures is {said}, no list of names. {AGAIN}")
    if not config.architectures and not config.model_type:
        yield critical("bad_config", f"{name} names neither architectures nor a model_type. Get the whole model.")
        return
    yield from network.numbers(config, name)
    yield from packing.check(config.content, name)
    yield from _code(files, folder, config)
    if config.reads_text and not any(at(folder, one) in files.files for one in TOKENIZERS):
        text = f"there is no tokenizer beside {name} ({', '.join(TOKENIZERS[:3])}, …). Get the whole model."
        yield critical("missing_tokenizer", text)
    lacks = not any(at(folder, one) in files.files for one in PROCESSORS)
    if lacks and config.model_type in KNOWN and architecture.needs_pictures(config):
        text = f"there is no {PROCESSORS[0]} beside {name}, which says how pictures are prepared. Get the whole model."
        yield critical("missing_processor", text)


def _code(files: ModelFiles, folder: str, config: Configuration) -> Iterator[Finding]:
    """Code that would be fetched, or that would have to come with a model whose class transformers does not have."""
    kind, name = config.model_type, at(folder, CONFIG)
    kernel = attention.fetched(config.content, attention.INSTALLED)
    if kernel:
        text = f"{name} wants to be computed by {kernel!r}, code that would be fetched. It is not run."
        yield critical("custom_code", f"{text} Delete attn_implementation from it.")
    if kind in KNOWN:
        return
    said = f"{name} says model_type {kind!r:.60}" if kind else f"{name} states no model_type"
    if not config.remote_code:
        text = f"{said}, which transformers {VERSION} does not know: it needs a later one, if any has it."
        yield warning("unknown_architecture", text)
        return
    where = sorted({name.rpartition("--")[2].rpartition(".")[0] + ".py" for name in config.remote_code})
    absent = [name for name in where if at(folder, name) not in files.files]
    said = f"{said}, and the model brings its own code ({', '.join(where[:3])}), which could do anything here."
    hint = "It is refused when it is loaded, unless you set trust_remote_code = true in the options of this very model."
    yield warning("remote_code", f"{said} {hint}")
    if absent:
        yield warning("missing_code", f"{', '.join(absent[:3])} is not in the folder: its code lies elsewhere.")


def _missing_files(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    """Shards that names promise, where no index does."""
    if match.entry.endswith(".json"):
        return
    for name in layout.missing_shards(match.entry, files.files):
        yield critical("missing_shard", f"{name} is missing: all shards have to lie in one folder. Fetch it.")
    if layout.missing_shards(match.entry, ()):
        text = f"{match.entry} is one of several shards, and the index that says what lies where is missing. Fetch it."
        yield critical("missing_index", text)


def _index(files: ModelFiles, match: FormatMatch, headers: Mapping[str, Header]) -> Iterator[Finding]:
    """Whether what the index says is in the shards."""
    if not match.entry.endswith(".json"):
        return
    mapped = files.json(match.entry).get("weight_map")
    if not isinstance(mapped, dict) or not mapped or not all(isinstance(name, str) for name in mapped.values()):
        yield critical("bad_index", f"{match.entry} has no weight_map from tensors to files. {AGAIN}")
        return
    folder = folder_of(match.entry)
    suffix = ".safetensors" if match.format == layout.SAFETENSORS else ".bin"
    named = dict.fromkeys(mapped.values())
    for name in named:
        if not is_inside(name) or not name.endswith(suffix):
            text = f"{match.entry} names {name[:100]!r}, which is no {suffix} file of this folder. {AGAIN}"
            yield critical("bad_index", text)
        elif at(folder, name) not in files.files:
            text = f"{at(folder, name)} is missing, which {match.entry} names. Fetch it."
            yield critical("missing_shard", text)
    yield from _mapped(mapped, {name[len(at(folder, "")) :]: one for name, one in headers.items()}, match.entry)


def _mapped(mapped: Mapping[str, str], headers: Mapping[str, Header], entry: str) -> Iterator[Finding]:
    there = {name: {tensor.name for tensor in header.tensors} for name, header in headers.items() if header.read}
    for tensor, name in mapped.items():
        if name in there and tensor not in there[name]:
            text = f"{name} has no tensor {tensor[:100]!r}, which {entry} says is in it. {AGAIN}"
            yield critical("missing_tensor", text)
    for name, tensors in there.items():
        for tensor in sorted(tensors - mapped.keys()):
            text = f"{name} has the tensor {tensor[:100]!r}, which {entry} does not name: it is not used."
            yield warning("unnamed_tensor", text)


def _twins(headers: Mapping[str, Header]) -> Iterator[Finding]:
    """One tensor in two shards."""
    seen: dict[str, str] = {}
    for name, header in headers.items():
        for tensor in header.tensors:
            other = seen.setdefault(tensor.name, name)
            if other != name:
                text = f"the tensor {tensor.name[:100]!r} is in {other} and in {name}. {AGAIN}"
                yield critical("duplicate_tensor", text)


def _adapter(files: ModelFiles, match: FormatMatch, headers: Mapping[str, Header]) -> Iterator[Finding]:
    name = at(folder_of(match.entry), layout.ADAPTER_CONFIG)
    said: Mapping[str, Any] = files.json(name)
    kind, base = said.get("peft_type"), said.get("base_model_name_or_path")
    if not isinstance(kind, str):
        yield critical("bad_config", f"{name} names no peft_type. {AGAIN}")
    if not isinstance(base, str) or not base:
        text = f"{name}: base_model_name_or_path is {base!r:.60}: nothing says which model it belongs to."
        yield critical("no_base", f"{text} Write that model's name there.")
    tensors: Sequence[Any] = [tensor for header in headers.values() for tensor in header.tensors]
    if headers and not tensors and all(header.read for header in headers.values()):
        yield critical("no_tensors", f"{match.entry} holds no tensor at all. {AGAIN}")
    whose = f"for {base}" if isinstance(base, str) and base else "whose model is not named"
    yield warning("adapter", f"{match.entry} is an adapter {whose}, no model by itself: it needs that model to run.")
