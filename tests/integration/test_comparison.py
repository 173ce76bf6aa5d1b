"""The runs of an experiment side by side, over HTTP."""

from __future__ import annotations

import pytest

from app.visual.choices import Status
from app.visual.family import family
from app.visual.keeping import clean
from tests.graphs import Experiments, Json, node
from tests.services import Serve

pytestmark = pytest.mark.timeout(240)

JUDGE = "sklearn.evaluate_classification"


def wines(component: str, **classifier: object) -> list[Json]:
    return [
        node("read", "sklearn.dataset", {"dataset": 3}),
        node("split", "sklearn.train_test_split", data="read.data"),
        node("learn", component, classifier, data="split.train"),
        node("judge", JUDGE, model="learn.model", data="split.test"),
    ]


async def test_runs_are_compared_and_stay_so_when_outputs_are_removed(serve: Serve) -> None:
    client, service = await serve(family, tick_s=0.2, lease_s=2, visual_outputs_mib=0)
    lab = Experiments(client)
    experiment = await lab.experiment("side by side")
    shallow, _ = await lab.job(experiment, wines("sklearn.decision_tree_classifier", max_depth=1))
    deep, _ = await lab.job(experiment, wines("sklearn.decision_tree_classifier", max_depth=6))
    bayes, _ = await lab.job(experiment, wines("sklearn.gaussian_nb"))
    for job, seed in ((shallow, 1), (deep, 1), (bayes, 1), (deep, 2)):
        assert (await lab.run(job, seed=seed))["jobStatus"] == Status.SUCCEEDED
    elsewhere, _ = await lab.job(await lab.experiment("another"), wines("sklearn.gaussian_nb"))
    await lab.run(elsewhere)
    await clean(service)

    path = f"/experiment/{experiment}/comparison"
    found = await lab.ok("GET", path)
    runs = found["data"]
    assert [(run["jobId"], run["seed"]) for run in runs] == [(deep, 2), (bayes, 1), (deep, 1), (shallow, 1)]
    assert (found["total"], found["allRuns"]) == (4, 4)
    assert {run["jobStatus"] for run in runs} == {Status.SUCCEEDED}
    assert all(run["tookMs"] >= 0 and run["datasets"] == [{"dataId": 3, "dataName": "breast_cancer"}] for run in runs)
    # Only the depth differs; what the naive Bayes has not is compared with what the component comes with.
    depth = "sklearn.decision_tree_classifier.max_depth"
    assert [(one["id"], one["nodeName"], one["key"]) for one in found["parameters"]] == [
        (depth, "Decision tree", "max_depth")
    ]
    assert [run["parameters"] for run in runs] == [{depth: 6}, {}, {depth: 6}, {depth: 1}]

    columns = {one["metric"]: one for one in found["metrics"]}
    assert {name: columns[name]["better"] for name in ("accuracy", "ROC AUC", "log loss")} == {
        "accuracy": "higher", "ROC AUC": "higher", "log loss": "lower",
    }  # fmt: skip
    for name, best in (("accuracy", max), ("log loss", min)):
        values = {run["runId"]: run["metrics"][f"{JUDGE}.metrics.{name}"] for run in runs}
        top = best(values.values())
        assert set(columns[name]["best"]) == {run for run, value in values.items() if value == top}

    second = await lab.ok("GET", path, params={"page": 2, "limit": 3})
    assert ([run["runId"] for run in second["data"]], second["total"]) == ([runs[3]["runId"]], 4)
    assert second["metrics"] == found["metrics"]
    of_one = await lab.ok("GET", path, params={"jobId": deep})
    assert ([run["seed"] for run in of_one["data"]], of_one["parameters"]) == ([2, 1], [])

    drawn = await lab.ok("GET", f"{path}/index", params={"node": JUDGE})
    (roc,) = [one["data"] for one in drawn if one["data"]["title"] == "ROC curve"]
    assert {one["front"] for one in drawn} == {"multi_curve"}
    assert set(roc["y"]) == {str(run["runId"]) for run in runs}
    assert (roc["x"][0], roc["x"][-1], {line[-1] for line in roc["y"].values()}) == (0, 1, {1})
    some = f"{runs[0]['runId']},{runs[1]['runId']}"
    drawn = await lab.ok("GET", f"{path}/index", params={"node": JUDGE, "runIds": some})
    assert list(drawn[0]["data"]["y"]) == some.split(",")

    assert await lab.refused("GET", f"{path}/index", params={"node": "nobody"}) == (
        404,
        "None of the runs has a node 'nobody'; they have sklearn.dataset, sklearn.decision_tree_classifier, "
        f"{JUDGE}, sklearn.gaussian_nb, sklearn.train_test_split",
    )
    status, said = await lab.refused("GET", f"{path}/index", params={"node": JUDGE, "runIds": "5"})
    assert (status, said) == (404, f"Experiment {experiment} has no run 5")
    assert (await lab.refused("GET", "/experiment/5/comparison"))[0] == 404
