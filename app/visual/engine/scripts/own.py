"""How components of somebody's own are written: their files are brought in, and their function ``run`` is called."""

from __future__ import annotations

from collections.abc import Mapping

from app.visual.engine.scripts.program import Fitted, Rows, Section, literal
from app.visual.engine.values import NodeFailure


def run(section: Section) -> Mapping[str, Rows | Fitted]:
    """What comes out has the target of what went in, as far as can be told before it is run."""
    source = section.node.source
    if "file" not in source:
        raise NodeFailure(f"'{section.node.label}': there is no file of this component")
    file = section.input_file()
    for line in ("import random", "import runpy", "import numpy as np"):
        section.import_as(line)
    target = next((one.target for one in section.inputs.values()), None)
    section.line("random.seed(SEED)")
    section.line("np.random.seed(SEED)")
    given = {port: _given(section, one) for port, one in section.inputs.items()}
    section.table("inputs", given)
    run = f'runpy.run_path({file})["run"]'
    section.set("made", f"{run}(inputs, {literal(dict(section.parameters))}, SEED, {section.helper('Printed')})")
    outputs: dict[str, Rows | Fitted] = {}
    for port, kind in source["kinds"].items():
        if kind == "metrics":
            continue
        variable, value = section.output(port), f"made[{literal(port)}]"
        if kind == "data":
            section.set(variable, f"{value}.reset_index(drop=True)")
            outputs[port] = Rows(variable, target)
        else:
            section.set(variable, value)
            outputs[port] = Fitted(variable, "", target, (), None, loaded=True)
    return outputs


def _given(section: Section, one: Rows | Fitted) -> str:
    if isinstance(one, Rows):
        return f"{section.helper('framed')}({one.name}, {literal(one.target)})"
    if not one.preparation:
        return one.name
    section.use("sklearn.pipeline.make_pipeline")
    return f"make_pipeline({', '.join([*one.preparation, one.name])})"
