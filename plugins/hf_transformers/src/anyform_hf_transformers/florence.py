"""Florence-2: an encoder reads a picture and a task or a question, and a decoder writes the answer.

Xiao et al. 2023, Florence-2 (arXiv 2311.06242). A task is a prompt such as <CAPTION> or <OD>; places in the picture
are answered as <loc_0> to <loc_999>, thousandths of its width and height.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Invalid, LoadFailed, Unsupported
from anyform.contract.jobs import Answer, Caption, Chat, Generation, Job, Sampling
from anyform.contract.model import LoadedModel, Stop
from anyform.text.defaults import sampling
from anyform.text.prompt import ChatForm, Prompt, pictures
from anyform.text.reading import Loop as Reads
from anyform.text.reading import Request
from anyform.text.sampling import Floats
from anyform.text.textmodel import TextModel
from anyform.text.ticket import Constraint
from anyform.text.words import Words
from anyform_hf_transformers import processor, textloading
from anyform_hf_transformers.backend import torch, transformers
from anyform_hf_transformers.generation import close
from anyform_hf_transformers.projector import Projector, Sight
from anyform_hf_transformers.quantizer import precision
from anyform_hf_transformers.repetition import NoRepeat
from anyform_hf_transformers.sight import SightLoop, plain

if TYPE_CHECKING:
    from anyform.text.slot import Media
    from anyform_hf_transformers.loading import Loading

CAPTION = "<CAPTION>"
_PROBE = (5, 7)
_NAMELESS = ("<s>", "</s>", "<pad>", "<unk>", "<mask>")
"""Control tokens that say nothing of the picture."""


class TaskProjector(Projector):
    """Turns a task and one picture into what the encoder reads."""

    def _check(self, text: str, count: int) -> None:
        if count != 1:
            raise Invalid(f"the request has {count} pictures.", "This model answers about one picture.")
        if self.mark in text:
            raise Invalid(f"the text has {self.mark}, which stands for a picture.", "Leave it out.")

    def _open(self, ids: list[int]) -> list[int]:
        return ids


class TaskDecoder:
    """A Decoder whose prompts an encoder reads in one go, and whose answers begin behind tokens of their own."""

    batched = together = False
    entire = True
    fewest = 1

    def __init__(self, model: Any, device: str, slots: int, *, token: int, opening: Sequence[int]) -> None:
        """*token*: the id of what stands for a piece of a picture. *opening*: what each answer is written behind."""
        self.slots = slots
        self.shifts = [0] * slots
        self._model = model
        self._device = device
        self._token = token
        self._opening = list(opening)
        self._kept: list[tuple[tuple[int, ...], Any, Any] | None] = [None] * slots
        """For each slot its prompt, what the encoder made of it, and the decoder's cache."""

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool, sight: Sight | None = None) -> Floats:
        with torch.inference_mode():
            prompt = tuple(tokens)
            encoded = next((kept[1] for kept in self._kept if kept and kept[0] == prompt), None)
            given = self._given(tokens, sight) if encoded is None else {"encoder_outputs": encoded}
            return self._decode(slot, prompt, self._opening, given)

    def whole(self, tokens: Sequence[int], sight: Sight, written: Sequence[int]) -> Any:
        """The logits of the token behind the opening and behind each of *written*, computed without any cache."""
        with torch.inference_mode():
            ids = torch.tensor([[*self._opening, *written]], device=self._device)
            out = self._model(decoder_input_ids=ids, use_cache=False, **self._given(tokens, sight))
            return out.logits[0, -len(written) - 1 :].float().cpu()

    def _given(self, tokens: Sequence[int], sight: Sight | None) -> dict[str, Any]:
        ids = torch.tensor([plain(tokens, self._token)], device=self._device)
        seen = sight.given(0, len(tokens), self._device, self._model.dtype) if sight else {}
        return {"input_ids": ids, **seen}

    def read_all(self, slots: Sequence[int], starts: Sequence[int], prompts: Sequence[Sequence[int]]) -> Floats:
        raise NotImplementedError

    def step(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        with torch.inference_mode():
            rows = [self._go_on(slot, token) for slot, token in zip(slots, tokens, strict=True)]
            found: Floats = torch.cat([torch.as_tensor(row) for row in rows]).numpy()
            return found

    def _go_on(self, slot: int, token: int) -> Floats:
        kept = self._kept[slot]
        if kept is None:
            raise IndexError(f"slot {slot} has read no prompt")
        prompt, encoded, cache = kept
        return self._decode(slot, prompt, [token], {"encoder_outputs": encoded, "past_key_values": cache})

    def _decode(self, slot: int, prompt: tuple[int, ...], written: Sequence[int], given: dict[str, Any]) -> Floats:
        ids = torch.tensor([list(written)], device=self._device)
        out = self._model(decoder_input_ids=ids, use_cache=True, **given)
        encoded = given.get("encoder_outputs")
        if encoded is None:
            encoded = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=out.encoder_last_hidden_state)
        self._kept[slot] = (prompt, encoded, out.past_key_values)
        found: Floats = out.logits[0, -1:].float().cpu().numpy()
        return found

    def copy(self, source: int, target: int, count: int) -> None:
        raise NotImplementedError("answers of an encoder-decoder share no prefix")

    def free(self) -> None:
        self._kept.clear()
        self._model = None
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()


