"""The same training, written by hand in TensorFlow: ``python -m ... FUNCTION ARGUMENTS`` prints what comes of it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.update({"TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"})

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 7


def digits(epochs: str) -> dict[str, Any]:
    """A small convolutional network."""
    frame = load_digits(as_frame=True).frame
    learnt, test = train_test_split(frame, test_size=0.25, random_state=SEED)
    x, tx = (some.drop(columns="target").to_numpy(dtype=np.float32).reshape(-1, 8, 8, 1) for some in (learnt, test))
    y, ty = (some["target"].to_numpy() for some in (learnt, test))
    learn, kept = train_test_split(np.arange(len(x)), test_size=0.1, random_state=SEED)
    keras.utils.set_random_seed(SEED)
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3),
            keras.layers.Activation("relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(0.01)
    chance = np.random.default_rng(SEED)
    losses, validation = [], []
    for _ in range(int(epochs)):
        order = learn[chance.permutation(len(learn))]
        total = 0.0
        for first in range(0, len(order), 32):
            some = order[first : first + 32]
            with tf.GradientTape() as tape:
                loss = loss_of(y[some], net(x[some], training=True))
            variables = net.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            total += float(loss) * len(some)
        losses.append(total / len(order))
        validation.append(float(loss_of(y[kept], net(x[kept]))))
    scores = net(tx).numpy()
    return {
        "loss": losses,
        "validation loss": validation,
        "log loss": float(loss_of(ty, scores)),
        "accuracy": float(np.mean(scores.argmax(1) == ty)),
    }


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
