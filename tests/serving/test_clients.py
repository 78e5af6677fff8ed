"""Public clients of other kinds, where they are installed: they work as they are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.checkpoints.storyteller import builtin_model

for package in ("starlette", "uvicorn"):
    pytest.importorskip(package)

from support.serving import program  # noqa: E402  # it needs the packages

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ tools }}<tool_call>assistant:"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = Path(shutil.copytree(builtin_model(), tmp_path_factory.mktemp("clients") / "teller"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    with program("--model", folder, "--batch-size", 2, "--context", 400) as (found, *_):
        yield found


def test_langchain(address):
    langchain = pytest.importorskip("langchain_openai")
    common = {"base_url": address + "/v1", "api_key": "x", "model": "teller", "max_tokens": 12}
    chat = langchain.ChatOpenAI(**common, seed=3)
    whole = chat.invoke("Tell me of a fox").content
    assert whole and "".join(chunk.content for chunk in chat.stream("Tell me of a fox")) == whole
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert chat.bind_tools([tool]).invoke("Hello").content
    assert langchain.OpenAI(**common).invoke("The fox")


def test_langchains_tools_that_must_be_called(address):
    langchain = pytest.importorskip("langchain_openai")
    pytest.importorskip("llguidance")
    chat = langchain.ChatOpenAI(base_url=address + "/v1", api_key="x", model="teller", max_tokens=150, seed=3)
    schema = {
        "title": "animal",
        "description": "An animal.",
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "fox"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["kind", "legs"],
        "additionalProperties": False,
    }
    found = chat.with_structured_output(schema, method="function_calling").invoke("Which animal?")
    assert found["kind"] in ("cat", "fox") and 0 <= found["legs"] <= 9
    (call,) = chat.bind_tools([schema], tool_choice="any", parallel_tool_calls=False).invoke("Which?").tool_calls
    assert call["name"] == "animal" and call["args"]["kind"] in ("cat", "fox")


@pytest.mark.parametrize("model", ["chat", "text"])
def test_llm(address, model, tmp_path):
    pytest.importorskip("llm")
    both = f"  model_name: teller\n  api_base: {address}/v1\n"
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: chat\n{both}- model_id: text\n{both}  completion: true\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "llm", "-m", model, "-o", "max_tokens", "12", "The fox"],
        capture_output=True,
        text=True,
        env=os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "x"},
    )
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
