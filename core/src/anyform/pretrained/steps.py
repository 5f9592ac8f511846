"""Whether what sentence-transformers says of the steps from tokens to a vector can be so."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from anyform.contract.facts import Finding, ModelFiles
from anyform.finding import Family
from anyform.pretrained import modules
from anyform.pretrained.companion import AGAIN
from anyform.pretrained.layout import CONFIG, MODULES, at


def check(files: ModelFiles, top: str, broken: Collection[str], family: Family) -> Iterator[Finding]:
    """What is wrong with the modules of the folder *top*, as findings of *family*; nothing where it has none.

    *broken*: files of which something is said already.
    """
    name = at(top, MODULES)
    if name not in files.files or name in broken:
        return
    outside = modules.outside(files, top)
    if outside:
        text = f"{name} names {outside[:100]!r}, which lies outside of the model. {AGAIN}"
        yield family.critical("bad_modules", text)
        return
    found = modules.modules(files, top)
    if found is None:
        yield family.critical("bad_modules", f"{name} is no list of modules with a type and a path each. {AGAIN}")
        return
    for one in found:
        own = at(at(top, one.path), CONFIG)
        if one.kind in ("Pooling", "Dense") and own not in files.files:
            text = f"{name} names a {one.kind} in {one.path!r}, which has no config.json. Get the whole model."
            yield family.critical("missing_module", text)
        elif one.kind == "Pooling" and own not in broken:
            wrong = modules.pooling_trouble(files, own)
            if wrong:
                text = f"{own}: {wrong}. It has to be one of {', '.join(modules.NAMES)}."
                yield family.critical("bad_pooling", text)
    limits = at(top, modules.LIMITS)
    stated = files.json(limits).get("max_seq_length")
    if stated is not None and (type(stated) is not int or stated < 1):
        text = f"{limits}: max_seq_length is {stated!r:.60}; it has to be 1 or more. {AGAIN}"
        yield family.critical("bad_value", text)
