"""The benchmark's arithmetic and what it shows: active bytes, statistics, shares, ratios, tables, the plot."""

import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from pipeline.benching import bandwidth, plot, report, steps
from pipeline.benching.traffic import Traffic
from pipeline.benching.workloads import Result, Workload


def test_experts_of_a_batch():
    """One row reads top_k; many rows read all; two rows of 2 in 4 choose 3 on average, if uniformly."""
    counts = Traffic(0, 1.0, 0, {}, experts=4, top_k=2)
    assert counts.distinct_experts(1) == 2
    assert counts.distinct_experts(2) == 3
    assert counts.distinct_experts(1000) == pytest.approx(4)
    assert counts.per_token(2, 0) == 1.5
    assert Traffic(6, 0.0, 1, {}).per_token(2, 0) == 4


def test_statistics_of_a_result():
    result = Result("onebuf", Workload("tg", 10, 2), [2.0, 1.0, 4.0])
    assert result.rates == [10, 20, 5]
    assert result.mean == pytest.approx(35 / 3)
    assert result.sigma == pytest.approx(np.std([10, 20, 5], ddof=1))
    assert result.median == 10
    assert Result("onebuf", Workload("tg", 10, 2), [2.0]).sigma == 0


GROUPS = {
    "layers.0.q_proj+k_proj+v_proj": "projections",
    "layers.11.o_proj": "projections",
    "layers.0.heads_to_cache": "attention",
    "layers.0.attention": "attention",
    "layers.3.gate": "attention",
    "layers.0.in_proj_qkv+in_proj_b+in_proj_a": "projections",
    "row_links.repeats": "recurrent",
    "layers.0.causal_conv": "recurrent",
    "layers.0.gated_delta": "recurrent",
    "layers.0.gated_norm": "recurrent",
    "rope_table": "attention",
    "layers.0.router.logits": "router",
    "layers.0.router": "router",
    "layers.3.experts.gate_up": "experts",
    "layers.0.post_norm": "norms",
    "final_norm": "norms",
    "logits": "head",
    "sample.parts": "sampling",
    "layers.0.mlp.gate_up": "mlp",
    "layers.0.mlp.down": "mlp",
    "layers.2.experts.shared.gate_up": "mlp",
    "layers.2.experts.shared.gate": "mlp",
    "layers.3.experts.down": "experts",
    "layers.1.kv_a_proj": "projections",
    "layers.1.v_proj": "projections",
    "layers.1.latent_to_cache": "attention",
    "layers.1.attention.absorb": "projections",
    "layers.1.attention.values": "projections",
    "rope_sliding": "attention",
    "layers.4.pre_mlp_norm+router_norm+pre_experts_norm": "norms",
    "layers.1.q_norm": "norms",
    "sample": "sampling",
    "embed": "other",
    "clear_status": "other",
}


def test_groups_of_steps():
    assert {step: steps.group_of(step) for step in GROUPS} == GROUPS


def made_report(peer_too):
    work = Workload("tg", 10, 1, 4)
    results = [Result("onebuf", work, [1.0, 2.0, 1.0]), Result("onebuf", Workload("pp", 10, 1), [1.0])]
    if peer_too:
        results.insert(1, Result("llama.cpp", work, [2.0, 2.0, 2.0]))
    return report.Report(
        model={"name": "m", "layers": 1, "vocab": 16, "bytes": 1},
        device={"name": "cpu", "hardware": "h", "isa": "avx2", "threads": 2},
        settings={},
        bandwidth=bandwidth.Bandwidth("kernel", 1 << 20, [1000.0, 4000.0, 2000.0]),
        traffic=Traffic(shared=100, expert=10.0, row=1, windows={0: 2}, experts=4, top_k=2),
        results=results,
        steps=[steps.StepTimes(work, dict.fromkeys(steps.GROUPS, 0.01) | {"mlp": 0.0, "recurrent": 0.0}, 0.1)],
        peer={"name": "llama.cpp", "version": "1"} if peer_too else None,
    )


def test_shares_and_ratios():
    made = made_report(peer_too=True)
    text, other, prompt = made.results
    active = 100 + 2 * 10 + 1 + 9.5 * 2
    assert made.active_bytes(text) == active
    assert made.share(text) == active * 10 / 4000
    assert made.ratio(text) == 2
    assert (
        [made.active_bytes(each) for each in (other, prompt)]
        == [made.share(prompt), made.ratio(prompt)]
        == [None, None]
    )
    assert made.steps[0].between == pytest.approx(0.02)


