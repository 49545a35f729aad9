import torch

from jtr_lightning.regularizers.pairs import cosine_distance, cross_task_pairs


def pairs_of(rows: list[list[int]]) -> set[tuple[int, int, int]]:
    pairs = cross_task_pairs(torch.tensor(rows, dtype=torch.bool))
    return {(int(b), int(s), int(t)) for b, s, t in zip(*pairs, strict=True)}


def test_pairs_go_from_unlabelled_to_labelled_tasks() -> None:
    assert pairs_of([[1, 0, 0], [0, 1, 1]]) == {(0, 1, 0), (0, 2, 0), (1, 0, 1), (1, 0, 2)}


def test_a_fully_labelled_sample_has_every_pair_and_an_unlabelled_one_none() -> None:
    every = {(0, s, t) for s in range(3) for t in range(3) if s != t}
    assert pairs_of([[1, 1, 1], [0, 0, 0]]) == every


def test_ordered_pairs_are_numbered_without_gap() -> None:
    pairs = cross_task_pairs(torch.ones(1, 4, dtype=torch.bool))
    assert sorted(pairs.number(4).tolist()) == list(range(12))


def test_cosine_distance_in_closed_form() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    second = torch.tensor([[3.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    assert cosine_distance(first, second).tolist() == [0.5]
