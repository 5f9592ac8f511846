"""From a plan to a loaded model: llama.cpp's parameters, the file, adapters, the context, a first decode."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anyform.contract.errors import Fault, Invalid, LoadFailed, OutOfMemory, Unsupported
from anyform.contract.facts import Plan
from anyform.contract.model import LoadedModel
from anyform.text.processor import cores
from anyform.text.prompt import ChatForm
from anyform.text.textmodel import TextModel
from anyform.text.vectormodel import Floats, VectorModel, sigmoid
from anyform_gguf_llamacpp.accelerator import accelerators
from anyform_gguf_llamacpp.engine import Context, Vocabulary
from anyform_gguf_llamacpp.enginelog import EngineLog
from anyform_gguf_llamacpp.guard import Guard
from anyform_gguf_llamacpp.loop import SCORED_ROWS, Loop
from anyform_gguf_llamacpp.memory import fitting_layers
from anyform_gguf_llamacpp.options import CACHE_TYPES, POOLINGS, Options
from anyform_gguf_llamacpp.vectorinputs import VectorInputs
from anyform_gguf_llamacpp.vectorloop import VectorLoop
from anyform_gguf_llamacpp.vision import open_projector

_PARALLEL = 4
_CONTEXT = 8192
"""What a plan that names no context gets, or the training context if that is less."""
_EMBEDDED_TOGETHER = 32
"""Inputs that one step embeds at the most."""
_NO_POOLING, _MEAN_POOLING, _RANK_POOLING = 0, 1, 4
_SAMPLING_KEYS = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repeat_penalty": "penalty_repeat",
    "repeat_last_n": "penalty_last_n",
}
"""Sampling parameters, and what GGUF calls them (llama.h, llama_model_meta_key)."""
_SMALL_MODEL_BYTES = 16 << 20
_MOST_CELLS = 2**31 - 1
_MMAP, _MLOCK = 1, 2
"""llama_load_mode bits: 0 neither, 3 both (llama.h)."""


class Loader:
    """Loads one plan. What is half loaded when it fails is freed."""

    def __init__(self, llama: Any, projection: Callable[[], Any], log: EngineLog, plan: Plan, options: Options) -> None:
        self._llama = llama
        self._projection = projection
        self._log = log
        self._plan = plan
        self._options = options
        self._path = Path(plan.path) / plan.match.entry
        self._model: Any = None
        self._context: Any = None
        self._accelerated = False
        self._guard = Guard()

    def load(self) -> LoadedModel:
        """The model, warmed up. Raises Invalid, LoadFailed, OutOfMemory, Unsupported."""
        self._log.clear()
        try:
            self._open_model()
            self._refuse_kinds()
            if self._makes_vectors():
                return self._load_vectors()
            return self._load_text()
        except BaseException:
            self._free()
            raise

    def _free(self) -> None:
        if self._context:
            self._llama.llama_free(self._context)
        if self._model:
            self._llama.llama_model_free(self._model)
        self._context = self._model = None

    def _open_model(self) -> None:
        params = self._llama.llama_model_default_params()
        params.load_mode = (_MMAP if self._options.mmap else 0) | (_MLOCK if self._options.mlock else 0)
        params.use_extra_bufts = self._options.use_extra_bufts
        kept_alive = self._set_devices(params)
        self._model = self._llama.llama_model_load_from_file(str(self._path).encode(), params)
        del kept_alive
        if not self._model:
            raise self._fault("load the model")

    def _set_devices(self, params: Any) -> Any:
        """Choose where the layers go; gives what must stay alive until the model is loaded."""
        wanted = self._plan.settings.device or next((d.id for d in self._plan.devices if d.kind != "cpu"), "cpu")
        kind, _, index = wanted.partition(":")
        if kind == "cpu" or self._options.gpu_layers == 0:
            params.n_gpu_layers = 0
            devices = (ctypes.c_void_p * 1)(None)  # none, so that no operation wanders to an accelerator either
        else:
            found = [a for a in accelerators(self._llama) if a.kind == kind and index in ("", str(a.index))]
            if not found:
                raise LoadFailed(
                    f"the installed llama.cpp cannot use {wanted}.",
                    "Install a build for that device, or use --device cpu.",
                )
            self._accelerated = True
            params.n_gpu_layers = self._layers()
            devices = (ctypes.c_void_p * (len(found) + 1))(*[a.handle for a in found], None)
        params.devices = ctypes.cast(devices, ctypes.c_void_p)
        return devices

    def _layers(self) -> int:
        """How many go to the accelerator, -1 for all: as asked, else as many as it has room for."""
        asked, devices = self._options.gpu_layers, self._plan.devices
        if asked is None and len(devices) > 1:
            asked = fitting_layers(self._plan.metadata, self._plan.settings, devices[0].free_bytes)
        return -1 if asked is None else asked

    def _refuse_kinds(self) -> None:
        llama, model = self._llama, self._model
        if llama.llama_model_has_encoder(model) and llama.llama_model_has_decoder(model):
            raise Unsupported(f"{self._plan.model} is an encoder-decoder model, which this backend does not run.")
        if llama.llama_model_is_diffusion(model):
            raise Unsupported(f"{self._plan.model} writes text by diffusion, which this backend does not run.")

    def _makes_vectors(self) -> bool:
        tasks = self._plan.metadata.tasks
        if tasks:
            return tasks[0] in ("embed", "rerank")
        return self._file_pooling() not in (None, _NO_POOLING)

    def _file_pooling(self) -> int | None:
        value = self._value(f"{self._value('general.architecture')}.pooling_type")
        return int(value) if value else None

    def _value(self, key: str) -> str:
        buffer = ctypes.create_string_buffer(256)
        size = self._llama.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else ""

    def _request_context(self) -> int:
        trained = int(self._llama.llama_model_n_ctx_train(self._model)) or _CONTEXT
        context = self._plan.settings.context
        if context is not None and context < 1:
            raise Invalid(f"context is {context}.", "It must be 1 token or more.")
        return context or min(trained, _CONTEXT)

    def _parallel(self) -> int:
        parallel = self._plan.settings.parallel
        most = int(self._llama.llama_max_parallel_sequences())
        if parallel is not None and not 1 <= parallel <= most:
            raise Invalid(f"parallel is {parallel}.", f"It must be 1 to {most}.")
        return parallel or _PARALLEL

    def _context_params(self) -> Any:
        options = self._options
        params = self._llama.llama_context_default_params()
        threads = options.threads or (1 if self._small() else cores())
        params.n_threads = threads
        params.n_threads_batch = options.threads_batch or threads
        params.flash_attn_type = -1 if options.flash_attention is None else int(options.flash_attention)
        params.rope_freq_base = options.rope_freq_base
        params.rope_freq_scale = options.rope_freq_scale
        params.type_k = CACHE_TYPES[options.cache_type_k]
        params.type_v = CACHE_TYPES[options.cache_type_v]
        params.offload_kqv = options.offload_kqv
        params.swa_full = options.swa_full
        params.no_perf = True
        return params

    def _open_context(self, params: Any) -> None:
        self._context = self._llama.llama_init_from_model(self._model, params)
        if not self._context:
            raise self._fault(f"make a context of {params.n_ctx} tokens")
        self._apply_lora()

    def _apply_lora(self) -> None:
        loras = self._options.lora
        if not loras:
            return
        adapters = (ctypes.c_void_p * len(loras))()
        scales = (ctypes.c_float * len(loras))(*[lora.scale for lora in loras])
        for place, lora in enumerate(loras):
            adapter = self._llama.llama_adapter_lora_init(self._model, lora.path.encode())
            adapters[place] = ctypes.cast(adapter, ctypes.c_void_p).value
            if not adapter:
                raise self._fault(f"load the LoRA adapter {Path(lora.path).name}", Path(lora.path))
        kind = self._llama.llama_set_adapters_lora.argtypes[1]
        if self._llama.llama_set_adapters_lora(self._context, ctypes.cast(adapters, kind), len(loras), scales) != 0:
            raise self._fault("apply the LoRA adapters")

    def _load_text(self) -> LoadedModel:
        parallel, length = self._parallel(), self._request_context()
        params = self._context_params()
        exact = self._exact()
        params.n_seq_max = max(parallel, 2) if exact else parallel
        total = -(-length // 256) * 256 * params.n_seq_max
        if total > _MOST_CELLS:
            raise Invalid(f"a context of {length} for {parallel} requests is {total} tokens.", "Use less of either.")
        params.n_ctx = total
        if exact and self._options.flash_attention is None:
            params.flash_attn_type = 0
        params.n_batch = max(self._options.batch, parallel)
        params.n_ubatch = self._options.ubatch
        params.n_outputs_max = SCORED_ROWS + parallel
        params.kv_unified = False  # each sequence attends to its own memory only: 1.1 to 1.5 times as fast at 8 to 32
        self._open_context(params)
        vocabulary, context = self._wrap(params.n_batch, exact)
        self._warm_up(context, vocabulary)
        projector = self._open_projector(params, context.ubatch)
        chat = ChatForm(vocabulary, self._template(None), self._template(b"tool_use"))
        defaults = self._sampling_defaults()
        loop = Loop(context, parallel, projector, self._options.text_interval)
        self._context = self._model = None  # the loop frees them from here on
        return TextModel(
            loop,
            vocabulary,
            chat,
            context=length,
            parallel=parallel,
            defaults=defaults,
            projector=projector,
            unseeing="it was loaded without a picture projector; put its mmproj GGUF beside it.",
        )

    def _template(self, name: bytes | None) -> str:
        source = self._llama.llama_model_chat_template(self._model, name)
        return source.decode("utf-8", "replace") if source else ""

    def _sampling_defaults(self) -> dict[str, float]:
        """What the file's `general.sampling.*` keys ask for."""
        asked = {name: self._value(f"general.sampling.{key}") for name, key in _SAMPLING_KEYS.items()}
        return {name: float(value) for name, value in asked.items() if value}

    def _load_vectors(self) -> LoadedModel:
        trained = int(self._llama.llama_model_n_ctx_train(self._model))
        length = min(self._request_context(), trained or _CONTEXT)  # positions beyond it may not exist
        params = self._context_params()
        params.embeddings = True
        params.n_ctx = params.n_batch = params.n_ubatch = max(length, self._options.ubatch)
        params.n_seq_max = _EMBEDDED_TOGETHER
        params.kv_unified = True
        params.pooling_type = POOLINGS.get(self._options.pooling, -1)
        self._open_context(params)
        pooling = int(self._llama.llama_pooling_type(self._context))
        if pooling == _NO_POOLING:
            pooling = self._pool_by_mean(params)
        vocabulary, context = self._wrap(params.n_batch)
        ranks = pooling == _RANK_POOLING
        width = int(self._llama.llama_model_n_cls_out(self._model)) if ranks else context.width
        self._warm_up(context, vocabulary)
        template = self._template(b"rerank") if ranks else ""
        self._context = self._model = None  # the model frees them from here on
        return VectorModel(
            VectorLoop(context, width),
            VectorInputs(vocabulary, template),
            context=length,
            width=width,
            parallel=self._parallel(),
            score=_score if ranks else None,
        )

    def _pool_by_mean(self, params: Any) -> int:
        """An encoder whose file says nothing is pooled by mean, as most are; a decoder is not an embedding model."""
        if self._llama.llama_get_memory(self._context):
            raise Unsupported(
                f"{self._plan.model} does not say how its embeddings are pooled.",
                "Load it with the option pooling=mean, cls or last, as its publisher says.",
            )
        self._llama.llama_free(self._context)
        self._context = None
        params.pooling_type = _MEAN_POOLING
        self._open_context(params)
        return _MEAN_POOLING

    def _wrap(self, batch: int, exact: bool = False) -> tuple[Vocabulary, Context]:
        vocabulary = Vocabulary(self._llama, self._model, self._guard)
        context = Context(
            self._llama,
            self._model,
            self._context,
            self._guard,
            batch=batch,
            exact=exact,
            token_bytes=self._token_bytes(),
        )
        return vocabulary, context

    def _token_bytes(self) -> int:
        """Bytes of keys and values of one token, were they half precision."""
        llama, model = self._llama, self._model
        head = self._value(f"{self._value('general.architecture')}.attention.key_length")
        length = int(head) if head else llama.llama_model_n_embd(model) // max(llama.llama_model_n_head(model), 1)
        return int(llama.llama_model_n_layer(model)) * int(llama.llama_model_n_head_kv(model)) * length * 2 * 2

    def _exact(self) -> bool:
        """Whether results must not hang on what else runs; on an accelerator or with recurrent state they may."""
        llama, model = self._llama, self._model
        if self._accelerated or llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model):
            return False
        if self._options.exact is not None:
            return self._options.exact
        return self._small()

    def _small(self) -> bool:
        """Whether threads would wait for each other longer than they compute."""
        return int(self._llama.llama_model_size(self._model)) < _SMALL_MODEL_BYTES

    def _warm_up(self, context: Context, vocabulary: Vocabulary) -> None:
        """Decode one token, so that what crashes crashes here, and the first request is not slow."""
        context.token[0] = max(vocabulary.bos if vocabulary.bos >= 0 else vocabulary.eos, 0)
        context.position[0] = context.sequence[0] = 0
        context.output[0] = 1
        code = context.decode(1)
        context.synchronize()
        context.clear()
        if code:
            raise self._fault(f"decode a first token (code {code})")

    def _open_projector(self, params: Any, ubatch: int) -> Any:
        path = self._projector_path()
        if not path:
            return None
        module = self._projection()
        if module is None:
            raise LoadFailed(
                "the installed llama-cpp-python cannot read pictures (no libmtmd).",
                "Install a build with it, or load with the option mmproj=none.",
            )
        projector = open_projector(
            module,
            path,
            self._model,
            self._context,
            self._guard,
            threads=params.n_threads,
            gpu=self._accelerated,
            ubatch=ubatch,
        )
        if projector is None:
            raise self._fault(f"load the picture projector {Path(path).name}", Path(path))
        return projector

    def _projector_path(self) -> str:
        if self._options.mmproj:
            return "" if self._options.mmproj == "none" else self._options.mmproj
        companions = [name for name in self._plan.match.files if "mmproj" in Path(name).name.lower()]
        return str(Path(self._plan.path) / companions[0]) if companions else ""

    def _fault(self, what: str, *files: Path) -> Fault:
        """*files*: others of which the engine may tell. Requests are told by a file's name, never where it lies."""
        said = self._log.errors()
        for file in (self._path, *files):
            said = said.replace(str(file), file.name)
        if self._log.says_no_memory:
            return OutOfMemory(
                f"llama.cpp could not {what} for lack of memory: {said}",
                "Use a smaller context, fewer parallel requests, or a smaller quantization.",
            )
        return LoadFailed(f"llama.cpp could not {what} ({self._path.name}): {said or 'it gave no reason'}")


def _score(pooled: Floats) -> float:
    """0 to 1: the sigmoid of a single logit; of several outputs the first, which is a probability already."""
    return float(pooled[0]) if len(pooled) > 1 else sigmoid(float(pooled[0]))
