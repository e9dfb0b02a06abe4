"""decide/decima-…: a small model in the format of decima-ai, loaded from a folder and from a cache of the Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import DEGREE, GATE, codebook_of, task_of

import nbannot
from nbannot.asking.decisions import as_system_one, typed_questions
from nbannot.errors import ModelError

TOPIC = {"name": "Topic", "type": "dropdown", "options": ["road", "tax", "other"]}
LONG = {"name": "Long", "type": "likert", "min_value": 0, "max_value": 10}


def made(folder: Path) -> None:
    """Write an encoder that looks tokens up, a scorer that multiplies means, and a tokenizer of bytes."""
    import numpy as np
    import onnx
    from onnx import TensorProto as Kind
    from onnx import helper as h
    from onnx.numpy_helper import from_array
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True)
    width, table = 8, np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)

    def info(name, kind, shape):
        return h.make_tensor_value_info(name, kind, shape)

    def save(name, nodes, inputs, outputs, constants):
        graph = h.make_graph(nodes, name, inputs, outputs, constants)
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / f"{name}.onnx")

    save(
        "encoder",
        [h.make_node("Gather", ["table", "input_ids"], ["states"], axis=0)],
        [info("input_ids", Kind.INT64, ["b", "l"]), info("attention_mask", Kind.INT64, ["b", "l"])],
        [info("states", Kind.FLOAT, ["b", "l", width])],
        [from_array(table, "table")],
    )
    mean = [
        node
        for of in ("state", "choice")
        for node in (
            h.make_node("Cast", [f"{of}_mask"], [f"{of}_m"], to=Kind.FLOAT),
            h.make_node("Unsqueeze", [f"{of}_m", "two"], [f"{of}_m3"]),
            h.make_node("Mul", [f"{of}_h", f"{of}_m3"], [f"{of}_x"]),
            h.make_node("ReduceMean", [f"{of}_x"], [f"{of}_v"], axes=[1], keepdims=0),
        )
    ]
    product = [
        h.make_node("Identity", ["choice_v"], ["z"]),
        h.make_node("Mul", ["choice_v", "state_v"], ["p"]),
        h.make_node("ReduceSum", ["p", "one"], ["s"], keepdims=0),
    ]
    save(
        "scorer",
        mean + product,
        [
            info("state_h", Kind.FLOAT, [1, "l", width]),
            info("state_mask", Kind.INT64, [1, "l"]),
            info("choice_h", Kind.FLOAT, ["n", "k", width]),
            info("choice_mask", Kind.INT64, ["n", "k"]),
        ],
        [info("s", Kind.FLOAT, ["n"]), info("z", Kind.FLOAT, ["n", width])],
        [from_array(np.array([number], np.int64), name) for number, name in ((1, "one"), (2, "two"))],
    )
    ordinal = {"ord_g_w": [0.1] * width, "ord_g_b": 0.0, "ord_gap_w": [0.1] * width, "ord_gap_b": 0.0}
    settings = {"max_state_tokens": 200, "max_choice_tokens": 48, "temperature": 0.05, "ordinal": ordinal}
    (folder / "decima.json").write_text(
        json.dumps(settings | {"question_in_state": True, "choice_fit": True}), encoding="utf-8"
    )
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = Tokenizer(models.BPE(vocab=letters | {"<pad>": 256, "<unk>": 257}, merges=[], unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    whole.save_pretrained(folder / "tokenizer")


def test_decima_from_a_folder_and_from_the_hub_at_a_revision(tmp_path, monkeypatch):
    decima = pytest.importorskip("decima")
    pytest.importorskip("onnx")
    from decima.systemone import system_one

    commit, hub = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub"
    place = hub / "models--amyrmahdy--decima-small"
    weights = place / "snapshots" / commit / "onnx" / "int8"
    made(weights)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(hub))
    task = task_of(4, codebook_of(GATE, TOPIC, DEGREE, LONG))
    folder = tmp_path / "exported"
    shutil.copytree(weights, folder)
    runs = [
        nbannot.run(task, model=f"decide/{name}", output_root=str(tmp_path / str(number)))
        for number, name in enumerate(("decima-small", f"decima-small@{commit}", str(folder)))
    ]
    assert runs[0].coding.count() == {"ok": 16}
    assert runs[0].coding.answers == runs[1].coding.answers == runs[2].coding.answers
    assert runs[0].run_id == runs[1].run_id, "the same weights are the same model"
    info = runs[0].config["model_info"]
    assert info["details"]["revision"] == commit
    assert info["digest"] == runs[2].config["model_info"]["digest"]
    assert runs[0].config["capabilities"]["scales_asked_as_choice"] == ["S_Long"]
    own = decima.runtime.DecimaOnnx(folder, threads=1)
    forms = {
        q.name: as_system_one(q) for q in typed_questions([task.codebook[name] for name in ("Gate", "Topic")])
    }
    told = system_one(own, task.texts[0], forms)
    shares = {name: runs[0].coding.answers[f"S_{name}"][0].probabilities for name in forms}
    assert shares["Gate"][1] == pytest.approx(told["Gate"]["noul"], abs=1e-4), "of yes, not of no"
    assert shares["Topic"] == pytest.approx(tuple(told["Topic"]["probabilities"].values()), abs=1e-4)
    (folder / "decima.json").write_text((folder / "decima.json").read_text().replace("200", "60"))
    short = nbannot.run(task, model=f"decide/{folder}", output_root=str(tmp_path / "short"))
    assert {a.status for a in short.coding.answers["S_Gate"]} == {"not_asked"}, "nothing is cut in silence"
    assert short.config["model_info"]["digest"] != info["digest"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="weights of decide/decima-huge cannot be had"):
        nbannot.run(task, model="decide/decima-huge", output_root=str(tmp_path / "no"))


def test_decima_without_its_package_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(ModelError, match=r"pip install \"nbannot\[decima\]\""):
        nbannot.run(task_of(1, codebook_of(GATE)), model="decide/decima-small", output_root=str(tmp_path))
