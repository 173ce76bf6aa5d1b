"""How the steps that tell how good a model is are written: their tables are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.visual.engine.scripts.applying import prepared
from app.visual.engine.scripts.program import Code, Fitted, Rows, Section, call, literal
from app.visual.engine.steps.evaluating import SCORES, plain_name
from app.visual.engine.steps.learning import CLUSTER
from app.visual.engine.values import NodeFailure


def classification(section: Section) -> Mapping[str, Rows]:
    """Scores, a report by class, the confusion matrix."""
    model, rows = section.model(), section.rows()
    _ready(section, model, rows)
    average = section.parameters.get("average", "macro")
    more = "" if average == "macro" else f", average={average!r}"
    section.set("scores", f"{section.helper('classification_scores')}({model.name}, features, true{more})")
    section.show("scores")
    section.set("predicted", f"{model.name}.predict(features)")
    section.set("report", f"{section.helper('class_report')}(true, predicted)")
    section.show_table("report", "By class")
    return {}


def regression(section: Section) -> Mapping[str, Rows]:
    """Scores."""
    model = section.model()
    _ready(section, replace(model, task="regression"), section.rows())
    section.set("scores", f"{section.helper('regression_scores')}(true, {model.name}.predict(features))")
    section.show("scores")
    return {}


def clustering(section: Section) -> Mapping[str, Rows]:
    """Scores of the clusters that the rows have, or else of those that a model finds."""
    rows, model = section.rows(), section.optional_model("model")
    if model is None:
        others = [CLUSTER] if rows.target is None else [CLUSTER, rows.target]
        section.set("features", f"{rows.name}.drop(columns={literal(others)})")
        section.set("found", f"{rows.name}[{literal(CLUSTER)}].to_numpy()")
    else:
        section.line(f"if {literal(CLUSTER)} in {rows.name}.columns:")
        section.line(f"    features = {rows.name}[{model.name}.feature_names_in_]")
        section.line(f"    found = {rows.name}[{literal(CLUSTER)}].to_numpy()")
        section.line("else:")
        section.line(f"    features = {prepared(section, model, rows)}")
        section.line(f"    found = {model.name}.predict(features)")
    scores = f"{section.helper('clustering_scores')}(features.to_numpy(dtype=float), found, {section.seed})"
    section.set("scores", scores)
    section.show("scores")
    return {}


def validation(section: Section) -> Mapping[str, Rows]:
    """Scores of each fold, and their means."""
    model = section.model("pipeline")
    folds = _refitted(section, model)
    section.use("sklearn.base.clone", "sklearn.model_selection.cross_validate")
    told = {"cv": Code(folds), "scoring": list(_scores(section, model))}
    section.set("found", call("cross_validate", told, "clone(pipeline)", "features", "labels"))
    columns = {plain_name(name): _told(name, f'found["test_{name}"]') for name in _scores(section, model)}
    section.table("scores", columns)
    count = section.parameters.get("cv", 5)
    section.show_table(f'{{"fold": range(1, {count + 1}), **scores}}')
    section.table(
        "figures",
        {
            "metric": "list(scores)",
            "mean": "[values.mean() for values in scores.values()]",
            "std": "[values.std() for values in scores.values()]",
        },
    )
    section.show_table("figures", "Of all folds")
    return {}


def learning(section: Section) -> Mapping[str, Rows]:
    """The score by the number of rows that are learnt from."""
    model = section.model("pipeline")
    folds = _refitted(section, model)
    name = _scores(section, model)[0]
    section.import_as("import numpy as np")
    section.use("sklearn.base.clone", "sklearn.model_selection.learning_curve")
    told = {
        "train_sizes": Code(f"np.linspace(0.1, 1.0, {section.parameters.get('points', 5)})"),
        "cv": Code(folds),
        "scoring": name,
        "shuffle": True,
        "random_state": section.seed,
    }
    section.set("sizes, train, test", call("learning_curve", told, "clone(pipeline)", "features", "labels"))
    train, test = (f"{_told(name, part)}.mean(axis=1)" for part in ("train", "test"))
    section.table("figures", {"rows": "sizes", "train": train, "validation": test})
    section.show_table("figures", f"{section.node.label} ({plain_name(name)})")
    return {}


def importance(section: Section) -> Mapping[str, Rows]:
    """How much the score falls when a column's values are shuffled."""
    model = section.model()
    _scores(section, model)
    _ready(section, model, section.rows())
    section.import_as("import numpy as np")
    section.use("sklearn.inspection.permutation_importance")
    told = {
        "scoring": _scores(section, model)[0],
        "n_repeats": section.parameters.get("n_repeats", 5),
        "random_state": section.seed,
    }
    section.set("found", call("permutation_importance", told, model.name, "features", "true"))
    section.set("order", 'np.argsort(-found.importances_mean, kind="stable")')
    section.table(
        "figures",
        {
            "column": "features.columns[order]",
            "importance": "found.importances_mean[order]",
            "std": "found.importances_std[order]",
        },
    )
    section.show_table("figures")
    return {}


def _scores(section: Section, model: Fitted) -> Sequence[str]:
    if model.task not in SCORES:
        what = (
            f"is of {model.task}"
            if model.task
            else "comes out of a component of your own, whose kind shows when it runs"
        )
        raise NodeFailure(f"'{section.node.label}': a classification or a regression is needed; the model {what}")
    return SCORES[model.task]


def _ready(section: Section, model: Fitted, rows: Rows) -> None:
    """Write ``features`` as the estimator takes them, and what is ``true`` of them."""
    section.set("features", prepared(section, model, rows))
    section.set("true", _true(section, model, rows))


def _true(section: Section, model: Fitted, rows: Rows) -> str:
    if model.target is None:
        raise NodeFailure(f"'{section.node.label}': the model predicts no column: tie one that does")
    return f"{rows.name}[{literal(model.target)}]" + (".astype(float)" if model.task == "regression" else "")


def _refitted(section: Section, model: Fitted) -> str:
    """Write a ``pipeline``, its ``features`` and ``labels``; the expression of the folds."""
    _scores(section, model)
    rows = section.rows("data")
    section.use("sklearn.pipeline.make_pipeline")
    section.set("pipeline", f"make_pipeline({', '.join([*model.preparation, model.name])})")
    section.set("features", f"{rows.name}[{section.helper('columns_of')}(pipeline)]")
    section.set("labels", _true(section, model, rows))
    folds = "StratifiedKFold" if model.task == "classification" else "KFold"
    section.use(f"sklearn.model_selection.{folds}")
    count = section.parameters.get("cv", 5)
    return f"{folds}({count}, shuffle=True, random_state={section.seed})"


def _told(name: str, values: str) -> str:
    """Errors as such: the library has them negative."""
    return f"-{values}" if name.startswith("neg_") else values
