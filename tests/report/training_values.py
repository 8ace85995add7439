"""One whole training as plain values: a student of two teachers, with labels or without."""

import copy
import math

from report_values import HOSTILE, VALUES

EPOCHS, POINTS = 20, 25


def point(place):
    over = (place + 1) / POINTS
    imitation, relation = 0.9 * math.exp(-over / 4) + 0.05, 0.3 * math.exp(-over / 6) + 0.01
    parts = {"imitation": imitation, "relation": relation}
    parts |= {"second teacher": 0.2 * math.exp(-(over - 10) / 5) + 0.02} if over > 10 else {}
    rate = 0.001 * 0.5 * (1 + math.cos(math.pi * over / EPOCHS))
    ripple = 1 + 0.05 * math.sin(place)
    return {
        "step": 50 * (place + 1),
        "epoch": over,
        "loss": sum(parts.values()) * ripple,
        "rate": rate,
        "gradient": 0.3 + 2 * math.exp(-over) * ripple,
        "parts": parts,
    }


def epoch(number):
    learnt = 1 - math.exp(-min(number, 18) / 6)
    worse = 0.001 * max(number - 18, 0)
    return {
        "epoch": number,
        "step": 50 * POINTS * number,
        "loss": 1.3 * math.exp(-number / 5) + 0.1,
        "seconds": 401.25,
        "cosine_mean": 0.95 * learnt - worse,
        "pair_accuracy": 0.6 + 0.38 * learnt - worse,
        "eer": 0.4 - 0.38 * learnt,
        "tar": {"1e-1": 0.95 * learnt, "1e-2": 0.9 * learnt, "1e-3": 0.8 * learnt},
    }


TRAINING_VALUES = {
    "version": 1,
    "command": "qface train --student pocketnet-s-128 --teacher resnet100.pt --data faces --out student",
    "student": {
        "name": "pocketnet-s-128",
        "sha256": "a" * 64,
        "parameters": 925_632,
        "embedding_size": 128,
        "input_size": [112, 112],
        "mean": [127.5, 127.5, 127.5],
        "std": [128.0, 128.0, 128.0],
        "color": "rgb",
    },
    "teachers": [
        {"name": "arcface-r100", "sha256": "b" * 64, "embedding_size": 512, "from_epoch": 1, "license": "MIT"},
        {"name": "adaface-r50", "sha256": "c" * 64, "embedding_size": 512, "from_epoch": 11},
    ],
    "data": {
        "kind": "folder",
        "name": "crops",
        "examples": 120_000,
        "identities": 3_000,
        "sha256": "d" * 64,
        "contains_no_real_face_data": False,
        "held_out": 4_000,
        "details": {"aligned": True, "sizes": [112, 112]},
    },
    "recipe": {"student": "pocketnet-s-128", "optimizer": {"kind": "sgd", "rate": 0.1}, "steps": [{"epochs": 20}]},
    "points": [point(place) for place in range(EPOCHS * POINTS)],
    "epochs": [epoch(number) for number in range(1, EPOCHS + 1)],
    "skipped_count": 2,
    "skipped": [{"name": "p7/3.jpg", "why": "no JPEG"}, {"name": "p9/1.png", "why": "cut short"}],
    "finished": "no better for 2 epochs",
    "chosen_epoch": 18,
    "steps": 25_000,
    "images": 2_400_000,
    "seconds": 8025.0,
    "peak_memory_bytes": 3 * 2**30,
    "resumed": 1,
    "ranks": 2,
    "environment": {**VALUES["environment"], "versions": {"qface_toolkit": "0.9", "torch": "2.13.0"}},
    "notes": ["the last batch of an epoch is left out"],
}


def unlabelled(values):
    """Return the values of a training on images of unknown people: only the cosine can be measured."""
    values["data"] |= {"identities": 0, "contains_no_real_face_data": None, "details": {}}
    for one in values["epochs"]:
        learnt = 1 - math.exp(-one["epoch"] / 6)
        one |= {"cosine_mean": 0.95 * learnt, "pair_accuracy": None, "eer": None, "tar": {}}
    return values | {"chosen_epoch": EPOCHS, "finished": "all epochs", "resumed": 0, "ranks": 1}


def unjudged(values):
    """Return the values of a training that held nothing out."""
    values = unlabelled(values)
    values["data"]["held_out"] = 0
    for one in values["epochs"]:
        one["cosine_mean"] = None
    return values


def hostile_training(values):
    """Return the values with hostile text wherever text may be any."""
    values = copy.deepcopy(values)
    values["student"] |= {"name": HOSTILE, "license": HOSTILE, "started_from": HOSTILE}
    for one in values["teachers"]:
        one |= {"name": HOSTILE, "license": HOSTILE}
    values["data"] |= {"name": HOSTILE, "kind": HOSTILE, "details": {HOSTILE: [HOSTILE]}}
    values["recipe"] = {HOSTILE: {HOSTILE: [HOSTILE, {HOSTILE: None}]}}
    values["skipped"] = [{"name": HOSTILE, "why": HOSTILE}]
    for one in values["points"]:
        one["parts"] = {HOSTILE: 0.5, "_$x$": 0.25}
    for one in values["epochs"]:
        one["snapshot"] = HOSTILE
    values["environment"] = {**values["environment"], "cpu": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    return values | {"command": HOSTILE, "finished": HOSTILE, "device": HOSTILE, "notes": [HOSTILE]}
