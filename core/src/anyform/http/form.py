"""Bodies of multipart/form-data (RFC 7578) as the mapping that JSON would be: text as Written, files as Upload."""

from __future__ import annotations

from typing import Any, NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from anyform.contract.errors import Invalid
from anyform.http.fields import Upload, Written

KIND = "multipart/form-data"
PARTS = 4096
HEADER_BYTES = 8192
"""One line of a part's head."""
PLAIN = ("", "7bit", "8bit", "binary")


class NotForm(Invalid):
    """A body that is not the form that its Content-Type says."""

    code = "invalid_form"


def is_form(content_type: str) -> bool:
    """Whether a body of that Content-Type is a form."""
    return content_type.partition(";")[0].strip().lower() == KIND


def parse(data: bytes, content_type: str) -> dict[str, Any]:
    """The fields of the form in *data*. `a[]`, and a name that comes again, is a list under `a`; all else is one value.

    Names and text are UTF-8. A file field that a browser sent empty is left out. Raises NotForm.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        _refuse("its Content-Type names no boundary", "Let your HTTP library write the Content-Type of a form.")
    reader = _Reader()
    try:
        MultipartParser(boundary, reader.callbacks(), max_header_size=HEADER_BYTES).write(data)
    except FormParserError as error:
        _refuse(str(error).rstrip("."))
    if not reader.ended:
        _refuse("its last boundary is missing", "Send it whole.")
    return reader.fields


def _refuse(what: str, hint: str = "", param: str | None = None) -> NoReturn:
    details = {} if param is None else {"param": param}
    raise NotForm(f"We could not read the form in your request: {what}.", hint, **details)


class _Reader:
    """Puts parts together from what the parser calls."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.ended = False
        self._count = 0
        self._head: dict[bytes, bytes] = {}
        self._name, self._value, self._data = bytearray(), bytearray(), bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self._data.extend(memoryview(data)[start:end]),
            "on_part_end": self._part,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._count += 1
        if self._count > PARTS:
            _refuse(f"it has more than {PARTS} parts")
        self._head, self._data = {}, bytearray()

    def _header(self) -> None:
        self._head[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        self.ended = True

    def _part(self) -> None:
        kind, options = parse_options_header(self._head.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            _refuse(f"part {self._count} has no name", 'Each begins with Content-Disposition: form-data; name="...".')
        name = _text(options[b"name"], f"the name of part {self._count}")
        coding = self._head.get(b"content-transfer-encoding", b"").decode("latin-1").strip().lower()
        if coding not in PLAIN:
            _refuse(f"'{name}' has the Content-Transfer-Encoding '{coding}'", "Send files as they are.", name)
        if b"filename" not in options:
            self._keep(name, Written(_text(self._data, f"'{name}'", name)))
        elif self._data or options[b"filename"]:
            self._keep(name, self._upload(_text(options[b"filename"], f"the file name of '{name}'", name)))

    def _upload(self, filename: str) -> Upload:
        media_type = parse_options_header(self._head.get(b"content-type"))[0].decode("latin-1")
        return Upload(data=bytes(self._data), filename=filename, media_type=media_type)

    def _keep(self, name: str, value: Written | Upload) -> None:
        listed, name = name.endswith("[]"), name.removesuffix("[]")
        if name not in self.fields:
            self.fields[name] = [value] if listed else value
        elif isinstance(self.fields[name], list):
            self.fields[name].append(value)
        else:
            self.fields[name] = [self.fields[name], value]


def _text(data: bytes | bytearray, what: str, param: str | None = None) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(f"{what} is not UTF-8: {error.reason} at byte {error.start}", param=param)
