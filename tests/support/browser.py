"""A browser without scripts: it keeps cookies, reads pages, and sends their forms."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp

NAVIGATION = {"Accept": "text/html", "Accept-Language": "en"}


@dataclass
class Form:
    """A form of a page: where it goes, and what it holds."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(
        self, tag: str, attributes: list[tuple[str, str | None]]
    ) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            assert given["method"] == "post"
            self.forms.append(Form(given["action"]))
        elif tag == "input" and given.get("type") != "checkbox":
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "button" and "name" in given:
            self.forms[-1].buttons.append((given["name"], given["value"]))


@dataclass
class Page:
    """What the browser shows."""

    status: int
    url: str
    text: str
    headers: Mapping[str, str]
    location: str = ""

    @property
    def title(self) -> str:
        found = re.search(r"<h1>(.*?)</h1>", self.text, re.DOTALL)
        return html.unescape(found[1]) if found else ""

    @property
    def alert(self) -> str:
        found = re.search(r'role="alert">(.*?)</p>', self.text, re.DOTALL)
        return html.unescape(found[1]) if found else ""

    def forms(self) -> list[Form]:
        parser = _Forms()
        parser.feed(self.text)
        return parser.forms


class Browser:
    """One browser of one person."""

    def __init__(self, base_url: str, *, language: str = "en") -> None:
        self.base_url = base_url
        self._language = language
        self.page = Page(0, base_url, "", {})

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    @property
    def cookie(self) -> str:
        """The value of the only cookie."""
        (cookie,) = self._session.cookie_jar
        return cookie.value

    def plant(self, cookie: str) -> None:
        """Have somebody else's cookie."""
        self._session.cookie_jar.update_cookies(
            {"hearth": cookie}, aiohttp.client.URL(self.base_url)
        )

    async def open(self, where: str) -> Page:
        """Go to a page, and on to wherever it sends, while that is ours."""
        return await self._go("GET", where, None)

    async def submit(
        self,
        button: tuple[str, str] | None = None,
        *,
        form: int = 0,
        headers: dict[str, str] | None = None,
        **filled: str,
    ) -> Page:
        """Fill in a form of the page, and press a button."""
        found = self.page.forms()[form]
        unknown = filled.keys() - found.fields.keys() - {"erase"}
        assert not unknown, f"there is no {unknown} in {self.page.title}"
        data = {**found.fields, **filled}
        if button is not None:
            assert button in found.buttons
            data[button[0]] = button[1]
        return await self._go("POST", found.action, data, headers)

    async def send(
        self, where: str, data: dict[str, str], headers: dict[str, str]
    ) -> Page:
        """Send a form that no page had."""
        return await self._go("POST", where, data, headers)

    async def _go(
        self,
        method: str,
        where: str,
        data: dict[str, str] | None,
        headers: dict[str, str] | None = None,
    ) -> Page:
        url = urljoin(self.page.url, where)
        for _ in range(10):
            async with self._session.request(
                method,
                aiohttp.client.URL(url, encoded=True),
                data=data,
                allow_redirects=False,
                headers={
                    **NAVIGATION,
                    "Accept-Language": self._language,
                    **(headers or {}),
                },
            ) as answer:
                text = await answer.text()
                location = answer.headers.get("Location", "")
                self.page = Page(answer.status, url, text, answer.headers, location)
            if self.page.status != 303:
                return self.page
            target = urljoin(url, location)
            if urlsplit(target).netloc != urlsplit(self.base_url).netloc:
                return self.page
            method, data, headers, url = "GET", None, None, target
        raise AssertionError("the server sends the browser in circles")
