"""What becomes of each field of the requests about models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from anyform.dialect import Field, Resource
from anyform_ollama_api.options import OPTIONS

BLOB = b"a file of a model"
BLOB_DIGEST = f"sha256:{'0' * 64}"
MADE = "made-by-the-table"
MAKE: tuple[tuple[str, Any], ...] = (("model", MADE), ("from", "{chat}"), ("stream", False))
MAKING = ("POST", "/api/create", MAKE)
NOTES = {"num_ctx": "At the most what the model that it is made from was trained for."}
"""Of its parameters."""

NAME = Field(
    name="name",
    treatment="heeded",
    note="The older name of `model`.",
    example="{chat}",
    wrong=3,
    beside=(("model", None),),
)
MODEL = Field(
    name="model", treatment="heeded", note="Any name of it; `:latest` may be left out.", example="{chat}", wrong=3
)
INSECURE = Field(name="insecure", treatment="ignored", note="The hub is asked as the settings say.", example=True)
STREAM = Field(name="stream", treatment="heeded", note="True where it is left out.", example=False, wrong="yes")

SHOW = Resource(
    method="POST",
    path="/api/show",
    about="All that there is to say of one model. `tensors` and lists of tokens are left out; FROM names no path.",
    body=(("model", "{chat}"),),
    fields=(
        MODEL,
        NAME,
        Field(
            name="verbose",
            treatment="ignored",
            note="What it would add are lists of tokens.",
            example=True,
            wrong="yes",
        ),
        Field(name="system", treatment="heeded", note="Shown in the place of the model's.", example="Hi.", wrong=3),
        Field(
            name="template",
            treatment="heeded",
            note="Shown in the place of the model's.",
            example="{{ .Prompt }}",
            wrong=3,
        ),
        Field(
            name="options",
            treatment="heeded",
            note="Shown over the model's parameters.",
            example={"top_k": 5},
            wrong=3,
        ),
    ),
)

CREATE = Resource(
    method="POST",
    path="/api/create",
    about="A model made of another one, or of uploads. It is one of all the others, in every dialect.",
    body=MAKE,
    fields=(
        Field(name="model", treatment="heeded", note="A name that no other model has.", example=MADE, wrong="../made"),
        replace(NAME, example=MADE),
        Field(
            name="from",
            treatment="heeded",
            note="A model; one of the hub is pulled first. No path.",
            example="{chat}",
            wrong=3,
        ),
        Field(
            name="files",
            treatment="heeded",
            note="Relative names, each with the digest of an upload. Passed over beside `from`, as Ollama does.",
            example={"model.gguf": BLOB_DIGEST},
            wrong={"../model.gguf": BLOB_DIGEST},
        ),
        Field(
            name="adapters",
            treatment="heeded",
            note="Likewise; where llama.cpp runs the model.",
            example={},
            wrong={"../a.gguf": BLOB_DIGEST},
        ),
        Field(name="system", treatment="heeded", example="Be brief.", wrong=3),
        Field(
            name="template",
            treatment="heeded",
            note="Go's language; every backend is given the same in Jinja.",
            example="{{ range .Messages }}{{ .Content }}{{ end }}",
            wrong="{{ .Prompt",
        ),
        Field(name="license", treatment="heeded", note="A text, or several.", example=["MIT"], wrong=3),
        Field(name="parameters", treatment="heeded", note="See below.", example={"top_k": 5}, wrong=3),
        Field(
            name="messages",
            treatment="heeded",
            note="`role` and `content`; pictures and calls are refused.",
            example=[{"role": "user", "content": "Hi"}],
            wrong=[{"role": "nobody", "content": "Hi"}],
        ),
        Field(
            name="quantize",
            treatment="refused",
            note="But for a model that is so already, or a GGUF of one file in F32, F16 or BF16; llama.cpp does it.",
            example="Q4_K_M",
            wrong="Q9_9",
        ),
        Field(
            name="modelfile",
            treatment="heeded",
            note="A Modelfile, as older clients send it; fields beside it go over what it says.",
            example="FROM {chat}\nSYSTEM Hi.",
            wrong="NOTHING x",
        ),
        Field(name="path", treatment="refused", note="No path of a request is read.", example="/x", wrong="/x"),
        STREAM,
        *(
            Field(
                name=f"parameters.{option.name}",
                treatment="heeded" if option.heeded else "ignored",
                note=NOTES.get(option.name, "") if option.heeded else "It is shown.",
                example=option.example,
                wrong=option.wrong if option.name != "stop" else 3,
            )
            for option in OPTIONS
        ),
    ),
)

RESOURCES = (
    Resource(method="GET", path="/api/tags", about="All models, whatever they do, the newest first."),
    Resource(
        method="GET",
        path="/api/ps",
        about="What is loaded. `expires_at` of a model that stays, or works, is far; `size_vram` as it was estimated.",
    ),
    SHOW,
    Resource(
        method="POST",
        path="/api/pull",
        about=(
            "Fetch a model from the Hugging Face hub: `hf.co/owner/repo:Q4_K_M`, `owner/repo`. Names of Ollama's own"
            " library are refused, with the hub's where one is known. All files are told of as one, whose digest is"
            " that of the name. A stream that nobody reads any more ends the pull, and what has come is kept."
        ),
        body=(("model", "{chat}"),),
        fields=(MODEL, NAME, INSECURE, STREAM),
    ),
    Resource(
        method="POST",
        path="/api/push",
        about="Refused: there is nowhere to publish to.",
        body=(("model", "{chat}"),),
        status=501,
        fields=(
            replace(MODEL, note="That it is here is seen first."),
            NAME,
            Field(name="insecure", treatment="ignored", example=True),
            Field(name="stream", treatment="ignored", example=False, wrong="yes"),
        ),
    ),
    CREATE,
    Resource(
        method="POST",
        path="/api/copy",
        about="A model under another name too.",
        body=(("source", "{chat}"), ("destination", MADE)),
        fields=(
            Field(name="source", treatment="heeded", example="{chat}", wrong="../a"),
            Field(name="destination", treatment="heeded", example=MADE, wrong="../a"),
        ),
    ),
    Resource(
        method="DELETE",
        path="/api/delete",
        about="Forget a model that was made or pulled here; files that others put there are theirs.",
        before=(MAKING,),
        body=(("model", MADE),),
        fields=(
            Field(name="model", treatment="heeded", example=MADE, wrong=3),
            replace(NAME, example=MADE),
        ),
    ),
    Resource(
        method="POST",
        path="/api/blobs/{digest}",
        about="Upload a file for /api/create. It is kept for a day unless a model is made of it.",
        at="/api/blobs/sha256:{digest}",
        raw=BLOB,
    ),
    Resource(
        method="HEAD",
        path="/api/blobs/{digest}",
        about="Whether it is here.",
        at=f"/api/blobs/{BLOB_DIGEST}",
        status=404,
    ),
    Resource(method="GET", path="/api/version", about="The version of Ollama's that this is like: a bare number."),
    Resource(method="GET", path="/", about="That it runs."),
)
