"""What OpenAI's resources for sounds and pictures, those beside them, and the lists make of each field of a request."""

from __future__ import annotations

from anyform.dialect.field import heeded, ignored, refused
from anyform.dialect.table import Field, Resource

_MODEL = heeded(
    "model", "a name of `GET /v1/models`; the only one that can do it, where nothing is said", wrong="no such"
)
_NAMED = heeded("model", "a name of `GET /v1/models`", wrong="no such")
_KEEP = heeded("keep_alive", "how long the model stays afterwards; not OpenAI's", "5m", "soon")
_STREAM = heeded("stream", "", True, 5)
_COUNTED = heeded("stream_options.include_usage", "", True, 5, stream=True)
_SAID = "b25lIHR3bw=="
"""What an echo hears: text, in base64."""
_SEEN = "data:image/png;base64,{picture}"
_PICTURE = "a `data:` URL, base64, a file of a form, or an object with one"
_SHARED = "the scores of each input are shared among all labels"


def _labels() -> tuple[Field, ...]:
    names = ("labels", "candidate_labels", "texts")
    return tuple(heeded(name, "" if name == "labels" else "`labels`", ["a", "b"], []) for name in names)


_TOP = heeded("top_k", "the best so many", 2, 0)
_ZERO = (
    refused("multi_label", _SHARED, True),
    refused("hypothesis_template", "the model's own sentence is used", "A picture of {}."),
)
_CLASSIFY = Resource(
    method="POST",
    path="/v1/classify",
    about="Scores texts or pictures by the labels that the model knows, or by the request's own. Not OpenAI's.",
    body=(("model", "{classify}"), ("input", "one two")),
    fields=(_NAMED, heeded("input", f"texts, or {_PICTURE}", ["a", {"image": _SEEN}], []), *_labels(), _TOP, _KEEP),
)
_VISION = Resource(
    method="POST",
    path="/v1/vision/classify",
    about="Scores pictures by the labels that the model knows. Not OpenAI's.",
    body=(("model", "{classify}"), ("images", [_SEEN])),
    fields=(
        _NAMED,
        heeded("images", _PICTURE, [{"url": _SEEN}], []),
        heeded("image", "`images`", _SEEN, [], images=None),
        heeded("input", "`images`", _SEEN, [], images=None),
        _TOP,
        _KEEP,
    ),
)
_CLIP = Resource(
    method="POST",
    path="/v1/vision/clip",
    about="Scores pictures by the request's own labels. Not OpenAI's.",
    body=(("model", "{classify}"), ("images", [_SEEN]), ("labels", ["a", "b"])),
    fields=(
        _NAMED,
        heeded("images", _PICTURE, [{"url": _SEEN}], []),
        heeded("image", "`images`", _SEEN, [], images=None),
        heeded("input", "`images`", _SEEN, [], images=None),
        heeded("labels", "1,000 at the most", ["c"], []),
        heeded("candidate_labels", "`labels`", ["c"], [], labels=None),
        heeded("texts", "`labels`", ["c"], [], labels=None),
        _TOP,
        *_ZERO,
        _KEEP,
    ),
)
_LONGEST = tuple(
    heeded(name, note, 5, 0)
    for name, note in (
        ("max_tokens", "50 where nothing is said"),
        ("max_completion_tokens", "`max_tokens`"),
        ("max_new_tokens", "`max_tokens`"),
        ("max_length", "`max_tokens`"),
    )
)
_ONE = (
    heeded("image", f"one: {_PICTURE}", {"url": _SEEN}, []),
    heeded("images", "`image`", [_SEEN], [], image=None),
    heeded("image_url", "`image`", _SEEN, [], image=None),
)
_CAPTION = Resource(
    method="POST",
    path="/v1/multimodal/caption",
    about="Says what is on a picture. Not OpenAI's.",
    body=(("model", "{caption}"), ("image", _SEEN)),
    fields=(
        _NAMED,
        *_ONE,
        *_LONGEST,
        refused("prompt", "a caption follows none; ask a question at `/v1/multimodal/vqa`", "a picture of"),
        _STREAM,
        _COUNTED,
        _KEEP,
    ),
)
_QUESTION = Resource(
    method="POST",
    path="/v1/multimodal/vqa",
    about="Answers a question about a picture. Not OpenAI's.",
    body=(("model", "{answer}"), ("image", _SEEN), ("question", "what")),
    fields=(_NAMED, *_ONE, heeded("question", "", "who", ""), *_LONGEST, _STREAM, _COUNTED, _KEEP),
)
_HEARD = (
    _MODEL,
    heeded("file", "a file of a form, or base64", wrong=5),
    heeded("response_format", "`json`, `text`, `srt`, `vtt`, `verbose_json`", "vtt", "xml"),
    heeded("prompt", "", "one", 5),
    heeded("temperature", "0 to 1; 0: raised where a text cannot be trusted", 0.5, 2),
    _STREAM,
    *(
        refused(name + form, note, "a")
        for name, note in (
            ("include", "leave it out"),
            ("known_speaker_names", "speakers are not told apart"),
            ("known_speaker_references", "speakers are not told apart"),
            ("keywords", "write them into `prompt`"),
            ("languages", "give one as `language`"),
        )
        for form in ("", "[]")
    ),
    _KEEP,
)
_TRANSCRIPTION = Resource(
    method="POST",
    path="/v1/audio/transcriptions",
    about="Speech as text, as a form or JSON; whole, or streamed as events.",
    body=(("model", "{hear}"), ("file", _SAID)),
    fields=(
        *_HEARD,
        heeded("language", "", "en", 5),
        heeded("timestamp_granularities", "", ["word"], ["letter"], response_format="verbose_json"),
        heeded("timestamp_granularities[]", "the same, in a form", "word", "letter", response_format="verbose_json"),
        heeded("vad_filter", "leaves out what is no speech; not OpenAI's", True, 5),
        heeded("chunking_strategy", "`auto`, or an object of the type `server_vad`", "auto", "never"),
    ),
)
_TRANSLATION = Resource(
    method="POST",
    path="/v1/audio/translations",
    about="Speech as English text, as a form or JSON.",
    body=(("model", "{hear}"), ("file", _SAID)),
    fields=(
        *_HEARD,
        heeded("timestamp_granularities", "`segment` alone", ["segment"], ["word"], response_format="verbose_json"),
        heeded("timestamp_granularities[]", "the same, in a form", "segment", "word", response_format="verbose_json"),
        refused("vad_filter", "translations know no detector of voices", True),
        ignored("chunking_strategy", "`auto`; translations know no detector of voices", "auto", {"type": "server_vad"}),
    ),
)
_SPEECH = Resource(
    method="POST",
    path="/v1/audio/speech",
    about="Text as speech: a sound file that comes as it is made, a whole one, or events.",
    body=(("model", "{speak}"), ("input", "One two.")),
    fields=(
        _MODEL,
        heeded("input", "at most `speech_letters`", "Three.", ""),
        heeded("voice", "a name, or an object with an `id`; the model's first where nothing is said", wrong="nobody"),
        heeded("language", "not OpenAI's", wrong=5),
        heeded("speed", "what the model can", 1.0, 0),
        heeded("response_format", "`mp3`, `opus`, `aac`, `flac`, `wav`, `pcm`", "pcm", "midi"),
        heeded("sample_rate", "not OpenAI's", 24000, 5, response_format="pcm"),
        heeded("stream_format", "`audio` or `sse`", "sse", "xml", response_format="pcm"),
        heeded("stream", "false: a whole file; true: events; not OpenAI's", True, 5, response_format="pcm"),
        refused("instructions", "no model here follows any: choose a voice and a speed", "whisper"),
        _KEEP,
    ),
)
_PAINTED = (
    _MODEL,
    heeded("n", "1 to 10", 2, 11),
    heeded("size", "`WxH` or `auto`", "64x64", "large"),
    heeded("width", "with `height`; not OpenAI's", 64, 0, height=64),
    heeded("height", "with `width`; not OpenAI's", 64, 0, width=64),
    heeded("quality", "`low`, `medium`, `high`, `hd`, `standard`, `auto`", "low", "best"),
    heeded("num_inference_steps", "not OpenAI's", 2, 0),
    heeded("steps", "`num_inference_steps`", 2, 0),
    heeded("guidance_scale", "not OpenAI's", 3.5, 101),
    heeded("guidance", "`guidance_scale`", 3.5, 101),
    heeded("seed", "-1: drawn; not OpenAI's", 7, -2),
    heeded("negative_prompt", "not OpenAI's", "blurry", 5),
    heeded("scheduler", "not OpenAI's", wrong=5),
    heeded("loras", "by name, with their weights; not OpenAI's", wrong=5),
    heeded("output_format", "`png`, `jpeg`, `webp`", "png", "gif"),
    heeded("output_compression", "of jpeg and webp, 0 to 100", wrong=101),
    heeded("background", "`opaque` and `auto`", "opaque", "transparent"),
    heeded("partial_images", "unfinished states, 0 to 3, in a stream", 1, 4, stream=True),
    heeded("response_format", "`b64_json` or `url`", "b64_json", "file"),
    _STREAM,
    ignored("moderation", "nothing here moderates", "low", 5),
    ignored("user", "nothing here is told apart by it", "someone", 5),
    ignored("safety_identifier", "nothing here is told apart by it", "someone", 5),
    refused("style", "say it in the prompt", "vivid"),
    refused("input_fidelity", "set `strength`", "high"),
    refused("complexity", "set `num_inference_steps` or `quality`", "high"),
    refused("frame_count", "no films are made", 2),
    refused("frame_duration_ms", "no films are made", 40),
    refused("markup", "draw a mask, or paint on the picture itself", "<svg/>"),
    refused("svg", "ask for png, jpeg or webp", {"a": 1}),
    *(
        refused(name, f"other programs mean `{meant}`", 1)
        for name, meant in (
            ("batch_size", "n"),
            ("cfg", "guidance_scale"),
            ("cfg_scale", "guidance_scale"),
            ("denoising_strength", "strength"),
            ("init_image", "image"),
            ("mask_image", "mask"),
            ("negative", "negative_prompt"),
            ("num_images_per_prompt", "n"),
            ("sampler", "scheduler"),
            ("sampler_name", "scheduler"),
        )
    ),
    _KEEP,
)
_PROMPT = heeded("prompt", "at most 32,000 letters", "a cat", 5)
_STRENGTH = heeded("strength", "how far from the picture: above 0, to 1; not OpenAI's", 0.5, 2)
_ELSEWHERE = "send pictures to `/v1/images/edits` or `/v1/images/variations`"
_GENERATION = Resource(
    method="POST",
    path="/v1/images/generations",
    about="Pictures from words, whole or streamed with their steps.",
    body=(("model", "{paint}"), ("prompt", "a dog")),
    fields=(
        _PROMPT,
        *_PAINTED,
        *(refused(name, _ELSEWHERE, _SEEN) for name in ("image", "images", "image_url", "mask")),
    ),
)
_FROM = (
    heeded("image", _PICTURE, {"url": _SEEN}, []),
    heeded("images", "`image`", [_SEEN], [], image=None),
    heeded("image_url", "`image`", _SEEN, [], image=None),
    _STRENGTH,
)
_EDIT = Resource(
    method="POST",
    path="/v1/images/edits",
    about="A picture changed by a prompt, all of it or what a mask says; JSON or a form.",
    body=(("model", "{paint}"), ("prompt", "a dog"), ("image", _SEEN)),
    fields=(_PROMPT, *_FROM, heeded("mask", _PICTURE, wrong=5), *_PAINTED),
)
_VARIATION = Resource(
    method="POST",
    path="/v1/images/variations",
    about="Pictures like another; JSON or a form.",
    body=(("model", "{paint}"), ("image", _SEEN)),
    fields=(
        heeded("prompt", "not OpenAI's", "a cat", 5),
        *_FROM,
        refused("mask", "send it to `/v1/images/edits`", _SEEN),
        *_PAINTED,
    ),
)
RESOURCES: tuple[Resource, ...] = (
    _CLASSIFY,
    _VISION,
    _CLIP,
    _CAPTION,
    _QUESTION,
    _TRANSCRIPTION,
    _TRANSLATION,
    _SPEECH,
    _GENERATION,
    _EDIT,
    _VARIATION,
    Resource(method="GET", path="/v1/models", about="What is served."),
    Resource(
        method="GET",
        path="/v1/models/{id}",
        at="/v1/models/{chat}",
        about="One of them; names may contain `/` and `:`.",
    ),
    Resource(
        method="GET",
        path="/v1/audio/voices",
        about="The voices of all models that speak; `language`, such as `en` or `en-GB`, narrows them. Not OpenAI's.",
        fields=(heeded("?model", "of that one alone", "{speak}", "{chat}"),),
    ),
)
