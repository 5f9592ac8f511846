"""One frozen class a task: what a loaded model is asked to do. Request time only; load time is `Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, TypeAlias, get_args

from anyform.contract.facts import fact


@fact
class Text:
    """A part of a message: text."""

    text: str


@fact
class Picture:
    """A part of a message: an encoded picture (PNG, JPEG, ...), as bytes."""

    data: bytes
    media_type: str = ""


@fact
class Sound:
    """A part of a message: an encoded sound file, as bytes."""

    data: bytes
    media_type: str = ""


Part: TypeAlias = Text | Picture | Sound


@fact
class Call:
    """A tool call that the model made earlier in the conversation. `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@fact
class Message:
    """One turn. role: system, user, assistant or tool."""

    role: str
    parts: tuple[Part, ...] = ()
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    """role tool: the call that this answers."""
    name: str = ""
    reasoning: str = ""

    @property
    def text(self) -> str:
        """All text parts joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@fact
class Tool:
    """A function that the model may call. `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False


@fact
class Sampling:
    """How the next token is drawn. None: the model's own default, else the backend's.

    Names and meanings are llama.cpp's, which OpenAI's are a subset of.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None


RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_k": (-1, 2**31 - 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repeat_penalty": (0, 100),
    "repeat_last_n": (-1, 2**31 - 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (-(2**63), 2**64 - 1),
}
"""The least and the greatest value of `Sampling`'s numbers that a request may ask for."""


@fact
class Generation:
    """What every text-generating job has in common."""

    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    """Tokens to generate at the most; None: until the model ends or the context is full."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; never part of it."""
    n: int = 1
    """Independent answers to one prompt; their events carry `index` 0..n-1."""
    logprobs: bool = False
    top_logprobs: int = 0
    """How many alternatives to report for each token, 0..20; needs `logprobs`."""
    grammar: str = ""
    """A GBNF grammar that the answer must follow."""
    schema: Mapping[str, Any] | None = None
    """A JSON schema that the answer must follow; {} means any JSON object."""
    ignore_eos: bool = False
    context: int | None = None
    """Tokens of context this request needs; a loaded model with at least that serves it."""


@fact
class Chat:
    """Answer a conversation. Yields Text, Reasoning, ToolCall; then Done."""

    task: ClassVar[str] = "chat"
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """none, auto, required, or the name of one tool."""
    parallel_calls: bool = True
    thinking: bool | None = None
    """Ask a reasoning model to think or not; None: its template's default."""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    """Extra variables for the chat template."""
    generation: Generation = Generation()


@fact
class Complete:
    """Continue one prompt. Yields Text; then Done."""

    task: ClassVar[str] = "complete"
    prompt: str | tuple[int, ...]
    """Text, or token ids used as they are."""
    suffix: str = ""
    """Text that follows the hole (fill in the middle)."""
    echo: bool = False
    generation: Generation = Generation()


@fact
class Embed:
    """Turn texts, token ids or pictures into vectors. Yields one Vector for each, in any order; then Done."""

    task: ClassVar[str] = "embed"
    inputs: tuple[str | tuple[int, ...] | Picture, ...]
    dimensions: int | None = None
    """Keep the first so many numbers and normalise again."""
    truncate: bool = False
    """Whether an input over the context may be cut; otherwise it is refused."""


@fact
class Rerank:
    """Score documents against a query. Yields one Scores with a score for each document; then Done."""

    task: ClassVar[str] = "rerank"
    query: str
    documents: tuple[str, ...]


@fact
class Classify:
    """Classify texts or pictures. Yields Scores for each input; then Done."""

    task: ClassVar[str] = "classify"
    inputs: tuple[str | Picture, ...]
    top_k: int = 5


@fact
class ZeroShot:
    """Score pictures or texts against labels given in the request. Yields Scores for each; then Done."""

    task: ClassVar[str] = "zero_shot"
    inputs: tuple[str | Picture, ...]
    labels: tuple[str, ...]


@fact
class Caption:
    """Describe a picture. Yields Text; then Done."""

    task: ClassVar[str] = "caption"
    picture: Picture
    max_tokens: int = 50


