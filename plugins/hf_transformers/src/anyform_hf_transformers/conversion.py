"""What transformers makes of a GGUF, and what it leaves out of the file's header: that is taken from the metadata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from anyform.contract.errors import Unsupported
from anyform.contract.facts import Plan
from anyform_hf_transformers import gguf


def wanted(plan: Plan) -> bool:
    """Whether the plan's model is a GGUF."""
    return plan.match.format == gguf.GGUF


def textual(plan: Plan) -> Plan:
    """*plan*, which sees nothing where it is of a GGUF: transformers does not read its projector."""
    if not wanted(plan):
        return plan
    facts = plan.metadata
    return replace(plan, metadata=replace(facts, features=tuple({*facts.features} - {"vision", "audio"})))


def file(plan: Plan) -> dict[str, str]:
    """What `from_pretrained` is told beside the folder. Raises Unsupported, EngineMissing."""
    if not wanted(plan):
        return {}
    gguf.check(plan.metadata)
    path = Path(plan.path) / plan.match.entry
    with path.open("rb") as opened:
        if gguf.FACTORS in opened.read(gguf.SEARCHED_BYTES):
            raise Unsupported(
                f"{plan.model} has a factor for each of its positions' frequencies ({gguf.FACTORS.decode()}), "
                "which transformers leaves out.",
                gguf.INSTEAD,
            )
    return {"gguf_file": path.name}


def configured(plan: Plan, config: Any) -> Any:
    """*config* with what transformers does not look for: the length of heads, and windows."""
    facts, text = plan.metadata.extra, config.get_text_config()
    length = facts.get("key_length")
    if isinstance(length, int) and hasattr(text, "head_dim"):
        text.head_dim = length
    return config


def marked(plan: Plan, tokenizer: Any) -> Any:
    """*tokenizer* with the file's special tokens and chat templates."""
    facts = plan.metadata.extra
    special = facts.get("special_tokens", {})
    for name in ("bos", "eos"):
        if getattr(tokenizer, f"{name}_token_id") is None and isinstance(special.get(name), int):
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(special[name]))
    named = {**facts.get("chat_templates", {})}
    if "chat_template" in facts:
        named["default"] = facts["chat_template"]
    if not tokenizer.chat_template and named:
        tokenizer.chat_template = named
    return tokenizer


def ended(plan: Plan, model: Any) -> Any:
    """*model*, which knows the tokens that end an answer."""
    special = plan.metadata.extra.get("special_tokens", {})
    ends = [special[name] for name in gguf.ENDS if isinstance(special.get(name), int)]
    if ends:
        model.generation_config.eos_token_id = ends
    return model
