"""The page of the server: in a browser where there is one, by keyboard alone; its files everywhere."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from support import browser

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.serving.app import PAGE

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
FILES = ("index.html", "page.js", "style.css")


def test_the_files_need_nothing_else():
    """No build step, and nothing of another place."""
    for name in FILES:
        text = (PAGE / name).read_text()
        assert not re.search(r"https?://|//cdn|@import|\bimport\b|require\(", text), name
        assert not re.search(r"\son\w+=|<script>|<style|style=|innerHTML|eval\(", text), name  # the policy forbids them
    html = (PAGE / "index.html").read_text()
    named = set(re.findall(r'(?:src|href)="(?:page/)?([\w.]+)"', html))
    assert named | {"index.html"} == set(FILES) == {file.name for file in PAGE.iterdir()}
    ids = set(re.findall(r'id="([\w-]+)"', html))
    assert set(re.findall(r'\$\("([\w-]+)"\)', (PAGE / "page.js").read_text())) <= ids


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    if browser.found() is None:
        pytest.skip("no Chromium is installed")
    from support.serving import program  # it needs the packages

    folder = Path(shutil.copytree(builtin_model(), tmp_path_factory.mktemp("page") / "teller"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    for name in ("config.json", "generation_config.json"):  # no text ends by itself
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({key: value for key, value in values.items() if "eos" not in key}))
    with program("--model", folder, "--batch-size", 2, "--seed", 3, "--context", 1024, "--threads", 1) as (found, *_):
        yield found


@pytest.fixture(scope="module")
def page(address):
    with browser.page() as opened:
        yield opened


def answers(page):
    return page.value("[...document.querySelectorAll('article.assistant')].map((each) => each.textContent)")


@pytest.mark.parametrize("width, height", [(1200, 800), (390, 740)])
def test_talking_by_keyboard(page, address, width, height):
    page.size(width, height)
    page.open(address)
    assert page.value("document.activeElement.id") == "text"
    assert page.value("document.documentElement.scrollWidth") <= width  # nothing is cut off at the side
    page.type("Tell me of a fox.")
    page.press("Enter")
    page.wait("document.querySelector('article.assistant')?.textContent.length > 20")
    page.wait("document.body.dataset.state == 'ready'")
    assert re.fullmatch(r"\d+ tokens, \d+ tok/s", page.value("document.getElementById('speed').textContent"))
    assert page.value("document.activeElement.id") == "text" and len(answers(page)[0]) > 20
    page.wait("document.getElementById('experts-text').textContent.includes('8 layers of 16')")
    page.wait("document.getElementById('model').textContent.includes('teller')")
    boxes = page.value(
        "['text', 'send', 'stop', 'new', 'talk', 'experts'].map((id) => {"
        "const r = document.getElementById(id).getBoundingClientRect();"
        "return [r.left >= 0, r.right <= innerWidth, r.top >= 0, r.bottom <= innerHeight, r.width > 0, r.height > 0]})"
    )
    assert all(all(box) for box in boxes), boxes
    picture = page.picture()
    assert picture[:4] == b"\x89PNG" and len(picture) > 5000
    if folder := os.environ.get("OB_PICTURES"):
        Path(folder, f"page-{width}.png").write_bytes(picture)
    assert page.problems == []


def test_stopping_keeps_what_is_there(page, address):
    page.open(address)
    page.value("document.getElementById('tokens').value = 990")
    page.type("Once upon a time")
    page.press("Enter")
    page.wait("document.querySelector('article.assistant')?.textContent.length > 5")
    page.press("Escape")
    page.wait("document.body.dataset.state == 'ready'")
    assert page.value("document.getElementById('speed').textContent") == "stopped"
    (text,) = answers(page)
    assert text and page.value("document.getElementById('stop').disabled")
    page.wait("document.getElementById('running').textContent == '0'")  # its row is free again
    page.type("And then?")
    page.press("Enter")
    page.wait("document.querySelectorAll('article.assistant').length == 2")
    page.press("Escape")
    page.wait("document.body.dataset.state == 'ready'")
    for _ in range(12):  # the buttons are reached by Tab, and pressed by the space bar
        page.press("Tab")
        if page.value("document.activeElement.id") == "new":
            break
    page.press(" ")
    page.wait("document.querySelectorAll('article').length == 0")


def test_errors_are_shown(page, address):
    page.open(address)
    page.value("document.getElementById('tokens').value = 0")
    page.type("The fox")
    page.press("Enter")
    page.wait("document.querySelector('article.error')?.textContent.includes('max_tokens')")
    page.value("document.getElementById('tokens').value = 5")
    page.type("The fox")
    page.press("Enter")
    page.wait("document.getElementById('speed').textContent.startsWith('5 tokens')")