@pytest.mark.parametrize("peer_too", [False, True])
def test_plain_tables(peer_too):
    out = io.StringIO()
    report.show(made_report(peer_too), out)
    text = out.getvalue()
    assert "each dispatch in a command buffer of its own" in text
    assert "tg10 @ d4" in text and "between them" in text and "\x1b" not in text
    assert "router" in text and "mlp" not in text  # of which the model has no dispatch
    assert ("× peer" in text) == peer_too


def test_the_heading_of_a_gpu():
    """It has no threads of its own; the peer says how it ran."""
    made = made_report(peer_too=True)
    made.device = {"name": "cuda:0", "hardware": "NVIDIA H200", "isa": "sm_90a", "threads": 0}
    made.peer |= {"how": "all layers on the GPU"}
    first, _, last = report.heading(made)
    assert first.endswith("device cuda:0 (NVIDIA H200, sm_90a)")
    assert last == "llama.cpp 1: all layers on the GPU"
    assert report.heading(made_report(peer_too=True))[0].endswith("(h, avx2), 2 threads")


def drawn(results):
    """(root of the plot, its texts, how often each tag comes)."""
    root = ElementTree.fromstring(plot.svg(results, "a & b", "c"))
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    return root, [element.text for element in root.iter() if element.text], tags


def sweep(batches, contexts, tokens=8):
    return [
        Result(side, Workload("tg", tokens, batch, context), [1.0 + batch, 2.0])
        for side in ("onebuf", "a<b")
        for batch in batches
        for context in contexts
    ]


def test_a_plot_shows_every_point():
    results = sweep((1, 8), (0, 64, 512))
    root, texts, tags = drawn(results)
    assert tags.count("circle") == 2 * len(results)
    assert tags.count("polyline") == 2 * 2 + 2 * 3
    assert {"a & b", "c", "onebuf", "a<b", "batch 8", "context 512"} <= set(texts)
    for element in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(element.get("cx")) <= plot.WIDTH and 0 <= float(element.get("cy")) <= plot.HEIGHT


def test_a_panel_for_each_axis_that_varies():
    for batches, contexts, panels in (((1,), (0, 64), 1), ((1, 2), (64,), 1), ((1, 2), (0, 64), 2), ((1,), (0,), 1)):
        root, texts, tags = drawn(sweep(batches, contexts))
        assert tags.count("g") == panels and root.get("width") == str(panels * plot.WIDTH)
        assert texts.count("tok/s") == panels


def test_a_point_that_no_line_goes_through_is_left_to_the_other_panel():
    """Contexts of one sequence, and batches at one context: no lone points beside the lines."""
    results = sweep((1,), (128, 512, 4096)) + sweep((8, 32), (128,))
    _, texts, tags = drawn(results)
    assert tags.count("polyline") == 4 and tags.count("circle") == 2 * (3 + 3)
    assert [text for text in texts if text.startswith(("batch ", "context "))] == ["batch 1"] * 2 + ["context 128"] * 2


def test_several_lengths_are_told_apart():
    _, texts, _ = drawn(sweep((1,), (0, 64), 8) + sweep((1,), (0, 64), 16))
    assert {"tg8, batch 1", "tg16, batch 1"} <= set(texts)


def test_labels_keep_apart_and_inside():
    assert plot._apart([10, 11, 50], 100) == [10, 10 + plot.LABEL, 50]
    close = plot._apart([95.0] * 5, 100)
    assert close[-1] <= 100 and all(b - a >= plot.LABEL for a, b in zip(close, close[1:]))


def test_ticks_of_a_batch_axis_are_doublings():
    across = plot._Scale([1, 2, 4, 32], 0, 100, logarithmic=True)
    assert [across(value) for value in (1, 2, 4, 32)] == pytest.approx([0, 20, 40, 100])


def test_ticks_without_room_are_left_out():
    across = plot._Scale([0, 4096], 0, 100)
    texts = [part for part in plot._bottom_ticks([0, 1, 4096], across) if part.startswith("<text")]
    assert [">4,096<" in text or ">1<" in text for text in texts] == [True, True]
