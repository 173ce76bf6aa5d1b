"""What :data:`benchmarks.experiments.PIPELINE` does, as somebody would write it: ``python -P plain_pipeline.py SEED``.

Prints what it came to as JSON. It knows nothing of ours.
"""

import json
import sys
from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

seed = int(sys.argv[1])
features, target = load_breast_cancer(return_X_y=True, as_frame=True)
labels = target.map({0: "malignant", 1: "benign"})
train, test, train_labels, test_labels = train_test_split(features, labels, test_size=0.3, random_state=seed)
preparation = make_pipeline(SimpleImputer(), StandardScaler(), SelectKBest(k=20)).set_output(transform="pandas")
prepared = preparation.fit_transform(train, train_labels)
prepared_test = preparation.transform(test)


def judged(model: Any) -> dict[str, Any]:
    predicted, told = model.predict(prepared_test), model.predict_proba(prepared_test)
    positive = model.classes_[1]
    return {
        "accuracy": metrics.accuracy_score(test_labels, predicted),
        "balanced accuracy": metrics.balanced_accuracy_score(test_labels, predicted),
        "precision": metrics.precision_score(test_labels, predicted, pos_label=positive),
        "recall": metrics.recall_score(test_labels, predicted, pos_label=positive),
        "f1": metrics.f1_score(test_labels, predicted, pos_label=positive),
        "ROC AUC": metrics.roc_auc_score(test_labels == positive, told[:, 1]),
        "log loss": metrics.log_loss(test_labels, told),
        "report": metrics.precision_recall_fscore_support(test_labels, predicted),
        "confusion": metrics.confusion_matrix(test_labels, predicted),
        "ROC curve": metrics.roc_curve(test_labels == positive, told[:, 1]),
        "precision-recall curve": metrics.precision_recall_curve(test_labels == positive, told[:, 1]),
    }


learnt = LogisticRegression(random_state=seed).fit(prepared, train_labels)
trees = RandomForestClassifier(random_state=seed).fit(prepared, train_labels)
folds = cross_validate(
    make_pipeline(SimpleImputer(), StandardScaler(), SelectKBest(k=20), LogisticRegression(random_state=seed)),
    train,
    train_labels,
    cv=StratifiedKFold(5, shuffle=True, random_state=seed),
    scoring=("accuracy", "precision_macro", "recall_macro", "f1_macro"),
)
found = {
    "learnt": judged(learnt)["ROC AUC"],
    "trees": judged(trees)["ROC AUC"],
    "folds": float(np.mean(folds["test_accuracy"])),
}
print(json.dumps(found))
