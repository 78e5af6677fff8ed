"""README.md and docs/: every page can be reached, and every path, anchor, hazard and test that one names exists."""

import re

from support.paths import ROOT

PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
FOLDERS = {"objc", "pyx", "shaders", "pipeline", "tests", "benchmarks", "tools", "docs"}
SPAN = re.compile(r"`([^`\n]+)`")


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """GitHub's anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_paths_exist():
    named = [(page, span) for page, text in PAGES.items() for span in SPAN.findall(prose(text))]
    paths = [(page, span.split("#")[0]) for page, span in named]
    inside = [(page, path) for page, path in paths if "/" in path and path.split("/")[0] in FOLDERS]
    inside = [(page, path) for page, path in inside if re.fullmatch(r"[\w./-]+", path)]
    assert len(inside) > 100
    assert [f"{page}: {path}" for page, path in inside if not (ROOT / path).exists()] == []


def test_commands_name_files_that_exist():
    command = re.compile(r"\bpython ((?:tests|benchmarks|tools)/[\w./-]+\.py)")
    named = [(page, path) for page, text in PAGES.items() for path in command.findall(text)]
    assert len(named) > 5
    assert [f"{page}: {path}" for page, path in named if not (ROOT / path).is_file()] == []


def test_links_lead_to_pages_and_headings():
    wrong, links = [], 0
    for page, text in PAGES.items():
        folder = ROOT if page == "README.md" else ROOT / "docs"
        for target, anchor in re.findall(r"\]\(([\w./-]+)(?:#([\w-]+))?\)", text):
            links += 1
            if not (folder / target).exists() or (anchor and anchor not in anchors((folder / target).read_text())):
                wrong.append(f"{page}: {target}#{anchor}")
    assert wrong == [] and links > 50


def test_every_page_is_linked():
    linked = {target for text in PAGES.values() for target in re.findall(r"\]\((?:docs/)?([\w-]+\.md)", text)}
    assert set(PAGES) - {"README.md"} <= linked


def test_hazards_have_tests():
    numbers = re.findall(r"^\| (\d\d) \|", PAGES["hazards.md"], re.M)
    tests = (ROOT / "tests/kernels/test_hazards.py").read_text()
    assert numbers == [f"{number:02}" for number in range(1, 21)]
    assert set(re.findall(r"def test_hazard_(\d\d)_", tests)) == set(numbers)


def test_glossary_says_where_each_word_lives():
    rows = [line.strip("|").split(" | ") for line in PAGES["glossary.md"].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0].strip() not in ("Word", "---")]
    assert len(rows) >= 40 and all(len(row) == 3 for row in rows)
    for word, _, where in rows:
        assert SPAN.search(where) or "](" in where, word


def kernels():
    """(file, kernel, the comment above it) of every kernel that has one of its own, not only a format's variant."""
    for file in sorted((ROOT / "shaders").glob("*.metal")):
        for comment, name in re.findall(
            r"((?:^//.*\n)+)(?:template <[^>]*>\n)?kernel void (\w+)\(", file.read_text(), re.M
        ):
            yield file.name, name, " ".join(line.removeprefix("//").strip() for line in comment.splitlines())


def test_every_kernel_says_which_step_calls_it():
    from pipeline import Pipeline

    found = list(kernels())
    text = "".join(file.read_text() for file in (ROOT / "shaders").glob("*.metal"))
    assert len(found) == len(re.findall(r"^kernel void ", text, re.M))
    for file, name, comment in found:
        steps = re.search(r"Steps? (`.*?)(?:\.|, )", comment)
        named = re.findall(r"`(\w+)`", steps[1]) if steps else []
        variant = "in MLX's affine format" in comment or "Pipeline.status()" in comment
        assert (named or variant) and all(hasattr(Pipeline, step) for step in named), f"{file}: {name}: {comment}"
