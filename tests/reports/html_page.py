"""An HTML page as a reader of its source sees it: texts, tags, and everything it would load."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

_LOADING = {"src", "srcset", "data", "poster", "background", "action", "formaction", "xlink:href"}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        tags: The names of its elements.
        loaded: URLs that a browser would load by itself.
        links: URLs behind links.
        alternatives: The descriptions of its images.
        styles: All of its CSS, style attributes included.
        policy: Its content security policy.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.alternatives: list[str] = []
        self.styles, self.policy = "", ""
        self._attributes: set[str] = set()
        self._pieces: list[str] = []
        self._in_style = False
        self._figures: dict[str, str] = {}
        self._figure: str | None = None
        self._expected = ""
        self.feed(source)
        self.close()

    @classmethod
    def read(cls, path: Path) -> Page:
        """The page in a file."""
        return cls(path.read_text(encoding="utf-8"))

    @property
    def text(self) -> str:
        """What stands on the page, with single blanks."""
        return " ".join("".join(self._pieces).split())

    def figure(self, name: str) -> str:
        """The value of a key figure."""
        return self._figures[name]

    def attributes_starting(self, prefix: str) -> set[str]:
        """The names of attributes that begin so."""
        return {name for name in self._attributes if name.startswith(prefix)}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element and what it loads."""
        self.tags.add(tag)
        self._in_style = tag == "style"
        given = {name: value or "" for name, value in attrs}
        self._expected = "name" if given.get("class") == "name" else "value" if tag == "b" and self._figure else ""
        self._attributes |= given.keys()
        self.loaded += [value for name, value in given.items() if name in _LOADING]
        self.loaded += [given["href"]] if tag == "link" and "href" in given else []
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        self.alternatives += [given["alt"]] if tag == "img" else []
        self.styles += given.get("style", "")
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]

    def handle_endtag(self, tag: str) -> None:
        """Leave a style sheet."""
        self._in_style = False

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self._expected == "name":
            self._figure = data
        elif self._expected == "value" and self._figure:
            self._figures[self._figure], self._figure = data, None
        self._expected = ""
        if self._in_style:
            self.styles += data
        else:
            self._pieces.append(data)
