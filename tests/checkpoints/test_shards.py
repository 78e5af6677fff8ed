"""The weight files of a folder: with an index, without one, and with one that is out of date."""

import json

import numpy
import pytest
from support.checkpoints import write_tensors

from pipeline.checkpoints.opening import open_checkpoint
from pipeline.checkpoints.shards import INDEX
from pipeline.errors import CheckpointError

CONFIG = {"model_type": "qwen3_moe", "bos_token_id": 0, "eos_token_id": 0}


def refuse(path, *words):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path).close()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.fixture
def sharded(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    write_tensors(tmp_path / "one.safetensors", {"a": numpy.full(3, 1, numpy.float32)})
    write_tensors(tmp_path / "two.safetensors", {"b": numpy.full(2, 2, numpy.uint16)})
    write_index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    return tmp_path


def write_index(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_shards(sharded):
    with open_checkpoint(sharded) as checkpoint:
        assert checkpoint.tensors["b"].file == sharded / "two.safetensors"
        assert checkpoint.view("a").tolist() == [1, 1, 1] and checkpoint.view("b").tolist() == [2, 2]


def test_shards_through_links(sharded, tmp_path_factory):
    links = tmp_path_factory.mktemp("links")
    for file in sharded.iterdir():
        (links / file.name).symlink_to(file)
    with open_checkpoint(links) as checkpoint:
        assert checkpoint.view("a").tolist() == [1, 1, 1]


@pytest.mark.parametrize("weight_map", [None, [], {}, "x"])
def test_index_without_a_map(sharded, weight_map):
    write_index(sharded, weight_map)
    refuse(sharded, "index.json", "weight_map")


@pytest.mark.parametrize(
    "file", ["../one.safetensors", "/etc", "a/b", "..", ".", "", 3, None, "x\0y", "a\\b", "x" * 256, "\ud800"]
)
def test_index_cannot_point_elsewhere(sharded, file):
    write_index(sharded, {"a": file})
    refuse(sharded, '"a"', "no file name")


def test_missing_shards_are_listed(sharded):
    write_index(sharded, {"a": "one.safetensors"} | {f"t{i}": f"part-{i:02}.safetensors" for i in range(20)})
    refuse(sharded, "20 of the 21 files", "index.json", *(f"part-{i:02}.safetensors" for i in range(20)), "download")


def test_shard_without_its_tensor(sharded):
    write_index(sharded, {"a": "one.safetensors", "c": "one.safetensors"})
    refuse(sharded, "one.safetensors", "'c'")


def values(folder):
    with open_checkpoint(folder) as checkpoint:
        return {name: checkpoint.view(name).tolist() for name in checkpoint.tensors}, checkpoint.note


BOTH = {"a": [1, 1, 1], "b": [2, 2]}


@pytest.mark.parametrize(
    "weight_map, out_of_date",
    [
        ({"a": "two.safetensors", "b": "one.safetensors"}, False),  # the files are right, the places are not
        ({"a": "one.safetensors", "b": "one.safetensors"}, True),
        ({"a": "gone.safetensors", "b": "gone.safetensors"}, True),
        ({"a": "gone.safetensors", "b": "two.safetensors"}, True),
    ],
)
def test_index_that_is_out_of_date(sharded, weight_map, out_of_date):
    """All its tensors are in the folder, so the files are complete."""
    write_index(sharded, weight_map)
    tensors, note = values(sharded)
    assert tensors == BOTH and ("out of date" in (note or "")) == out_of_date


def number(folder, *names, index=None):
    """The two shards under these names, and no index, or one with these names of files."""
    for old, new in zip(("one.safetensors", "two.safetensors"), names):
        (folder / old).rename(folder / new)
    (folder / INDEX).unlink()
    if index is not None:
        write_index(folder, {f"t{i}": file for i, file in enumerate(index)})


@pytest.mark.parametrize(
    "names",
    [
        ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        ("model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors"),
        ("model.safetensors-1-of-2.safetensors", "model.safetensors-2-of-2.safetensors"),
        ("weights.00.safetensors", "weights.01.safetensors"),
        ("model-a.safetensors", "model-b.safetensors"),
    ],
)
def test_shards_without_an_index(sharded, names):
    number(sharded, *names)
    assert values(sharded) == (BOTH, None)


@pytest.mark.parametrize("name", ["model-00001-of-00001.safetensors", "anything.safetensors"])
def test_one_file_of_any_name(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    write_tensors(tmp_path / name, {"a": numpy.full(3, 1, numpy.float32)})
    assert values(tmp_path) == ({"a": [1, 1, 1]}, None)


def test_other_files_beside_the_shards(sharded):
    number(sharded, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    write_tensors(sharded / "consolidated.safetensors", {"a": numpy.full(3, 9, numpy.float32)})
    write_tensors(sharded / "adapter-00001-of-00001.safetensors", {"a": numpy.full(3, 9, numpy.float32)})
    assert values(sharded) == (BOTH, None)


def test_numbered_shards_win_over_an_index_of_other_files(sharded):
    """As after a conversion into the folder of a download, of which only the index stayed."""
    names = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    number(sharded, *names, index=[f"model-{i:05}-of-00009.safetensors" for i in range(1, 10)])
    tensors, note = values(sharded)
    assert tensors == BOTH and "out of date" in note
    (sharded / names[1]).rename(sharded / "model-00002-of-00009.safetensors")
    refuse(sharded, "8 of the 9 files", "model-00001-of-00009.safetensors", "download")


def test_a_download_that_goes_on_is_not_taken_for_an_old_one(sharded):
    """The index names a set of which some files are there: an older, complete set is not what was asked for."""
    names = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    number(sharded, *names, index=["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"])
    write_tensors(sharded / "model-00001-of-00003.safetensors", {"t0": numpy.full(3, 9, numpy.float32)})
    refuse(sharded, "1 of the 2 files", "model-00002-of-00003.safetensors", "download")


def test_incomplete_shards_without_an_index(sharded):
    number(sharded, "model-00001-of-00004.safetensors", "model-00003-of-00004.safetensors")
    refuse(sharded, "not found: model-00002-of-00004.safetensors, model-00004-of-00004.safetensors", "download")


def test_two_sets_of_shards_without_an_index(sharded):
    number(sharded, "model-00001-of-00001.safetensors", "model-1-of-1.safetensors")
    refuse(sharded, "several sets", "model-00001-of-00001.safetensors", "model-1-of-1.safetensors")
    (sharded / "model-1-of-1.safetensors").unlink()
    write_tensors(sharded / "model-00001-of-00001.safetensors", {})
    (sharded / "model-00001-of-00001.safetensors").rename(sharded / "model-b.safetensors")
    write_tensors(sharded / "model-c.safetensors", {"a": numpy.full(3, 9, numpy.float32)})
    write_tensors(sharded / "model-d.safetensors", {"a": numpy.full(3, 9, numpy.float32)})
    refuse(sharded, "model-d.safetensors", '"a"', "model-c.safetensors, too")


def test_a_damaged_file_does_not_stand_in_for_what_an_index_names(sharded):
    write_index(sharded, {"a": "one.safetensors", "b": "gone.safetensors"})
    (sharded / "two.safetensors").write_bytes(b"\0" * 4)
    refuse(sharded, "gone.safetensors", "download")


def test_tensor_in_two_shards(sharded):
    write_tensors(
        sharded / "two.safetensors", {"b": numpy.full(2, 2, numpy.uint16), "a": numpy.full(3, 9, numpy.float32)}
    )
    refuse(sharded, "two.safetensors", '"a"', "one.safetensors, too")


def test_tensor_that_the_index_forgets_is_extra(sharded):
    write_tensors(
        sharded / "two.safetensors", {"b": numpy.full(2, 2, numpy.uint16), "c": numpy.full(3, 9, numpy.float32)}
    )
    with open_checkpoint(sharded) as checkpoint:
        checkpoint.view("a"), checkpoint.view("b")
        assert checkpoint.unused == ("c",)


def test_truncated_shard(sharded):
    whole = (sharded / "one.safetensors").read_bytes()
    (sharded / "one.safetensors").write_bytes(whole[:-1])
    refuse(sharded, "one.safetensors", '"a"', "truncated")
