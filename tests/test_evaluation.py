import math

import pytest
import torch

from jtr_lightning.baseline import Baseline
from jtr_lightning.batch import Batch
from jtr_lightning.errors import ConfigError
from jtr_lightning.evaluation import Evaluation, TaskLosses, TaskMeans, score
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)

TASKS = {"segmentation": Segmentation(13), "depth": Depth(), "normals": Normals()}


def test_score_differences_are_mean_relative_changes_whatever_the_units() -> None:
    values = {"segmentation": 0.3, "depth": 0.5, "normals": 20.0}
    metres_to_mm = {**values, "depth": 500.0}
    better = {**values, "depth": 0.49}
    gain = score(better, TASKS) - score(values, TASKS)
    assert gain == pytest.approx(0.02 / 3, rel=0.02)
    assert score({**metres_to_mm, "depth": 490.0}, TASKS) - score(metres_to_mm, TASKS) == pytest.approx(gain)


def test_one_task_at_0_does_not_outweigh_twice_as_good_others() -> None:
    tasks = {**TASKS, "room_type": Classification(6)}
    del tasks["normals"]
    one_fails = {"segmentation": 0.2, "depth": 0.5, "room_type": 0.0}
    all_weak = {"segmentation": 0.1, "depth": 1.0, "room_type": 0.02}
    assert score(one_fails, tasks) > score(all_weak, tasks)
    assert score({**one_fails, "room_type": 0.4}, tasks) > score(one_fails, tasks)


@pytest.mark.parametrize(
    ("task", "floor"),
    [
        (Segmentation(3), 0.01),
        (Classification(3), 0.01),
        (Depth(std=2000.0, unit="mm"), 2.0),
        (Normals(), 0.1),
        (DenseRegression(low=-1.0), 0.002),
        (Regression(scale=10.0), 0.01),
    ],
)
def test_the_score_is_bounded_where_a_headline_metric_is_0(task: Task, floor: float) -> None:
    sign = 1 if task.higher_is_better else -1
    assert score({"it": 0.0}, {"it": task}) == pytest.approx(sign * math.log(floor))
    assert score({"it": 2 * floor}, {"it": task}) == pytest.approx(sign * math.log(2 * floor))


def batch_of(available: list[list[bool]]) -> Batch:
    b = len(available)
    labels = {n: torch.stack([t.blank(4, 5)] * b) for n, t in TASKS.items()}
    for row, has in enumerate(available):
        if has[1]:
            labels["depth"][row] = 2.0
    return Batch(
        torch.rand(b, 3, 4, 5),
        labels,
        torch.tensor(available),
        torch.zeros(b, dtype=torch.long),
        torch.arange(b),
    )


def predictions_of(b: int) -> dict[str, torch.Tensor]:
    return {name: task.activate(torch.ones(b, task.channels, 4, 5)) for name, task in TASKS.items()}


def test_a_task_without_any_label_has_no_key() -> None:
    evaluation = Evaluation(TASKS)
    evaluation.update(predictions_of(2), batch_of([[False, True, False], [False, False, False]]))
    results = evaluation.compute()
    assert {name.split("/")[0] for name in results} == {"depth"}
    assert results["depth/abs_err"] == 1.0
    assert evaluation.summarize(results, "val", Baseline("b", {"depth": 1.0})).keys() == {"score"}


def test_a_label_that_is_not_available_is_not_measured_even_where_it_is_not_blank() -> None:
    tasks = {**TASKS, "room": Classification(2), "pitch": Regression(2)}
    available = torch.tensor([[True] * 5, [False] * 5])
    batch = batch_of(available[:, :3].tolist())
    batch.available = available
    batch.labels |= {"room": torch.tensor([0, 1]), "pitch": torch.full((2, 2), 1.0)}
    batch.labels["segmentation"] = torch.zeros(2, 4, 5, dtype=torch.int64)
    batch.labels["normals"] = torch.eye(3)[:2].view(2, 3, 1, 1).expand(-1, -1, 4, 5)
    raw = torch.rand(2, 13, 4, 5)
    both = {
        n: t.activate(raw[:, : t.channels] if t.dense else raw[:, : t.channels, 0, 0])
        for n, t in tasks.items()
    }
    alone, found = Evaluation(tasks), Evaluation(tasks)
    one = Batch(**{**vars(batch), "labels": {n: label[:1] for n, label in batch.labels.items()}})
    one.image, one.available, one.domain, one.index = (
        v[:1] for v in (batch.image, batch.available, batch.domain, batch.index)
    )
    alone.update({name: values[:1] for name, values in both.items()}, one)
    batch.labels["depth"][1] = 50.0
    found.update(both, batch)
    assert found.compute() == pytest.approx(alone.compute())


def test_a_task_whose_labels_have_no_valid_place_has_no_key_and_is_told() -> None:
    evaluation = Evaluation(TASKS)
    batch = batch_of([[True, True, True], [True, False, False]])  # blank but for the depth
    evaluation.update(predictions_of(2), batch)
    with pytest.warns(UserWarning, match="should have a valid place") as told:
        results = evaluation.compute()
    assert {name.split("/")[0] for name in results} == {"depth"}
    assert evaluation.summarize(results, "val", None) == {"score": 0.0}, "that of the depth alone"
    assert [str(warning.message).partition(".")[0] for warning in told] == [
        "The labels of task 'segmentation' should have a valid place somewhere; found none in 2 of them",
        "The labels of task 'normals' should have a valid place somewhere; found none in 1 of them",
    ]


