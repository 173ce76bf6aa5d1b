"""The same trainings, written by hand in PyTorch: ``python -m ... FUNCTION ARGUMENTS`` prints what comes of it."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from sklearn import metrics
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from app.visual.catalogue import FOLDER
from app.visual.engine.steps import library_class, parameters_of

SEED = 7


def train(net: nn.Module, x: Any, y: Any, loss_of: Any, optimizer: Any, epochs: int, batch: int) -> dict[str, Any]:
    """Losses by epoch, as they are while it learns and of the tenth of the rows that is kept back."""
    learn, kept = train_test_split(np.arange(len(x)), test_size=0.1, random_state=SEED)
    chance = np.random.default_rng(SEED)
    losses, validation = [], []
    for _ in range(epochs):
        net.train()
        total = 0.0
        for some in torch.from_numpy(learn[chance.permutation(len(learn))]).split(batch):
            optimizer.zero_grad()
            loss = loss_of(net(x[some]), y[some])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(some)
        losses.append(total / len(learn))
        net.eval()
        with torch.no_grad():
            validation.append(loss_of(net(x[kept]), y[kept]).item())
    return {"loss": losses, "validation loss": validation}


def digits(epochs: str) -> dict[str, Any]:
    """A small convolutional network."""
    frame = load_digits(as_frame=True).frame
    learnt, test = train_test_split(frame, test_size=0.25, random_state=SEED)
    x, tx = (
        torch.tensor(some.drop(columns="target").to_numpy(), dtype=torch.float32).reshape(-1, 1, 8, 8)
        for some in (learnt, test)
    )
    y, ty = (torch.tensor(some["target"].to_numpy()) for some in (learnt, test))
    torch.manual_seed(SEED)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    told = train(net, x, y, functional.cross_entropy, optimizer, int(epochs), 32)
    with torch.no_grad():
        scores = net(tx)
    return told | {
        "log loss": functional.cross_entropy(scores, ty).item(),
        "accuracy": (scores.argmax(1) == ty).float().mean().item(),
    }


def diabetes(epochs: str) -> dict[str, Any]:
    """A network of rows of numbers, with batch normalization and dropout."""
    frame = load_diabetes(as_frame=True).frame
    learnt, test = train_test_split(frame, test_size=0.25, random_state=SEED)
    scaler = StandardScaler().fit(learnt.drop(columns="target"))
    scaled = (scaler.transform(some.drop(columns="target")) for some in (learnt, test))
    x, tx = (torch.tensor(some, dtype=torch.float32) for some in scaled)
    mean, deviation = learnt["target"].mean(), learnt["target"].std(ddof=0)
    y = torch.tensor(((learnt["target"] - mean) / deviation).to_numpy(), dtype=torch.float32)[:, None]
    torch.manual_seed(SEED)
    net = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.LeakyReLU(0.1), nn.Dropout(0.2), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.005, weight_decay=0.01)
    told = train(net, x, y, functional.huber_loss, optimizer, int(epochs), 16)
    with torch.no_grad():
        predicted = net(tx)[:, 0].numpy().astype(float) * deviation + mean
    return told | {"MAE": metrics.mean_absolute_error(test["target"], predicted)}


def exported(archive: str) -> dict[str, Any]:
    """What a downloaded network of digits comes to without PyTorch: the share of all digits that it has right."""
    with zipfile.ZipFile(archive) as opened:
        model = onnx.load(io.BytesIO(opened.read("model.onnx")))
    data = load_digits()
    rows = data.data.astype(np.float32).reshape(-1, 1, 8, 8)
    (scores,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: rows})
    return {"accuracy": float(np.mean(scores.argmax(1) == data.target))}


def unknown_parameters() -> list[str]:
    """Parameters of components that the classes they are of do not know, and defaults that are not theirs."""
    wrong = []
    shared = json.loads((FOLDER / "parameters.json").read_text("utf-8"))["parameters"]
    for file in sorted((FOLDER / "pytorch").glob("*.json")):
        for one in json.loads(file.read_text("utf-8"))["components"]:
            if "of" not in one or one["uuid"] == "pytorch.input":
                continue
            known = parameters_of(library_class(one["of"]))
            for parameter in one.get("parameters", ()):
                name = parameter if isinstance(parameter, str) else parameter.get("name") or parameter["like"]
                if (shared[name]["name"] if isinstance(parameter, str) else name) not in known:
                    wrong.append(f"{one['uuid']}: {name}")
    return wrong


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
