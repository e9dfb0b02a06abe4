"""decide/laya…: a small model written by laya's own trainer, loaded from a folder and from the Hub's cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import DEGREE, GATE, codebook_of, task_of

import nbannot
from nbannot.asking.decisions import as_system_one, typed_questions
from nbannot.errors import ModelError

TOPIC = {"name": "Topic", "type": "dropdown", "options": ["road", "tax", "other"]}


def made(folder: Path) -> None:
    """Write a checkpoint of a few kilobytes with random weights and a tokenizer of bytes."""
    import torch
    from laya.common import DecisionModel
    from laya.train import save_checkpoint
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    marks = {"[PAD]": 256, "[UNK]": 257, "[CLS]": 258, "[SEP]": 259, "[MASK]": 260}
    words = Tokenizer(models.BPE(vocab=letters | marks, merges=[], unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                    sep_token="[SEP]", mask_token="[MASK]")  # fmt: skip
    shape = BertConfig(vocab_size=261, hidden_size=64, num_hidden_layers=1, num_attention_heads=1,
                       intermediate_size=64, max_position_embeddings=600)  # fmt: skip
    settings = {"encoder": "made here", "head_layers": 1, "max_len": 500, "head_max_len": 300,
                "act_costs": {}, "temperature": [1.0, 1.0, 1.0]}  # fmt: skip
    save_checkpoint(DecisionModel(BertModel(shape), 1, 1), whole, settings, str(folder))


def test_laya_from_a_folder_and_from_the_hub_at_a_revision(tmp_path, monkeypatch):
    laya = pytest.importorskip("laya")
    commit, hub = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub"
    place = hub / "models--convaiinnovations--laya"
    weights = place / "snapshots" / commit
    made(weights)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(hub))
    task = task_of(4, codebook_of(GATE, TOPIC, DEGREE))
    folder = tmp_path / "checkpoint"
    shutil.copytree(weights, folder)
    runs = [
        nbannot.run(task, model=f"decide/{name}", output_root=str(tmp_path / str(number)))
        for number, name in enumerate(("laya", f"laya@{commit}", str(folder)))
    ]
    assert runs[0].coding.count() == {"ok": 12}
    assert runs[0].coding.answers == runs[1].coding.answers == runs[2].coding.answers
    assert runs[0].run_id == runs[1].run_id, "the same weights are the same model"
    info = runs[0].config["model_info"]
    assert info["details"]["revision"] == commit
    assert info["digest"] == runs[2].config["model_info"]["digest"]
    forms = {q.name: as_system_one(q) for q in typed_questions(list(task.codebook))}
    told = laya.load(str(folder)).predict_batch([task.texts[0]], forms)[0]["answers"]
    shares = {name: runs[0].coding.answers[f"S_{name}"][0].probabilities for name in forms}
    assert shares["Gate"][1] == pytest.approx(told["Gate"]["noul"], abs=1e-4), "of yes, not of no"
    for name in ("Topic", "Degree"):
        assert shares[name] == pytest.approx(tuple(told[name]["probabilities"].values()), abs=2e-4)
    config = folder / "rl_agent_config.json"
    whole = config.read_text()
    for size in ("150", "70"):  # in the smaller one the dropdown finds no room even without a text
        config.write_text(whole.replace("500", size))
        short = nbannot.run(task, model=f"decide/{folder}", output_root=str(tmp_path / size))
        assert {a.status for a in short.coding.answers["S_Gate"]} == {"not_asked"}, (
            "nothing is cut in silence"
        )
        assert short.config["model_info"]["digest"] != info["digest"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="weights of decide/laya-huge cannot be had"):
        nbannot.run(task, model="decide/laya-huge", output_root=str(tmp_path / "no"))


def test_laya_without_its_package_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(ModelError, match=r"pip install \"nbannot\[laya\]\""):
        nbannot.run(task_of(1, codebook_of(GATE)), model="decide/laya", output_root=str(tmp_path))
