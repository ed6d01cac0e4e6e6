"""XML by strangers: elements and attributes alone, with limits on all that could take time or memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from ..core.errors import first_line
from ..core.text_files import shortened

MAX_XML_BYTES = 512 << 20
"""Largest file that is read; 100,000 polygons have about 60 MB."""
MAX_XML_DEPTH = 30
"""Elements within each other; label files have about eight."""
CHUNK = 1 << 20


@dataclass
class Element:
    """An element; ``text`` is what stands directly in it, without the space around."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def find(self, *path: str) -> Element | None:
        """Return the first element at a path of tags below this one."""
        here: Element | None = self
        for tag in path:
            here = next((child for child in here.children if child.tag == tag), None) if here else None
        return here

    def walk(self) -> Iterator[Element]:
        """Give this element and all below it, in the file's order."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting += reversed(element.children)


def read_xml(path: Path, limit: int = MAX_XML_BYTES) -> Element:
    """Return the root element of an XML file.

    A document type is refused, and with it every entity, whether it grows (a "billion laughs") or leads to another
    file.

    Raises:
        ValueError: it is no XML, has a document type, is larger than `limit` bytes, or nested too deeply.
        OSError: it cannot be read.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    top = Element("", {})
    open_elements = [top]
    texts: list[list[str]] = [[]]

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > MAX_XML_DEPTH:
            raise ValueError(f"it is nested more than {MAX_XML_DEPTH} deep")
        element = Element(tag, attributes)
        open_elements[-1].children.append(element)
        open_elements.append(element)
        texts.append([])

    def end(tag: str) -> None:
        open_elements.pop().text = "".join(texts.pop()).strip()

    def refuse(*declaration: object) -> None:
        raise ValueError("it declares a document type, which label files do not need; remove the <!DOCTYPE …>")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: texts[-1].append(text)
    parser.StartDoctypeDeclHandler = refuse
    size = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > limit:
                raise ValueError(f"it has over {limit} bytes, too many to be real")
            _parse(parser, chunk, last=False)
        _parse(parser, b"", last=True)
    return top.children[0]


def _parse(parser: expat.XMLParserType, chunk: bytes, *, last: bool) -> None:
    try:
        parser.Parse(chunk, last)
    except expat.ExpatError as error:
        raise ValueError(shortened(first_line(error), 200)) from error
    except LookupError as error:  # an encoding that Python does not know
        raise ValueError(shortened(first_line(error), 200)) from error
