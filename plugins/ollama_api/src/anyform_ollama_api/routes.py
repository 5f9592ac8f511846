"""Which route is whose."""

from __future__ import annotations

from anyform.contract.hooks import Routes
from anyform.dialect import server
from anyform_ollama_api.blob import Blob
from anyform_ollama_api.copying import Copying
from anyform_ollama_api.create import Create
from anyform_ollama_api.deletion import Deletion
from anyform_ollama_api.form import DIALECT
from anyform_ollama_api.job import Jobs
from anyform_ollama_api.ps import Ps
from anyform_ollama_api.pull import Pull
from anyform_ollama_api.push import Push
from anyform_ollama_api.root import Root
from anyform_ollama_api.show import Show
from anyform_ollama_api.tags import Tags


def add(routes: Routes) -> None:
    """All of them."""
    here = server(routes)
    here.speak(DIALECT)
    root, jobs, blob, tags, ps = Root(), Jobs(here), Blob(here), Tags(here), Ps(here)
    for method, path, endpoint in (
        ("GET", "/", root.running),
        ("HEAD", "/", root.running),
        ("GET", "/api/version", root.version),
        ("HEAD", "/api/version", root.version),
        ("GET", "/api/tags", tags.all),
        ("HEAD", "/api/tags", tags.all),
        ("GET", "/api/ps", ps.all),
        ("HEAD", "/api/ps", ps.all),
        ("POST", "/api/show", Show(here).one),
        ("POST", "/api/pull", Pull(here).pull),
        ("POST", "/api/push", Push(here).push),
        ("POST", "/api/create", Create(here).create),
        ("POST", "/api/copy", Copying(here).copy),
        ("DELETE", "/api/delete", Deletion(here).delete),
        ("HEAD", "/api/blobs/{digest}", blob.known),
        ("POST", "/api/blobs/{digest}", blob.upload),
        ("POST", "/api/chat", jobs.chat),
        ("POST", "/api/generate", jobs.generate),
        ("POST", "/api/embed", jobs.embed),
        ("POST", "/api/embeddings", jobs.embeddings),
    ):
        routes.add_api_route(path, endpoint, methods=[method], response_model=None)