def test_a_headline_that_no_metric_has_is_refused() -> None:
    class Range(Depth):
        headline = "abs_error"

    tasks = {**TASKS, "depth": Range()}
    evaluation = Evaluation(tasks)
    evaluation.update(predictions_of(1), batch_of([[False, True, False]]))
    message = (
        r"Range.metrics\(\) should .* 'abs_error', which stands for the task 'depth' .* found \['abs_err',"
    )
    with pytest.raises(ConfigError, match=message):
        evaluation.compute()


def test_one_valid_pixel_is_measured() -> None:
    evaluation = Evaluation(TASKS)
    batch = batch_of([[True, False, False], [True, False, False]])
    batch.labels["segmentation"][1, 3, 4] = 0
    evaluation.update(predictions_of(2), batch)
    assert {name.split("/")[0] for name in evaluation.compute()} == {"segmentation"}


def test_a_device_without_float64_measures_in_float32() -> None:
    def moved(values: torch.Tensor) -> torch.Tensor:  # as to("mps") would be
        if values.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return values

    batch = batch_of([[False, True, False], [False, False, False]])
    batch.labels["normals"][0] = torch.tensor([0.0, 0.6, 0.8])[:, None, None]
    batch.labels["segmentation"][1] = 3
    batch.available[0, 2] = batch.available[1, 0] = True
    results = []
    for evaluation in (Evaluation(TASKS), Evaluation(TASKS)._apply(moved)):
        for _ in range(2):
            evaluation.reset()
            evaluation.update(predictions_of(2), batch)
        results.append(evaluation.compute())
        kept = [state for metric in evaluation.metrics.values() for state in metric.metric_state.values()]
    assert results[1] == pytest.approx(results[0], rel=1e-6)
    assert all(values.dtype != torch.float64 for state in kept for values in state.values())
    losses = TaskLosses(2)._apply(moved)
    losses.update(torch.tensor([[2.0, 4.0]]), torch.ones(1, 2).bool(), torch.tensor([[True, False]]))
    assert losses.compute().tolist() == [[2.0, 4.0], [2.0, math.inf]]


def test_reset_forgets() -> None:
    evaluation = Evaluation(TASKS)
    evaluation.update(predictions_of(1), batch_of([[False, True, False]]))
    evaluation.reset()
    assert evaluation.compute() == {}


def test_task_means_count_labelled_samples_only() -> None:
    means = TaskMeans(3)
    means.update(
        torch.tensor([[1.0, 5.0, 9.0], [3.0, 7.0, 9.0]]),
        torch.tensor([[True, False, False], [True, True, False]]),
    )
    assert means.compute()[:2].tolist() == [2.0, 7.0]
    assert means.compute()[2].isnan()
    assert means.totals() == ([4.0, 7.0, 0.0], [2.0, 1.0, 0.0])


class TestTaskLosses:
    def added(self) -> TaskLosses:
        losses = TaskLosses(3)
        available = torch.tensor([[True, True, True], [True, True, False], [False, True, False]])
        valid = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
        losses.update(torch.tensor([[1.0, 6.0, 0.0], [3.0, 0.0, 9.0], [7.0, 0.0, 9.0]]), available, valid)
        return losses

    def test_the_means_over_all_labels_and_over_those_with_a_valid_place(self) -> None:
        labelled, measurable = self.added().compute().tolist()
        assert labelled == [2.0, 2.0, 0.0]
        assert measurable[:2] == [2.0, 6.0]
        assert math.isnan(measurable[2])

    def test_it_goes_on_from_its_sums_and_from_those_of_an_earlier_version(self) -> None:
        sums = self.added().sums()
        again, from_earlier = TaskLosses(3), TaskLosses(3)
        again.go_on(sums)
        assert torch.allclose(again.compute(), self.added().compute(), equal_nan=True)
        del sums["measurable"]
        from_earlier.go_on(sums)
        assert from_earlier.compute().tolist() == [[2.0, 2.0, 0.0]] * 2


class TestBaseline:
    def test_a_file_of_another_run_gives_the_headlines_of_its_stage(self, tmp_path) -> None:
        path = tmp_path / "metrics.json"
        path.write_text('{"test/depth/abs_err": 0.5, "test/depth/rmse": 0.9, "name": "x"}')
        baseline = Baseline("supervised", file=path)
        assert baseline.headlines("test", {"depth": Depth()}) == {"depth": 0.5}
        assert baseline.headlines("val", {"depth": Depth()}) is None

    def test_its_file_may_lie_in_the_home_folder(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "metrics.json").write_text('{"depth": 0.5}')
        assert Baseline("supervised", file="~/metrics.json").values == {"depth": 0.5}

    def test_it_is_described_with_its_numbers(self, tmp_path) -> None:
        path = tmp_path / "metrics.json"
        path.write_text('{"test/depth/abs_err": 0.5}')
        described = Baseline("supervised", file=path).describe()["init_args"]
        assert described == {"name": "supervised", "values": {"test/depth/abs_err": 0.5}}

    def test_mistakes_are_refused(self, tmp_path) -> None:
        with pytest.raises(ConfigError, match="both or neither"):
            Baseline("x")
        with pytest.raises(ConfigError, match="found no file"):
            Baseline("x", file=tmp_path / "none.json")
        (tmp_path / "a.json").write_text("{")
        with pytest.raises(ConfigError, match="should hold one JSON object"):
            Baseline("x", file=tmp_path / "a.json")
        with pytest.raises(ConfigError, match=r"above 0 for each task.*found 0"):
            Baseline("x", {"depth": 0.0}).headlines("val", {"depth": Depth()})
