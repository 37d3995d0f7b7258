"""A page read by the rules of HTML."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Insists that tags are closed; keeps the text, the sources of pictures and the names of tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += " " + data

    @property
    def line(self) -> str:
        return " ".join(self.words.split())
