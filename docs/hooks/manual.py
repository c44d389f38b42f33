"""What MkDocs asks while it builds the manual: pages that are made of other files, and parts that are made by code.

A page of its own is made of each document of the repository (`DOCUMENTS`) and of each rule. In a page, a line
`<!-- MARK: TEXT -->` stands for what the function of that mark in `generated.MARKS` makes of the text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import generated
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

DOCUMENTS = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
    "autoinit/checking/README.md": "how-a-check-comes-about.md",
}
"""The page that each document of the repository becomes."""
_LINK = re.compile(r"^```.*?^```$|`[^`\n]*`|(\]\()([^)#\s]+)((?:#[^)\s]*)?\))", re.MULTILINE | re.DOTALL)
"""A link, or code, in which there is none."""
_MARK = re.compile(rf"^<!-- ({'|'.join(generated.MARKS)}): (.+) -->$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The rules stand in the navigation below their table, by code."""
    for section in config.nav or ():
        for entry in section.get("Checking", ()):
            entry.get("Rules", []).extend({code: f"rules/{code}.md"} for code in generated.rule_pages())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that have no file in docs/, and the files beside the documents that pages link to."""
    for document, page in DOCUMENTS.items():
        text = (ROOT / document).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relinked(text, document, page)))
    for code, text in generated.rule_pages().items():
        files.append(File.generated(config, f"rules/{code}.md", content=text))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page with its generated parts, its links into the repository turned to pages of the site."""
    text = _MARK.sub(lambda found: generated.MARKS[found[1]](found[2]), markdown)
    uri = page.file.src_uri
    return text if uri in DOCUMENTS.values() else relinked(text, f"docs/{uri}", uri)


def relinked(text: str, document: str, page: str) -> str:
    """Links of a document, which are from its folder in the repository, as they must be from its page in the site."""

    def moved(found: re.Match[str]) -> str:
        target = found[2]
        if target is None or "://" in target:
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(document), target))
        inside = DOCUMENTS.get(path, path.removeprefix("docs/"))
        return f"{found[1]}{posixpath.relpath(inside, posixpath.dirname(page) or '.')}{found[3]}"

    return _LINK.sub(moved, text)
