"""How the steps that use what was fitted on other rows are written."""

from __future__ import annotations

from collections.abc import Mapping

from app.visual.engine.scripts.program import Fitted, Rows, Section
from app.visual.engine.steps.applying import PREDICTION, PROBABILITY


def apply(section: Section) -> Mapping[str, Rows]:
    """Predictions, or rows that are transformed."""
    model, rows = section.model(), section.rows()
    made = section.output("data")
    if model.task == "transformation":
        steps = (*model.preparation, model.name)
        taken = f"{rows.name}[{section.helper('columns_of')}({model.name})]" if model.loaded else rows.features
        changed = f"{_chain(section, steps)}.transform({taken})"
        section.set(made, rows.with_labels(rows.labels, changed))
        return {"data": Rows(made, rows.target, steps)}
    section.set("features", prepared(section, model, rows))
    section.set(made, f"{rows.name}.assign({PREDICTION}={model.name}.predict(features))")
    if section.parameters.get("probabilities", True) and model.tells is not False:
        begin = ""
        if model.tells is None:
            section.line(f'if hasattr({model.name}, "predict_proba"):')
            begin = "    "
        section.set(f"{begin}told", f"{model.name}.predict_proba(features)")
        names = f"{model.name}.classes_" if model.of_classes else "range(told.shape[1])"
        each = f'f"{PROBABILITY}{{name}}": told[:, i] for i, name in enumerate({names})'
        section.set(f"{begin}{made}", f"{made}.assign(**{{{each}}})")
    return {"data": Rows(made, rows.target)}


def prepared(section: Section, model: Fitted, rows: Rows) -> str:
    """The expression of a table's rows as a model's estimator takes them."""
    if model.loaded:
        return f"{rows.name}[{section.helper('columns_of')}({model.name})]"
    if model.preparation:
        return f"{_chain(section, model.preparation)}.transform({rows.name})"
    return f"{rows.name}[{model.name}.feature_names_in_]"


def _chain(section: Section, steps: tuple[str, ...]) -> str:
    if len(steps) == 1:
        return steps[0]
    section.use("sklearn.pipeline.make_pipeline")
    return f"make_pipeline({', '.join(steps)})"