class TaskModel(TextModel):
    """What `load` gives: captions, answers, and chats of one message, which is the task or the question."""

    def __init__(
        self,
        loop: Reads,
        words: Words,
        *,
        projector: TaskProjector,
        opening: Sequence[int],
        no_repeat: int,
        **given: Any,
    ) -> None:
        """*opening*: as for TaskDecoder. *no_repeat*: tokens of a run that may not come twice; 0: any may."""
        super().__init__(loop, words, ChatForm(words, ""), projector=projector, **given)
        self._opening = opening
        self._no_repeat = no_repeat
        silent = words.ids_of(_NAMELESS) | words.ends
        self._visible = frozenset(id for id in range(words.size) if words.is_control(id) and id not in silent)

    def _prepare(self, job: Job, stop: Stop) -> Request:
        if isinstance(job, Chat):
            return self._request(_asked(job), pictures(job), job.generation, stop)
        if isinstance(job, Caption | Answer):
            text = CAPTION if isinstance(job, Caption) else job.question
            generation = Generation(max_tokens=job.max_tokens, sampling=Sampling(temperature=0.0))
            return self._request(text, [job.picture.data], generation, stop)
        raise Unsupported(
            f"this model answers about pictures; it does not do the task {job.task}.",
            "Ask for caption or answer, or use a model that lists the task (`anyform list`).",
        )

    def _request(self, text: str, images: Sequence[bytes], generation: Generation, stop: Stop) -> Request:
        tokens, media = self._projector.tokenize(text, images)
        ticket = self._ticket(Prompt(tokens, text, media), generation, stop, lambda _: self._bound(generation))
        return Request(ticket, stops=generation.stop, visible=self._visible)

    def _bound(self, generation: Generation) -> Constraint | None:
        asked = self._constraints.for_generation(generation)
        return NoRepeat(self._no_repeat, self._opening, asked) if self._no_repeat else asked


def _asked(job: Chat) -> str:
    """The text of the only message. Raises Unsupported."""
    if len(job.messages) != 1 or job.messages[0].role != "user":
        said = ", ".join(message.role for message in job.messages)
        raise Unsupported(
            f"this model answers one message about one picture; the conversation has {len(job.messages)} ({said}).",
            f"Send one user message: a picture and a task such as {CAPTION}, or a question.",
        )
    if job.tools and job.tool_choice != "none":
        raise Unsupported("this model calls no tools.", "Send none.")
    return job.messages[0].text.strip() or CAPTION


def load(loading: Loading) -> LoadedModel:
    """The model, tried on a picture. Raises LoadFailed, OutOfMemory."""
    parallel = loading.parallel
    made = processor.read(loading)
    model = loading.read(transformers.AutoModelForImageTextToText)
    words = textloading.vocabulary(loading, model)
    projector = TaskProjector(made, model, words, None, loading.options.max_pixels)
    written = opening(model)
    decoder = TaskDecoder(model, loading.device, parallel, token=projector.token, opening=written)
    check(decoder, model, projector.tokenize(CAPTION, [processor.sample()]))
    return TaskModel(
        SightLoop(decoder, parallel, loading.options.batch, loading.options.text_interval, projector),
        words,
        context=loading.context,
        parallel=parallel,
        defaults=sampling(loading.plan.metadata.extra),
        projector=projector,
        opening=written,
        no_repeat=model.generation_config.no_repeat_ngram_size or 0,
    )


def opening(model: Any) -> list[int]:
    """What generate() writes an answer behind: the decoder's first token, and one that is forced. Raises LoadFailed."""
    asked, text = model.generation_config, model.config.get_text_config()
    starts = (asked.decoder_start_token_id, getattr(text, "decoder_start_token_id", None), asked.bos_token_id)
    first = next((token for token in starts if token is not None), None)
    if first is None:
        raise LoadFailed("the configuration names no decoder_start_token_id.", "Get the model again.")
    forced = asked.forced_bos_token_id
    return [first] if forced is None else [first, forced]


def check(decoder: TaskDecoder, model: Any, probe: tuple[list[int], tuple[Media, ...]]) -> None:
    """Try *probe*, a task with a picture, and two steps. Raises LoadFailed where they are not what the model gives."""
    tokens, media = probe
    rows = [*decoder.read(0, 0, tokens, every=False, sight=media[0].chunk)]
    rows += [decoder.step([0], [token], [len(tokens)])[0] for token in _PROBE]
    expected = decoder.whole(tokens, media[0].chunk, _PROBE)
    if not torch.isfinite(expected).all():
        raise LoadFailed("the model computes numbers that are not finite.", "Get it again, or use dtype=float32.")
    if not close(torch.stack([torch.as_tensor(row) for row in rows]), expected, precision(model)):
        raise LoadFailed(
            "the model gives other numbers with its cache than without.", "It cannot be run token by token."
        )
