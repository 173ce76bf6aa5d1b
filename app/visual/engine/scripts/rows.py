"""How the steps that choose among rows, or look at the target, are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from app.visual.engine.scripts.program import Code, Rows, Section, call, literal
from app.visual.engine.values import NodeFailure

Outputs = Mapping[str, Rows]


def drop_missing(section: Section) -> Outputs:
    """Rows in which any (or all) of the columns are missing."""
    how = section.parameters.get("how", "any")
    told = _chosen(section) | ({} if how == "any" else {"how": how})
    return _chosen_rows(section, call(f"{section.rows().name}.dropna", told))


def drop_duplicates(section: Section) -> Outputs:
    """Rows that were there before."""
    keep = section.parameters.get("keep", "first")
    told = _chosen(section) | ({} if keep == "first" else {"keep": keep})
    return _chosen_rows(section, call(f"{section.rows().name}.drop_duplicates", told))


def filter_outliers(section: Section) -> Outputs:
    """Rows that are far from the others."""
    rows = section.rows()
    columns = section.columns("number_columns", rows.features)
    section.set("values", f"{rows.name}[{columns}].astype(float)")
    if section.parameters.get("method", "iqr") == "iqr":
        section.line("low, high = values.quantile(0.25), values.quantile(0.75)")
        factor = section.parameters.get("factor", 1.5)
        section.line(f"low, high = low - {factor} * (high - low), high + {factor} * (high - low)")
    else:
        factor = section.parameters.get("factor", 3.0)
        section.set("low, high", f"values.mean() - {factor} * values.std(), values.mean() + {factor} * values.std()")
    section.set("far", "(values.lt(low) | values.gt(high)).any(axis=1)")
    return _chosen_rows(section, f"{rows.name}[~far]")


def split(section: Section) -> Outputs:
    """Rows to learn from, and rows to test with."""
    rows, parameters = section.rows(), section.parameters
    told = {"test_size": parameters.get("test_size", 0.25)}
    if parameters.get("shuffle", True):
        stratify = {"stratify": Code(rows.labels)} if parameters.get("stratify", False) else {}
        told |= {**stratify, "random_state": section.seed}
    else:
        told |= {"shuffle": False}
    section.use("sklearn.model_selection.train_test_split")
    train, test = section.output("train"), section.output("test")
    section.set(f"{train}, {test}", call("train_test_split", told, rows.name))
    tidy = section.helper("tidy")
    section.line(f"{train}, {test} = {tidy}({train}), {tidy}({test})")
    return {"train": replace(rows, name=train), "test": replace(rows, name=test)}


def sample(section: Section) -> Outputs:
    """Some rows by chance."""
    count = section.parameters.get("n")
    told = {"frac": section.parameters.get("frac", 0.5)} if count is None else {"n": count}
    if section.parameters.get("replace", False):
        told |= {"replace": True}
    return _chosen_rows(section, call(f"{section.rows().name}.sample", {**told, "random_state": section.seed}))


def sample_by_class(section: Section) -> Outputs:
    """The same share of each class."""
    rows = section.rows()
    share = section.parameters.get("frac", 0.5)
    by = section.parameters.get("by")
    labels = f"{rows.name}[{literal(by)}]" if by else _labels(section)
    return _by_class(section, labels, f"max(1, round(count * {share}))")


def under_sample(section: Section) -> Outputs:
    """Of each class as many as the smallest has."""
    return _by_class(section, _labels(section), "min(labels.value_counts())")


def over_sample(section: Section) -> Outputs:
    """Of each class as many as the largest has."""
    return _by_class(section, _labels(section), "max(labels.value_counts())")


def encode_labels(section: Section) -> Outputs:
    """The target's classes become numbers."""
    rows, test = section.rows(), section.optional_rows("test")
    labels = _labels(section)
    section.use("sklearn.preprocessing.LabelEncoder")
    section.set(section.name, f"LabelEncoder().fit({labels})")
    outputs = {"data": _encoded(section, rows, "data")}
    classes = f"{section.name}.classes_"
    section.show_table(f'{{"class": {classes}, "code": range(len({classes}))}}')
    if test is not None:
        outputs["test"] = _encoded(section, replace(test, target=rows.target), "test")
    return outputs


def _encoded(section: Section, rows: Rows, port: str) -> Rows:
    made = replace(rows, name=section.output(port))
    section.set(made.name, rows.with_labels(f"{section.name}.transform({rows.labels})"))
    return made


def _labels(section: Section) -> str:
    rows = section.rows()
    if rows.target is None:
        raise NodeFailure(f"'{section.node.label}': the table has no target column: set one where the data is read")
    return rows.labels


def _by_class(section: Section, labels: str, wanted: str) -> Outputs:
    rows = section.rows()
    section.set("labels", labels)
    section.set("wanted", f"{{name: {wanted} for name, count in labels.value_counts().items()}}")
    return _chosen_rows(
        section, f"{section.helper('take_by_class')}({rows.name}, labels, wanted, {section.seed})", tidied=True
    )


def _chosen(section: Section) -> dict[str, list[str]]:
    columns = section.parameters.get("columns")
    return {"subset": list(columns)} if columns else {}


def _chosen_rows(section: Section, kept: str, *, tidied: bool = False) -> Outputs:
    made = replace(section.rows(), name=section.output("data"))
    section.set(made.name, kept if tidied else f"{section.helper('tidy')}({kept})")
    return {"data": made}
