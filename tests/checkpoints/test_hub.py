"""Models by their names on the hub: from a cache that is there, and from a hub that a local server plays."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest
from fuzz import tiny
from support.families.files import write_folder
from support.paths import ROOT

from pipeline.checkpoints import hub
from pipeline.checkpoints.hub import hub_path, is_hub_name, model_name, needed_files
from pipeline.checkpoints.named import model_path
from pipeline.errors import UsageError

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model as a repository has it, with copies that nobody needs."""
    folder = tmp_path_factory.mktemp("repository")
    write_folder(folder, "llama", tiny.described("llama"))
    (folder / "tokenizer.json").write_text(json.dumps(tiny.BYTE_LEVEL))
    for name in ("consolidated.00.pth", "pytorch_model.bin", "original/model.safetensors", "onnx/model.onnx", "a.gguf"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x" * 5000)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def keep(cache, model, names=("config.json", "model.safetensors", "tokenizer.json"), commit=COMMIT, revision="main"):
    """Puts files into the cache as huggingface_hub does: links to blobs."""
    folder = cache / "models--org--name"
    snapshot = folder / "snapshots" / commit
    for each in (snapshot, folder / "blobs", folder / "refs"):
        each.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / "blobs" / name).write_bytes((model / name).read_bytes())
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    (folder / "refs" / revision).parent.mkdir(exist_ok=True, parents=True)
    (folder / "refs" / revision).write_text(commit)
    return snapshot


@pytest.mark.parametrize(
    "text, right",
    [
        ("org/name", True),
        ("Org-1/na.me_2", True),
        ("org/name@main", True),
        ("org/name@refs/pr/3", True),
        ("org/name/file-Q4_K_M.gguf", True),
        ("org/name/sub/file.gguf@abc", True),
        ("name", False),
        ("./org/name", False),
        ("/org/name", False),
        ("org/name/more", False),
        ("../name", False),
        ("org/..", False),
        ("org//name", False),
        ("org/na me", False),
        ("", False),
    ],
)
def test_names(text, right):
    assert is_hub_name(text) == right


def test_from_the_cache(cache, model):
    snapshot = keep(cache, model)
    assert model_path("org/name") == hub_path(f"org/name@{COMMIT}") == snapshot
    assert model_name(snapshot) == "org/name" and model_name(model) == model.name
    other = keep(cache, model, commit=OTHER, revision="v2/x")
    assert hub_path("org/name@v2/x") == other


