"""The toolkit of HTTP dialects: what a plugin that speaks another server's protocol may import beside the contract.

A dialect hangs its routes in `add_routes(routes, runtime)`:

    here = server(routes)            # what this application shares
    here.speak(DIALECT)              # in which form its paths are refused
    routes.add_api_route("/api/chat", chat, methods=["POST"], response_model=None)

and each endpoint reads the request into an `Ask`, whose writer turns events into that protocol's bytes; queue, loading,
cancelling, refusals and limits are the server's.
"""

from anyform.contract.events import Done, Event, Progress, Reasoning, Text, ToolCall, Usage, Vector
from anyform.dialect.server import NDJSON, Server, server
from anyform.dialect.table import Field, Resource
from anyform.http.chat import read as read_chat
from anyform.http.chat import template as read_template
from anyform.http.completion import read as read_completion
from anyform.http.default import completed
from anyform.http.dialect import Dialect
from anyform.http.embedding import floats
from anyform.http.embedding import read as read_embedding
from anyform.http.fault import UnknownRoute
from anyform.http.fault import headers as headers_of
from anyform.http.fault import status as status_of
from anyform.http.fields import (
    Fields,
    Missing,
    NotSupported,
    Written,
    WrongType,
    WrongValue,
    mistyped,
    wrong,
)
from anyform.http.generation import read as read_generation
from anyform.http.media import Media
from anyform.http.message import tool_choice as read_tool_choice
from anyform.http.message import tools as read_tools
from anyform.http.opening import begun
from anyform.http.reply import JSON, SSE, Ask, Course, Head, Writer, dumps, finish, logprob, remarks
from anyform.http.responseinput import conversation as read_items
from anyform.http.responsereply import Whole as WholeResponse
from anyform.http.responsereply import Wish
from anyform.http.responsestore import Link, Store
from anyform.http.service import LISTED, Body
from anyform.http.shorten import shortened
from anyform.kernel.entry import Entry
from anyform.kernel.residence import Resident
from anyform.kernel.rule import Rule
from anyform.kernel.runtime import Runtime, Use
from anyform.sources.derived import Derived
from anyform.sources.hubmeter import PullState
from anyform.sources.hubpulls import Running
from anyform.sources.recipe import Recipe

__all__ = [
    "Ask",
    "Body",
    "Course",
    "Derived",
    "Dialect",
    "Done",
    "Entry",
    "Event",
    "Field",
    "Fields",
    "Head",
    "JSON",
    "LISTED",
    "Link",
    "Media",
    "Missing",
    "NDJSON",
    "NotSupported",
    "Progress",
    "PullState",
    "Reasoning",
    "Recipe",
    "Resident",
    "Resource",
    "Rule",
    "Running",
    "Runtime",
    "SSE",
    "Server",
    "Store",
    "Text",
    "ToolCall",
    "UnknownRoute",
    "Usage",
    "Use",
    "Vector",
    "WholeResponse",
    "Wish",
    "Writer",
    "Written",
    "WrongType",
    "WrongValue",
    "begun",
    "completed",
    "dumps",
    "finish",
    "floats",
    "headers_of",
    "logprob",
    "mistyped",
    "read_chat",
    "read_completion",
    "read_embedding",
    "read_generation",
    "read_items",
    "read_template",
    "read_tool_choice",
    "read_tools",
    "remarks",
    "server",
    "shortened",
    "status_of",
    "wrong",
]
