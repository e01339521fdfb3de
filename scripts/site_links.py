"""A hook of MkDocs: files of the repository that documents link to are on the site too, and their links lead there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^)#\s]+)")
_DOCS, _BESIDE = "docs/", "repository/"


def on_files(files: Any, config: Any) -> Any:
    """Takes along what documents link to, and what that links to; of a link to nothing MkDocs warns."""
    root, pages = Path(config["docs_dir"]).parent, list(files.documentation_pages())
    for page in pages:
        for link in _links(page.content_string, page.src_uri):
            path = root / link.removeprefix(_BESIDE)
            if link.startswith(_BESIDE) and link not in files.src_uris and path.is_file():
                made = File.generated(config, link, abs_src_path=str(path))
                files.append(made)
                if made.is_documentation_page():
                    pages.append(made)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leads the links of a page to where their files are on the site."""
    uri, links = page.file.src_uri, _links(markdown, page.file.src_uri)
    return _LINK.sub(lambda _: posixpath.relpath(next(links), posixpath.dirname(uri) or "."), markdown)


def _links(markdown: str, uri: str) -> Iterator[str]:
    """Where on the site the files are that a page links to, in the order of its links."""
    source = uri.removeprefix(_BESIDE) if uri.startswith(_BESIDE) else _DOCS + uri
    for link in _LINK.findall(markdown):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        yield target.removeprefix(_DOCS) if target.startswith(_DOCS) else _BESIDE + target
