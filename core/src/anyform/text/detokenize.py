"""Bytes of tokens to text, a token at a time: no half character ever leaves."""

from __future__ import annotations

import codecs


class Detokenizer:
    """Incremental UTF-8.

    Bytes that can never become a character are replaced by U+FFFD. A character that is still
    incomplete when the text ends (a token limit in the middle of an emoji) is dropped, as
    llama-server does: a reader gets whole characters or nothing.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def pending(self) -> bytes:
        """The beginning of a character whose rest has not come yet."""
        return self._decoder.getstate()[0]

    def feed(self, data: bytes) -> str:
        """The text that *data* completes; may be empty."""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """End the text. Always empty today, since an incomplete character is dropped; starts afresh."""
        self._decoder.reset()
        return ""
