"""Exported models: one graph that predicts as the model does, in torch's format and in ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bench
from bench.results.files import WriteError
from bench.training import exported_model
from methods.core.errors import UserError
from tests import toys  # noqa: F401  (registers the toys)

IMAGES = torch.arange(5 * 64).remainder(17).to(torch.uint8).view(5, 1, 8, 8)
RUNS = {
    "ssvi": {"method": "ssvi", "network.hidden": [32]},
    "ssvi, kernels": {"method": "ssvi", "network.hidden": [256], "sparsity": 0.98},
    "convolutions": {"method": "ssvi", "network": "cnn", "network.channels": [4, 6]},
    "attention": {"method": "dense_vi", "network": "vit"},
    "dense_vi": {"method": "dense_vi", "network.hidden": [16]},
    "lbbnn": {"method": "lbbnn", "network.hidden": [16]},
    "rigl": {"method": "rigl", "network.hidden": [32]},
    "mc_dropout": {"method": "mc_dropout", "network.hidden": [16]},
    "ensemble": {"method": "ensemble", "members": 2, "network.hidden": [16]},
    "double": {"method": "ssvi", "network.hidden": [16], "precision": "float64"},
    "tables": {"method": "ssvi", "dataset": "toy_blobs", "network": "toy_network"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the trained model of a name in ``RUNS``, and inputs for it."""
    root, models = tmp_path_factory.mktemp("export"), {}

    def model(name):
        if name not in models:
            settings = {"epochs": 1, "samples": 2, "max_steps": 20, "batch_size": 32, **RUNS[name]}
            models[name] = bench.train(results=root / "results", **settings).model
        inputs = torch.linspace(-2, 2, 40).view(5, 8) if name == "tables" else IMAGES
        return models[name], inputs

    return model


#: The others take longer.
QUICK = ("ssvi", "mc_dropout", "ensemble")


def names(found, quick):
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in found]


@pytest.mark.parametrize("name", names(RUNS, QUICK))
def test_a_program_predicts_as_the_model(name, model, tmp_path):
    trained, inputs = model(name)
    before = trained.predict(inputs)
    for samples in (None, 1):
        program = trained.program(samples)
        for count in (1, 2, 5):
            expected = trained.predict(inputs[:count], samples)
            torch.testing.assert_close(program.module()(inputs[:count]), expected, atol=2e-6, rtol=0)
    if name != "ensemble":
        torch.testing.assert_close(
            trained.program(mean=True).module()(inputs), trained.mean(inputs), atol=2e-6, rtol=0
        )
    assert torch.equal(trained.predict(inputs), before)  # the model itself is not changed
    trained.export(tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(loaded(inputs), before, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "name", names(["ssvi", "convolutions", "attention", "mc_dropout", "ensemble", "tables"], QUICK[:1])
)
def test_an_onnx_file_predicts_as_the_model(name, model, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    trained, inputs = model(name)
    path = tmp_path / "model.onnx"
    for how, expected in [
        ({}, trained.predict(inputs)),
        ({"samples": 3}, trained.predict(inputs, 3)),
        *([({"mean": True}, trained.mean(inputs))] if name != "ensemble" else []),
    ]:
        trained.export(path, **how)
        session = runtime.InferenceSession(str(path))
        for count in (1, 5):
            (found,) = session.run(["probabilities"], {"inputs": inputs[:count].numpy()})
            np.testing.assert_allclose(found, expected[:count].numpy(), atol=5e-6)


def test_what_cannot_be_exported_is_one_line(model, tmp_path, monkeypatch):
    trained, _ = model("ssvi")
    with pytest.raises(UserError, match=r"unknown format '\.h5'; valid: onnx, pt2"):
        trained.export(tmp_path / "model.h5")
    with pytest.raises(UserError, match="samples: 0 is not a positive whole number"):
        trained.export(tmp_path / "model.pt2", samples=0)
    with pytest.raises(UserError, match="ensemble has no mean network"):
        model("ensemble")[0].export(tmp_path / "model.pt2", mean=True)
    with pytest.raises(WriteError, match="missing"):
        trained.export(tmp_path / "missing" / "model.pt2")
    monkeypatch.setattr(exported_model, "PACKAGES", ("not_installed",))
    with pytest.raises(
        UserError, match=r"ONNX needs the package not_installed: pip install 'ssvi-bench\[onnx\]'"
    ):
        trained.export(tmp_path / "model.onnx")
    monkeypatch.setattr(
        exported_model.Graph, "forward", lambda self, inputs: inputs if inputs.sum() > 0 else -inputs
    )
    with pytest.raises(UserError, match="can't be written as one graph") as told:
        trained.export(tmp_path / "model.pt2")
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())
