"""Which route is whose."""

from __future__ import annotations

from anyform.contract.hooks import Routes
from anyform.dialect import server
from anyform_lmstudio_api.chat import Chats
from anyform_lmstudio_api.completions import Completions
from anyform_lmstudio_api.download import Downloads
from anyform_lmstudio_api.form import V0, V1
from anyform_lmstudio_api.listing import Listing
from anyform_lmstudio_api.loading import Loading


def add(routes: Routes) -> None:
    """All of them."""
    here = server(routes)
    here.speak(V0)
    here.speak(V1)
    listing, completions, loading, downloads = Listing(here), Completions(here), Loading(here), Downloads(here)
    for method, path, endpoint in (
        ("GET", "/api/v0/models", listing.all_v0),
        ("GET", "/api/v0/models/{model:path}", listing.one_v0),
        ("POST", "/api/v0/chat/completions", completions.chat),
        ("POST", "/api/v0/completions", completions.complete),
        ("POST", "/api/v0/embeddings", completions.embed),
        ("GET", "/api/v1/models", listing.all_v1),
        ("POST", "/api/v1/models/load", loading.load),
        ("POST", "/api/v1/models/unload", loading.unload),
        ("POST", "/api/v1/models/download", downloads.start),
        ("GET", "/api/v1/models/download/status", downloads.all),
        ("GET", "/api/v1/models/download/status/{job_id}", downloads.one),
        ("POST", "/api/v1/chat", Chats(here).chat),
    ):
        routes.add_api_route(path, endpoint, methods=[method], response_model=None)
        if method == "GET":
            routes.add_api_route(path, endpoint, methods=["HEAD"], response_model=None, include_in_schema=False)
