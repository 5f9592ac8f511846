"""Whether an RKLLM model is sound, and whether this machine's NPU and library would take it.

Codes that end in `_elsewhere` hang on the library that lies here and are not remembered (anyform's sources/reader.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from anyform.contract.facts import Finding, FormatMatch, Metadata, ModelFiles
from anyform.finding import Family, condensed
from anyform.pretrained import companion
from anyform.pretrained.layout import CONFIG
from anyform_rkllm import detection, fit, header, metadata
from anyform_rkllm import name as naming
from anyform_rkllm.header import HEAD_BYTES, MAGIC, MAX_KEYS, MAX_TENSORS, VERSIONS, Header
from anyform_rkllm.info import FORMAT, KIND, SUFFIX
from anyform_rkllm.state import State
from anyform_rkllm.vision import finding as vision

_RKLLM = Family(FORMAT)
AGAIN = "Copy or download it again."
UNKNOWN = "unknown"
"""What the trailer says where the toolkit did not know its own version; logs of such files are public."""
OLDEST = (1, 1)
"""Toolkits before it made files for a library whose interface is not known here."""
GGUF = b"GGUF"


def validate(files: ModelFiles, match: FormatMatch, here: State | None = None) -> list[Finding]:
    """Findings for all files of *match*. Bounded: of the model its directory and its end, no weights.

    *here*: this machine. What it lacks is a warning where it has an NPU, which `fit` refuses the model for: the file is
    sound. Elsewhere a note tells what the model is made for.
    """
    return list(condensed(_findings(files, match, here)))


def _findings(files: ModelFiles, match: FormatMatch, here: State | None) -> Iterator[Finding]:
    for name in match.files:
        if name == match.entry or name not in files.files:
            continue
        wrong = companion.substitute(files, name, _RKLLM)
        if wrong is not None:
            yield wrong
        else:
            found = list(companion.check(files, name, _RKLLM))
            yield from found or _configuration(files, name)
    if match.entry not in files.files:
        yield _RKLLM.critical("missing", f"{match.entry} is gone. {AGAIN}")
        return
    wrong = companion.substitute(files, match.entry, _RKLLM)
    if wrong is not None:
        yield wrong
        return
    try:
        read = header.read(files, match.entry)
    except OSError as error:
        text = f"{match.entry} cannot be read: {error.strerror or error}. Check its permissions."
        yield _RKLLM.critical("unreadable", text)
        return
    yield from _file(read, match.entry)
    yield from _kind(read, match)
    yield from _fit(metadata.extract(files, match), read, match, here)


def _configuration(files: ModelFiles, name: str) -> Iterator[Finding]:
    if PurePosixPath(name).name == CONFIG and not files.head(name, HEAD_BYTES).lstrip().startswith(b"{"):
        yield _RKLLM.warning("no_object", f"{name} holds no JSON object: nothing is read of it. {AGAIN}")


def _file(read: Header, name: str) -> Iterator[Finding]:
    """What is wrong with the .rkllm by itself."""
    if not read.size:
        yield _RKLLM.critical("empty_file", f"{name} is empty. {AGAIN}")
    elif read.magic == GGUF:
        text = f"{name} is a GGUF file with another ending. Call it .gguf, and run it with a backend for those."
        yield _RKLLM.critical("gguf", text)
    elif read.size < HEAD_BYTES:
        text = f"{name} has {read.size} bytes, less than the beginning of an RKLLM file: it is truncated. {AGAIN}"
        yield _RKLLM.critical("truncated", text)
    elif not read.known:
        yield _strange(read, name)
    else:
        yield from _first(read, name)
        yield from _rest(read, name)


def _strange(read: Header, name: str) -> Finding:
    """The first numbers are not as in the files that are known."""
    known = " and ".join(map(str, VERSIONS))
    if read.version not in VERSIONS and _counted(read):
        text = f"{name} has version {read.version} of the format; known are {known}. Get the model for a known toolkit."
        return _RKLLM.critical("unknown_version", text)
    if read.text:
        return _RKLLM.critical("strange_header", f"{name} is no RKLLM file: it begins as a text. {AGAIN}")
    said = f"version {read.version}, {read.tensors} tensors, {read.keys} keys, a first key of {read.first_key} letters"
    text = f"{name} does not begin as an RKLLM file does ({said}). {AGAIN}"
    if read.first_key > read.size:
        return _RKLLM.critical("strange_header", text)  # it contradicts itself
    if _counted(read) and read.toolkit:  # only the first key is another: a later toolkit may write it so
        return _RKLLM.warning("strange_header", f"{name} does not begin as known RKLLM files do ({said}).")
    return _RKLLM.critical("strange_header", text)


def _counted(read: Header) -> bool:
    """Whether the counts may be those of a model."""
    return 0 < read.keys <= MAX_KEYS and 0 < read.tensors <= MAX_TENSORS


def _first(read: Header, name: str) -> Iterator[Finding]:
    if not read.tensors:
        yield _RKLLM.critical("no_tensors", f"{name} says that it has no tensors: it is no model. {AGAIN}")
    if read.magic != MAGIC:
        # One public study gives these bytes, and nobody else: no reason to refuse a model.
        text = f"{name} begins with {read.magic.hex(' ')}, where {MAGIC.hex(' ')} is usual: it may be damaged."
        yield _RKLLM.note("magic", text)


def _rest(read: Header, name: str) -> Iterator[Finding]:
    """What the directory and the end tell of whether the file is whole."""
    if not read.local:
        return  # it lies elsewhere: checked once it is here
    if read.trailer is not None:
        if not read.toolkit and read.trailer.lower() != UNKNOWN:
            text = f"{name} ends in 'version: {read.trailer}', which is no version: it may be cut off. {AGAIN}"
            yield _RKLLM.warning("strange_trailer", text)
        if read.trouble:
            text = f"the directory of {name} is not laid out as known ones are: {read.trouble}. It is not checked."
            yield _RKLLM.warning("strange_directory", text)
        return
    needed = read.directory.needed if read.directory else 0
    if read.cut or needed > read.size:
        where = "its directory" if read.cut else f"its last tensor, which ends at byte {needed} at the earliest"
        text = f"{name} ends at byte {read.size}, within {where}: it is truncated. {AGAIN}"
        yield _RKLLM.critical("truncated", text)
    elif read.trouble:
        text = f"{name} is damaged: {read.trouble}, and it does not end with the toolkit's version. {AGAIN}"
        yield _RKLLM.critical("damaged", text)
    else:
        text = f"{name} does not end with the toolkit's version, as other files do: it may be cut off."
        yield _RKLLM.warning("no_trailer", f"{text} Compare its size with that where it is from.")


def _kind(read: Header, match: FormatMatch) -> Iterator[Finding]:
    what = detection.companion(match)
    if not what and detection.kind(match.entry) and read.directory and not read.directory.vocabulary:
        what = detection.kind(match.entry)  # without a vocabulary, it is what it is called
    if what:
        text = f"{match.entry} is {what}, no model by itself: put it beside the model it belongs to"
        hint = (
            " and name it in the load option loras." if "LoRA" in what else " and name it in the option prompt_cache."
        )
        yield _RKLLM.critical("companion", text + hint)


def _fit(said: Metadata, read: Header, match: FormatMatch, here: State | None) -> Iterator[Finding]:
    """Whether it is made for this machine."""
    toolkit = str(said.extra["toolkit"])
    if toolkit and fit.parts(toolkit)[:2] < OLDEST:
        text = f"{match.entry} was made with toolkit {toolkit}, whose library has an interface that is not known here."
        yield _RKLLM.critical("old_toolkit", f"{text} Get it for toolkit 1.1 or later.")
    yield from _disagreement(said, read, match)
    if here is None or here.npu is None or here.npu.driver != KIND:
        purpose = _purpose(said)
        if purpose:
            text = f"{match.entry} is made for {purpose}; this machine has no NPU that would run it."
            yield _RKLLM.note("made_for", text)
        return
    version, path = (here.library.version, here.library.path) if here.library else ("", "")
    for misfit in fit.misfits(said, here.npu.platform, version, path):
        yield _RKLLM.warning(misfit.code, f"{match.entry} {misfit.why} {misfit.do}")
    yield from _encoders(match, here.npu.platform)


def _purpose(said: Metadata) -> str:
    """What a model is made for and how, such as `RK3588 (W8A8, by toolkit 1.2.3)`; empty where nothing says it."""
    toolkit = said.extra["toolkit"]
    how = ", ".join(part for part in (said.quantization, f"by toolkit {toolkit}" if toolkit else "") if part)
    chips = " and ".join(said.extra["platforms"])
    return f"{chips or 'an NPU of Rockchip'} ({how})" if how else chips


def _encoders(match: FormatMatch, chip: str) -> Iterator[Finding]:
    """Whether those of pictures are made for *chip*, whose NPU is here; empty: unknown."""
    for name in match.files:
        chips = naming.platforms(PurePosixPath(name).name) if name in vision.encoders((name,)) else ()
        if chips and chip and chip not in chips and name.endswith(vision.NPU):
            text = f"{name} is made for {' and '.join(chips)}, and this is {chip}: pictures cannot be looked at."
            yield _RKLLM.warning("encoder_of_other_board", text)


def _disagreement(said: Metadata, read: Header, match: FormatMatch) -> Iterator[Finding]:
    """Where the file's end says another version than its name."""
    stem = PurePosixPath(match.entry).name.removesuffix(SUFFIX)
    named = naming.parse(stem).toolkit
    if read.toolkit and named and read.toolkit != named:
        text = f"{match.entry} says at its end that toolkit {read.toolkit} made it, and its name says {named}."
        yield _RKLLM.note("misnamed", f"{text} What the file says counts.")
