"""What /api/create asks for: fields of its own, or a Modelfile as older clients send it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anyform.contract.errors import Invalid, RefusedRequest
from anyform.dialect import Fields, mistyped
from anyform_ollama_api import modelfile, naming, parameter
from anyform_ollama_api.blob import DIGEST
from anyform_ollama_api.gotemplate import jinja

QUANTIZATIONS = ("F32", "F16", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
UPLOADED = "@"
"""Before a digest, in a Modelfile."""
LISTS = ("license", "messages")
SAID = ("content", "role")
"""What a message of a made model may have."""
WEIGHTS, ADAPTER = "model.gguf", "adapter-{number}.gguf"
"""What uploads are called that a Modelfile names by their digests alone."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A model to be made."""

    name: str
    base: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """Relative name -> digest."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """Likewise."""
    system: str = ""
    template: str = ""
    """As it was given."""
    chat_template: str = ""
    """The same in Jinja."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()
    licenses: tuple[str, ...] = ()
    quantize: str = ""


def read(body: Fields) -> Order:
    """Raises Invalid, in Ollama's words where it has some; RefusedRequest for a path."""
    name = naming.new(body)
    if body.text("path"):
        refuse_path("path", str(body.data["path"]))
    said = Fields({**_of_modelfile(body.text("modelfile") or ""), **_without_null(body.data)})
    base, files = said.text("from") or "", _uploads(said, "files")
    if base.startswith(UPLOADED):
        base, files = "", {WEIGHTS: _digest("from", base.removeprefix(UPLOADED)), **files}
    if not base and not files:
        raise Invalid("neither 'from' or 'files' was specified.", "Name a model, or files that were uploaded.")
    if base and not naming.is_name(base.rstrip("/")):
        refuse_path("from", base)
    template = said.text("template") or ""
    return Order(
        name=naming.own(name),
        base=naming.own(base),
        files={} if base else files,
        adapters=_uploads(said, "adapters"),
        system=said.text("system") or "",
        template=template,
        chat_template=_jinja(template),
        parameters=parameter.checked(said.object("parameters") or {}),
        messages=_messages(said),
        licenses=tuple(text for text in said.strings("license") or () if text),
        quantize=_quantization(said.text("quantize") or ""),
    )


def refuse_path(where: str, path: str) -> None:
    """What lies on the server's disk is its operator's to name."""
    raise RefusedRequest(
        f"invalid model name: '{where}' is the path {path[:100]!r}, and no path of a request is read.",
        "Upload the file to /api/blobs and name it in 'files', or name a model.",
        param=where,
    )


def _without_null(said: Mapping[str, Any]) -> dict[str, Any]:
    """*said* without what says nothing."""
    return {
        name: value
        for name, value in said.items()
        if value not in (None, "", {}) and not (name in LISTS and value == [])
    }


def _of_modelfile(text: str) -> dict[str, Any]:
    """What a Modelfile says, by the names of the fields."""
    if not text:
        return {}
    try:
        made = modelfile.parse(text)
    except Invalid as wrong:
        raise Invalid(f"modelfile: {wrong.message}", wrong.hint, param="modelfile") from wrong
    adapters = {ADAPTER.format(number=at): _uploaded("ADAPTER", one) for at, one in enumerate(made.adapters)}
    return _without_null(
        {
            "from": made.base,
            "adapters": adapters,
            "system": made.system,
            "template": made.template,
            "parameters": dict(made.parameters),
            "messages": [{"role": role, "content": content} for role, content in made.messages],
            "license": list(made.licenses),
        }
    )


def _uploaded(where: str, said: str) -> str:
    if not DIGEST.fullmatch(said.removeprefix(UPLOADED)):
        refuse_path(where, said)
    return said.removeprefix(UPLOADED)


def _uploads(said: Fields, where: str) -> dict[str, str]:
    found = said.object(where) or {}
    for name, digest in found.items():
        parts = name.split("/")
        if name.startswith("/") or "\\" in name or {"", ".", ".."}.intersection(parts):
            raise Invalid("file path must be relative.", f"{name[:100]!r} in '{where}' is not.", param=where)
        if not isinstance(digest, str):
            mistyped(f"{where}.{name[:100]}", "a digest", digest)
        found[name] = _digest(where, digest)
    return found


def _digest(where: str, digest: str) -> str:
    if not DIGEST.fullmatch(digest):
        hint = f"{digest[:100]!r} in '{where}' is none: write it as sha256: and 64 hexadecimal digits."
        raise Invalid("invalid digest format.", hint, param=where)
    return digest.replace("-", ":")


def _jinja(template: str) -> str:
    try:
        return jinja(template) if template else ""
    except Invalid as wrong:
        raise Invalid(f"template error: {wrong.message}", wrong.hint, param="template") from wrong


def _messages(said: Fields) -> tuple[Mapping[str, Any], ...]:
    made = []
    for item in said.items("messages") or ():
        role, content = item.choice("role", *modelfile.ROLES), item.text("content")
        if role is None:
            item.missing("role")
        for name in item.data:
            if name not in SAID:
                item.refuse(name, "A model keeps what is said, and nothing else.")
        made.append({"role": role, "content": content or ""})
    return tuple(made)


def _quantization(said: str) -> str:
    if said and said.upper() not in QUANTIZATIONS:
        raise Invalid(
            f"unsupported quantization type {said[:50]} - supported types are {', '.join(QUANTIZATIONS)}.",
            "Pull a file that is quantized so, such as hf.co/owner/repo:IQ2_M.",
            param="quantize",
        )
    return said.upper()
