"""The pages of the site that are no files of docs/: README.md, SECURITY.md, the examples, and one page per public name.

mkdocs.yml names this file as its hooks; `make docs` builds the site.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "pipeline.ops", "pipeline.ray")

sys.path.insert(0, str(ROOT))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links of a page of the source tree, as links within the site."""
    inside = re.sub(r"\]\((?:\.\./)?README\.md", "](index.md", markdown)
    inside = re.sub(r"\]\((?:\.\./|docs/)([\w-]+\.md)", r"](\1", inside)
    inside = re.sub(r"\]\((?:\.\./)?LICENSE\)", "](index.md)", inside)
    return re.sub(r"\]\((?:\.\./)?examples\)", "](examples.md)", inside).replace("](docs/", "](")


def pages() -> dict[str, str]:
    """{path within the site: text}."""
    made = {"index.md": (ROOT / "README.md").read_text(), "SECURITY.md": (ROOT / "SECURITY.md").read_text()}
    made["examples.md"] = examples()
    index = ["# Python interface\n"]
    for package in PACKAGES:
        index.append(f"\n## {package}\n")
        for name, home in sorted(public(package).items()):
            made[f"api/{package}.{name}.md"] = (
                f"# {package}.{name}\n\n::: {home}\n    options:\n      heading_level: 2\n"
            )
            index.append(f"* [{package}.{name}]({package}.{name}.md)")
    made["api/index.md"] = "\n".join(index) + "\n"
    return made


def public(package: str) -> dict[str, str]:
    """{public name: the dotted path at which it is defined}; a module's is its own."""
    module = importlib.import_module(package)
    found = {}
    for name in module.__all__:
        value = getattr(module, name)
        own = getattr(value, "__module__", None)
        found[name] = f"{own}.{name}" if own and hasattr(sys.modules[own], name) else f"{package}.{name}"
    return found


def examples() -> str:
    """Every example with its text, under the first line of its docstring."""
    text = ["# Examples\n\nEach of them is a file of `examples/`, which the test suite runs.\n"]
    for file in sorted((ROOT / "examples").glob("*.py")):
        source = file.read_text()
        first = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        text.append(f"## {file.name}\n\n{first}\n\n```python\n{source}```\n")
    return "\n".join(text)
