"""How the steps that make features are written: each as a transformer that is fitted and used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.visual.engine.scripts.program import Code, Fitted, Rows, Section, call, literal
from app.visual.engine.steps import preparing as steps
from app.visual.engine.values import NodeFailure

Outputs = Mapping[str, Rows | Fitted]


def numbers(section: Section) -> Outputs:
    """A transformer of columns of numbers."""
    if section.node.of == "sklearn.impute.IterativeImputer":
        section.import_as("from sklearn.experimental import enable_iterative_imputer  # noqa: F401")
    return _fitted(section, f"({section.make()}, {section.columns('number_columns')})")


def texts(section: Section) -> Outputs:
    """An encoder of columns of texts."""
    made = section.make(**steps.dense(section.node.of, section.parameters))
    return _fitted(section, f"({made}, {section.columns('text_columns')})")


def encode_by_target(section: Section) -> Outputs:
    """TargetEncoder: what folds it takes depends on the target."""
    count = section.parameters.get("cv", 5)
    classes = _classes(section)
    told = {"shuffle": True, "random_state": section.seed}
    folds = {name: call(name, told, str(count)) for name in ("StratifiedKFold", "KFold")}
    kind = '("binary" if labels.nunique() == 2 else "multiclass")'
    if classes != "False":
        section.use("sklearn.model_selection.StratifiedKFold")
    if classes != "True":
        section.use("sklearn.model_selection.KFold")
    made = section.make(
        cv=_either(classes, folds["StratifiedKFold"], folds["KFold"]),
        target_type=_either(classes, kind, '"continuous"'),
    )
    return _fitted(section, f"({made}, {section.columns('text_columns')})")


def impute(section: Section) -> Outputs:
    """SimpleImputer; numbers and texts are filled apart."""
    strategy = section.parameters.get("strategy", "mean")
    value = section.parameters.get("fill_value") if strategy == "constant" else None
    chosen = section.parameters.get("columns")
    plain = "[name for name in {columns} if features[name].dtype != bool{also}]"
    also = f" and name in {literal(list(chosen))}" if chosen else ""
    of_numbers = plain.format(columns=f"{section.helper('number_columns')}(features)", also=also)
    parts = [f"({section.make(fill_value=_as_number(value))}, {of_numbers})"]
    if strategy not in ("mean", "median"):
        of_texts = f"{section.helper('text_columns')}(features)"
        if chosen:
            of_texts = f"[name for name in {of_texts} if name in {literal(list(chosen))}]"
        parts.append(f"({section.make(fill_value=value)}, {of_texts})")
    return _fitted(section, *parts)


def select_by_score(section: Section) -> Outputs:
    """The columns that tell most about the target."""
    name = section.parameters.get("score_func", "f_classif")
    section.use(f"sklearn.feature_selection.{name}")
    score = name
    if name.startswith("mutual_info"):
        section.use("functools.partial")
        score = f"partial({name}, random_state={section.seed})"
    made = section.make(score_func=Code(score))
    return _fitted(section, f"({made}, {section.columns('number_columns')})")


def select_by_model(section: Section) -> Outputs:
    """The columns that a model finds important."""
    classes = _classes(section)
    of = steps.MODELS[section.parameters.get("estimator", "random_forest")]
    made = {
        kind: section.make_of(name, {}, **more)
        for kind, (name, more) in of.items()
        if classes not in ("True", "False") or str(kind) == classes
    }
    more: dict[str, Any] = {"estimator": _either(classes, made.get(True, ""), made.get(False, ""))}
    if (threshold := section.parameters.get("threshold")) is not None:
        more["threshold"] = steps.number_or_text(threshold)
    return _fitted(section, f"({section.make(**more)}, {section.columns('number_columns')})")


def drop_columns(section: Section) -> Outputs:
    """What is not dropped is kept."""
    dropped = list(section.parameters.get("columns", []))
    kept = f"[name for name in features.columns if name not in {literal(dropped)}]"
    return _fitted(section, f'("passthrough", {kept})', 'remainder="drop"')


def date_parts(section: Section) -> Outputs:
    """Numbers out of times."""
    return _fitted(section, f"({section.make()}, {section.columns('time_columns')})")


def arithmetic(section: Section) -> Outputs:
    """A column computed from two."""
    left, right = section.parameters["left"], section.parameters["right"]
    operation = section.parameters.get("operation", "add")
    name = section.parameters.get("name") or f"{left}_{operation}_{right}"
    made = call(section.own("Arithmetic"), {}, *map(literal, (left, right, operation, name)))
    return _fitted(section, f"({made}, {literal(list(dict.fromkeys([left, right])))})")


def change_type(section: Section) -> Outputs:
    """Other types."""
    return _fitted(section, f"({section.make()}, {literal(list(section.parameters['columns']))})")


def _fitted(section: Section, *parts: str) -> Outputs:
    """Fit transformers, each with its columns; use them on the table, and on that of the port ``test``."""
    rows, test = section.rows(), section.optional_rows("test")
    named = f"{section.helper('on_columns')}({', '.join(parts)})"
    if len(named) > _LONG:
        named = "on_columns(\n" + "".join(f"    {part},\n" for part in parts) + ")"
    given = section.features_and_labels(rows)
    section.set(section.name, named)
    preparation = (*rows.preparation, section.name)
    made = replace(rows, name=section.output("data"), preparation=preparation)
    section.set(made.name, rows.with_labels("labels", f"{section.name}.fit_transform({given})"))
    outputs: dict[str, Rows | Fitted] = {
        "data": made,
        "model": Fitted(section.name, "transformation", rows.target, rows.preparation),
    }
    if test is not None:
        of_test = replace(test, name=section.output("test"), target=rows.target, preparation=preparation)
        if test.target == rows.target:
            changed = f"{section.name}.transform({test.features})"
            section.set(of_test.name, of_test.with_labels(test.labels, changed))
        else:
            # Whether these rows have the target only shows when they are read.
            section.set(of_test.name, f"{section.name}.transform({test.name})")
            section.line(f"if {literal(rows.target)} in {test.name}.columns:")
            labels = f"{test.name}[{literal(rows.target)}]"
            section.line(f"    {of_test.name} = {of_test.with_labels(labels)}")
        outputs["test"] = of_test
    return outputs


_LONG = 100


def _classes(section: Section) -> str:
    """The expression of whether the target has classes; it is in ``labels`` then."""
    rows = section.rows()
    if rows.target is None:
        raise NodeFailure(f"'{section.node.label}': the table has no target column: set one where the data is read")
    section.set("labels", rows.labels)
    chosen = section.parameters.get("task", "auto")
    return f"{section.helper('are_classes')}(labels)" if chosen == "auto" else str(chosen == "classification")


def _either(classes: str, one: str, other: str) -> Code:
    if classes in ("True", "False"):
        return Code(one if classes == "True" else other)
    return Code(f"{one} if {classes} else {other}")


def _as_number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None  # it is for columns of texts, of which there are only such then
