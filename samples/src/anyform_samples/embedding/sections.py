"""Splits anyform's documentation into sections by heading, and sections into passages short enough to embed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCUMENTATION = Path(__file__).with_name("documentation")
"""The documentation that the sample encoder was trained on, as it was then."""

PAGES = ("README.md", "docs/**/*.md", "plugins/*/README.md")
LEAST_WORDS = 35
PASSAGE_CHARACTERS = 480

_FENCE = re.compile(r"\s*(```|~~~)")
_HEADING = re.compile(r"(#{1,2}) +(.+)")
_BLOCK_START = re.compile(r"\s*([-*|#]|\d+\.) ?")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_TABLE_RULE = re.compile(r"\s*\|[-|: ]+\|?\s*$")
_MARKS = re.compile(r"[`*|]+|^#+ ", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it: `id` is page#heading, `text` is Markdown with its marks."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Passage:
    """A part of a section in plain words, its title in front; at most some PASSAGE_CHARACTERS long."""

    section: str
    title: str
    text: str

    @property
    def embedded(self) -> str:
        """What is turned into a vector."""
        return f"{self.title}. {self.text}"


def sections(folder: Path) -> list[Section]:
    """The sections of the README, the documentation and the plugins' pages below *folder*, sorted by page.

    Headings of the first two levels begin a section. One of less than LEAST_WORDS words belongs to the section that
    begins its page; a page's beginning that is as short (a table of contents) is left out.
    """
    pages = sorted({page for pattern in PAGES for page in folder.glob(pattern)})
    return [
        section for page in pages for section in _page(page.relative_to(folder).as_posix(), page.read_text("utf-8"))
    ]


def passages(section: Section) -> list[Passage]:
    """The section's passages, in order; blocks (paragraphs, list items, table rows) stay whole where they fit."""
    chunks: list[str] = []
    for block in _blocks(section.text):
        if chunks and len(chunks[-1]) + len(block) < PASSAGE_CHARACTERS:
            chunks[-1] += f"\n{block}"
        else:
            chunks.append(block)
    return [Passage(section.id, section.title, chunk) for chunk in chunks]


def plain(markdown: str) -> str:
    """The words without links' targets, emphasis, backticks, table borders and code fences."""
    lines = [line for line in markdown.splitlines() if not _TABLE_RULE.match(line) and not _FENCE.match(line)]
    text = _MARKS.sub(" ", _LINK.sub(r"\1", "\n".join(lines)))
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def _page(name: str, markdown: str) -> list[Section]:
    (opening, preface), *rest = _headed(markdown)
    found = []
    for heading, text in rest:
        if len(plain(text).split()) < LEAST_WORDS:
            preface += f"\n## {heading}\n{text}"
        else:
            found.append(Section(f"{name}#{_slug(heading)}", f"{plain(opening)}: {plain(heading)}", text))
    if len(plain(preface).split()) >= LEAST_WORDS:
        found.insert(0, Section(name, plain(opening), preface))
    return found


def _headed(markdown: str) -> list[tuple[str, str]]:
    """Headings, each with the lines below it; a page that begins without one has an empty heading first."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    fenced = False
    for line in markdown.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading:
            parts.append((heading[2], []))
        else:
            parts[-1][1].append(line)
    if len(parts) > 1 and not parts[0][1]:
        del parts[0]
    return [(heading, "\n".join(lines).strip()) for heading, lines in parts]


def _slug(heading: str) -> str:
    """The anchor that a forge gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _blocks(markdown: str) -> Iterator[str]:
    for block in _raw_blocks(markdown):
        yield from _fitting(plain(block))


def _raw_blocks(markdown: str) -> Iterator[str]:
    block: list[str] = []
    for line in markdown.splitlines():
        if block and (not line.strip() or _BLOCK_START.match(line)):
            yield "\n".join(block)
            block = []
        if line.strip():
            block.append(line)
    if block:
        yield "\n".join(block)


def _fitting(block: str) -> Iterator[str]:
    """The block, or groups of its lines where it is too long for a passage."""
    group = ""
    for line in block.splitlines():
        if group and len(group) + len(line) >= PASSAGE_CHARACTERS:
            yield group
            group = ""
        group = f"{group}\n{line}" if group else line
    if group:
        yield group