@pytest.mark.parametrize("variable, below", [("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")])
def test_where_the_cache_is(variable, below, model, tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    snapshot = keep(tmp_path / below, model)
    assert hub_path("org/name") == snapshot


@pytest.mark.parametrize(
    "address, name",
    [
        ("https://huggingface.co/org/name", "org/name"),
        ("https://huggingface.co/org/name/tree/main", "org/name"),
        ("http://hf.co/org/name/", "org/name"),
        ("https://huggingface.co/", "org/name"),
        ("https://example.com/a/b.gguf", "org/name"),
    ],
)
def test_an_address_is_no_name(address, name):
    with pytest.raises(UsageError) as caught:
        model_path(address)
    assert str(caught.value) == f"{address}: is an address; a model of the Hugging Face hub is named {name}"


def test_a_path_comes_first(cache, model):
    keep(cache, model)
    Path("org/name").mkdir(parents=True)
    assert model_path("org/name") == Path("org/name")
    assert model_path("org/mistyped") == Path("org/mistyped")  # the folder is here, so the name is a path


def test_no_package(cache, model, monkeypatch):
    """Also where the cache has a part of the model: a blob is missing, or the tokenizer."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for names in ((), ("config.json", "model.safetensors")):
        keep(cache, model, names)
        with pytest.raises(UsageError, match=r"org/name: no such folder or file, .*pip install 'onebuf\[hub\]'"):
            hub_path("org/name")
    keep(cache, model, ("tokenizer.json",))
    assert hub_path("org/name")
    (cache / "models--org--name" / "blobs" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="no whole model"):
        hub_path("org/name")


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    "names, file, wanted",
    [
        (
            ["config.json", "model.safetensors", "consolidated.safetensors", "a/x.pth", "tokenizer.model", "x.bin"],
            "",
            ["config.json", "tokenizer.model", "model.safetensors"],
        ),
        (["config.json", *SHARDS, hub.INDEX], "", ["config.json", *SHARDS, hub.INDEX]),
        (["config.json", "consolidated.safetensors"], "", ["config.json"]),
        (["a-Q4.gguf", "README.md", "mmproj-a.gguf"], "", ["a-Q4.gguf"]),
        (["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "b.gguf"], "a-00002-of-00002.gguf",
         ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]),
        (["q/a.gguf", "b.gguf"], "q/a.gguf", ["q/a.gguf"]),
        (["pytorch_model.bin", "config.json"], "", []),
    ],
)  # fmt: skip
def test_what_is_needed(names, file, wanted):
    assert needed_files(names, file) == wanted


def test_several_ggufs():
    with pytest.raises(UsageError, match=r"has several GGUF files; choose one behind its name: a\.gguf, b\.gguf"):
        needed_files(["a.gguf", "b.gguf"])
    with pytest.raises(UsageError, match=r"c\.gguf: is not in the repository; it has a\.gguf, b\.gguf"):
        needed_files(["a.gguf", "b.gguf"], "c.gguf")


class Hub(http.server.BaseHTTPRequestHandler):
    """Plays the hub: one repository's facts, and its files, also parts of them."""

    folder: Path
    asked: list[str]
    cut = 0  # bytes after which the first answer with weights ends

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        path = unquote(self.path.partition("?")[0])
        if path.startswith("/api/models/org/name"):
            files = sorted(str(f.relative_to(self.folder)) for f in self.folder.rglob("*") if f.is_file())
            facts: object = {"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            if "/tree/" in path:
                sizes = {name: (self.folder / name).stat().st_size for name in files}
                facts = [{"type": "file", "path": name, "size": sizes[name], "oid": "0" * 40} for name in files]
            return self.reply(200, json.dumps(facts).encode(), body, {"Content-Type": "application/json"})
        name = path.removeprefix(f"/org/name/resolve/{COMMIT}/")
        if name == path or not (self.folder / name).is_file():
            code = "RevisionNotFound" if path.startswith("/org/name/") else "RepoNotFound"
            return self.reply(404, b"{}", body, {"X-Error-Code": code})
        data = (self.folder / name).read_bytes()
        if body:
            self.asked.append(f"{name} {self.headers.get('Range', '')}".strip())
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]) if body else 0
        headers = {"ETag": f'"{name.replace("/", "-")}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self.reply(206 if begin else 200, data[begin:], body, headers)

    def reply(self, code, data, body, headers):
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body and type(self).cut and len(data) > type(self).cut:
            data, type(self).cut = data[: type(self).cut], 0
            self.close_connection = True
        if body:
            self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(model):
    pytest.importorskip("huggingface_hub")
    handler = type("Handler", (Hub,), {"folder": model, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        handler.endpoint = f"http://127.0.0.1:{httpd.server_port}"
        yield handler
        httpd.shutdown()
        thread.join()


def outcomes(names, endpoint, cache, **more):
    """(exit code, standard output, lines of standard error) of pipeline.inspect for each name, in one process."""
    script = "import sys; from pipeline import inspect\nfor name in sys.argv[1:]:\n"
    script += "    code = inspect.main([name, '--json'])\n"
    script += "    for s in sys.stdout, sys.stderr: print('=' * 9, code, file=s, flush=True)"
    proxies = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment = proxies | {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "PYTHONPATH": str(ROOT)} | more
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *names],
        capture_output=True,
        text=True,
        cwd=cache.parent,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = zip(re.split(r"={9} (\d)\n", done.stdout)[:-1], re.split(r"={9} (\d)\n", done.stderr)[:-1])
    pairs = list(found)
    return [(int(pairs[i + 1][0]), pairs[i][0], pairs[i][1]) for i in range(0, len(pairs), 2)]


def test_download(server, cache):
    """Only what is needed; an answer that breaks off goes on behind what is there; then nobody is asked any more."""
    server.cut = (server.folder / "model.safetensors").stat().st_size // 2
    names = ["org/other", "org/name/b.gguf", "org/name", "org/name"]
    other, file, first, second = outcomes(names, server.endpoint, cache)
    for (code, _, err), words in (
        (other, "no such model on the hub, or a private one; for that, set HF_TOKEN"),
        (file, "b.gguf: is not in the repository; it has a.gguf"),
    ):
        assert code == 2 and err.count("\n") == 1 and words in err, err
    code, out, err = first if first[0] == 0 else second  # some versions leave the rest to the next call
    assert code == 0, err
    facts = json.loads(out)
    assert facts["model"] == "org/name" and facts["family"] == "llama" and not facts["unsupported"]
    assert {line.split()[0] for line in server.asked} == {"config.json", "tokenizer.json", "model.safetensors"}
    assert sum(line.startswith("model.safetensors") for line in server.asked) == 2
    got = hub_path("org/name") / "model.safetensors"
    assert got.read_bytes() == (server.folder / "model.safetensors").read_bytes()


def test_no_network(cache, model):
    """What is in the cache is used; for what is not, there is one line."""
    pytest.importorskip("huggingface_hub")
    keep(cache, model)
    there, absent = outcomes(["org/name", "org/absent"], "http://127.0.0.1:9", cache)
    assert there[0] == 0 and json.loads(there[1])["model"] == "org/name"
    assert absent[0] == 2 and absent[2].count("\n") == 1 and "cannot be had from the hub" in absent[2], absent
    ((code, _, err),) = outcomes(["org/absent"], "http://127.0.0.1:9", cache, HF_HUB_OFFLINE="1")
    assert code == 2 and err.count("\n") == 1 and "HF_HUB_OFFLINE is set" in err, err
