"""The site as zensical builds it: no warning, each page in its navigation, each link to something that is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: What leads here is a file of the repository.
REPOSITORY = "https://github.com/dask-gitops/dask-gitops/"
SITE = "https://dask-gitops.github.io/dask-gitops/"
#: Elements that a browser follows by itself.
FETCHING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}


class Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag in FETCHING and FETCHING[tag] in given:
            self.fetched.append(given[FETCHING[tag]])
        elif tag == "link" and set(given.get("rel", "").split()) & {"stylesheet", "preload", "modulepreload", "icon"}:
            self.fetched.append(given["href"])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, of a copy: zensical writes beside its configuration."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(DOCS, folder / "docs")
    (folder / "bench").mkdir()
    shutil.copy(ROOT / "bench/README.md", folder / "bench")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
    return folder / "build/site"


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[str, Page]:
    """By their addresses."""
    return {f"{SITE}{path.relative_to(built)}": Page(path.read_text()) for path in built.rglob("*.html")}


def listed(nav: list) -> Iterator[str]:
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(value, list):
                yield from listed(value)
            else:
                yield value


def test_each_page_is_in_the_navigation_once() -> None:
    nav = list(listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    present = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(present - set(nav)) == [], "in no nav of mkdocs.yml"
    assert sorted(set(nav) - present) == [], "in nav of mkdocs.yml, and not in docs/"
    assert len(nav) == len(set(nav))


def test_each_page_is_built(pages: dict[str, Page]) -> None:
    for path in DOCS.rglob("*.md"):
        name = path.relative_to(DOCS).with_suffix("").as_posix()
        assert SITE + ("index.html" if name == "index" else f"{name}/index.html") in pages


def test_nothing_is_fetched_from_elsewhere(built: Path, pages: dict[str, Page]) -> None:
    """Neither fonts nor scripts: who reads this is nobody's business, and it works without access to the outside."""
    fetched = {(page, urljoin(page, url)) for page, content in pages.items() for url in content.fetched}
    assert {(page, url) for page, url in fetched if not url.startswith((SITE, "data:"))} == set()
    assert sorted({url for _, url in fetched if url.startswith(SITE) and not target(built, url)}) == []
    for path in built.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//", path.read_text()) == []


def target(built: Path, url: str) -> Path | None:
    """The file of the site that an address leads to."""
    path = built / unquote(urlparse(url).path.removeprefix(urlparse(SITE).path))
    path = path / "index.html" if path.is_dir() else path
    return path if path.is_file() else None


def broken(built: Path, pages: dict[str, Page]) -> list[tuple[str, str]]:
    """Pages and those of their links within the site that lead nowhere."""
    found = []
    for page, content in pages.items():
        for link in content.links:
            url, anchor = urldefrag(urljoin(page, link))
            path = target(built, url) if url.startswith(SITE) else None
            if url.startswith(SITE) and path is None:
                found.append((page, link))
            elif path and anchor and path.suffix == ".html":
                there = pages[f"{SITE}{path.relative_to(built)}"].anchors
                found += [(page, link)] if unquote(anchor) not in there else []
    return found


def test_each_link_within_the_site_leads_somewhere(built: Path, pages: dict[str, Page]) -> None:
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert broken(built, pages) == []


def test_broken_links_are_seen(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="#here" id="here">1</a><a href="#there">2</a><a href="none/">3</a>')
    pages = {f"{SITE}index.html": Page((tmp_path / "index.html").read_text())}
    assert [link for _, link in broken(tmp_path, pages)] == ["#there", "none/"]


def test_each_link_into_the_repository_leads_somewhere(pages: dict[str, Page]) -> None:
    links = {link for content in pages.values() for link in content.links if link.startswith(REPOSITORY)}
    files = {
        re.sub(r"^(?:blob|tree|edit)/[^/]+/", "", urldefrag(link.removeprefix(REPOSITORY)).url): link for link in links
    }
    assert len(files) >= 2
    assert [link for file, link in files.items() if not (ROOT / file).exists()] == []


def test_other_links_are_encrypted(pages: dict[str, Page]) -> None:
    """Whether they lead somewhere is for a run with access to the outside."""
    links = {link for content in pages.values() for link in content.links if urlparse(link).scheme}
    assert [link for link in sorted(links) if not link.startswith(("https://", "mailto:"))] == []