@fact
class Answer:
    """Answer a question about a picture. Yields Text; then Done."""

    task: ClassVar[str] = "answer"
    picture: Picture
    question: str
    max_tokens: int = 50


@fact
class Image:
    """Make pictures from a prompt. Yields Progress and Blob; then Done. Sizes in pixels.

    First comes Progress(stage="queue", total=ahead), as soon as all is known to be valid and to fit, and again whenever
    fewer jobs are ahead; then Progress(stage="step", done, total) after each step, counted over all n pictures. Of a
    finished picture there is one Blob, whose `extra` has `seed`, `width`, `height`, `steps` and `scheduler`; of one
    that is not finished its `extra` has `partial`, 0, 1, ... Done.extra may have `remarks`, sentences on what was made
    of the request. Metadata.extra may have `width`, `height` (the sizes that it was trained for), `unit` (sides are
    multiples of it), `steps` and `scheduler`.
    """

    task: ClassVar[str] = "image"
    prompt: str
    negative_prompt: str = ""
    n: int = 1
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    quality: str = ""
    """low, medium or high: fewer steps or more than the model's own, where `steps` is None."""
    guidance: float | None = None
    seed: int | None = None
    """Of picture 0; picture i has seed + i, so that each can be made again alone. None: drawn, and told."""
    scheduler: str = ""
    loras: Mapping[str, float] = field(default_factory=dict)
    """Add-ons that the model was loaded with, by name, with the weight of each; others have none."""
    partials: int = 0
    """How many unfinished states of each picture to yield."""
    media_type: str = "image/png"
    compression: int | None = None
    """Of image/jpeg and image/webp: 0 (smallest file) to 100 (best picture)."""


@fact
class EditImage:
    """Change a picture by a prompt; with `mask` only what is transparent in it, or white in one without transparency.

    Without a size the picture's own is kept, as far as the model can. Yields as Image does.
    """

    task: ClassVar[str] = "edit_image"
    pictures: tuple[Picture, ...]
    image: Image
    mask: Picture | None = None
    strength: float | None = None
    """How far from the picture: above 0, to 1, where nothing of it is left. None: the engine's own."""


@fact
class VaryImage:
    """Make variations of a picture. The prompt may be empty. Yields as Image does."""

    task: ClassVar[str] = "vary_image"
    picture: Picture
    image: Image
    strength: float | None = None
    """As in EditImage."""


@fact
class Transcribe:
    """Turn speech into text of the same language. Yields Segment; then Done."""

    task: ClassVar[str] = "transcribe"
    audio: Sound
    language: str = ""
    """ISO 639-1; empty: detected."""
    prompt: str = ""
    temperature: float | None = None
    """None: 0, raised step by step where a text cannot be trusted; a number: that alone."""
    words: bool = False
    vad: bool = False


@fact
class Translate:
    """Turn speech into English text. Yields Segment; then Done."""

    task: ClassVar[str] = "translate"
    audio: Sound
    prompt: str = ""
    temperature: float | None = None
    """As in Transcribe."""


@fact
class Speak:
    """Turn text into speech. Yields Blob of little-endian 16-bit mono PCM; then Done.

    First comes Progress(stage="text", total=sentences), as soon as text, voice and speed are known to be valid; then a
    Blob for each sentence, whose `extra` has `sample_rate`. That of Done has `duration` in seconds, and may have
    `pauses`: what belongs between the parts of a text that several jobs speak, in seconds at speed 1, by what ends
    there (`clause`, `sentence`, `paragraph`). Metadata.extra has `voices`, each with `id`, `name` and `language`.
    """

    task: ClassVar[str] = "speak"
    text: str
    voice: str = ""
    speed: float = 1.0
    language: str = ""


Job: TypeAlias = (
    Chat
    | Complete
    | Embed
    | Rerank
    | Classify
    | ZeroShot
    | Caption
    | Answer
    | Image
    | EditImage
    | VaryImage
    | Transcribe
    | Translate
    | Speak
)
TASKS: tuple[str, ...] = tuple(job.task for job in get_args(Job))
"""What can be asked for."""
