"""What is where in a picture of panels."""

import numpy as np
import pytest
import torch
from PIL import Image

from jtr_lightning.batch import Batch
from jtr_lightning.callbacks import panels as module
from jtr_lightning.callbacks.panels import panels
from jtr_lightning.tasks import Classification, Depth, Normals, Segmentation, Task
from jtr_lightning.tasks.rendering import INVALID

TASKS: dict[str, Task] = {"segmentation": Segmentation(["a", "b"]), "depth": Depth(), "normals": Normals()}
HEIGHT, WIDTH = 40, 50
FACTOR = 4  # 160 // 40
CELL = (WIDTH * FACTOR, HEIGHT * FACTOR)


def batch(available: list[list[int]]) -> Batch:
    number = len(available)
    labels = {
        "segmentation": torch.zeros(number, HEIGHT, WIDTH, dtype=torch.int64),
        "depth": torch.full((number, 1, HEIGHT, WIDTH), 4.0),
        "normals": torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).repeat(number, 1, HEIGHT, WIDTH),
    }
    labels["depth"][..., :, :10] = 0  # no valid depth in the left fifth
    zeros = torch.zeros(number, dtype=torch.int64)
    image = torch.full((number, 3, HEIGHT, WIDTH), 0.2)
    return Batch(image, labels, torch.tensor(available, dtype=torch.bool), zeros, zeros)


def predictions(number: int) -> dict[str, torch.Tensor]:
    return {
        "segmentation": torch.tensor([-5.0, 0.0]).view(1, 2, 1, 1).repeat(number, 1, HEIGHT, WIDTH),
        "depth": torch.full((number, 1, HEIGHT, WIDTH), 8.0),
        "normals": torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).repeat(number, 1, HEIGHT, WIDTH),
    }


def cell(picture: Image.Image, row: int, column: int) -> np.ndarray:
    """A cell's pixels; columns: image, then label and prediction of each task."""
    groups = (column + 1) // 2
    x = module.MARGIN + column * (CELL[0] + module.GAP) + groups * (module.GROUP_GAP - module.GAP)
    y = module.MARGIN + module.HEADER + row * (CELL[1] + module.GAP)
    return np.asarray(picture)[y : y + CELL[1], x : x + CELL[0]]


def only_colour(pixels: np.ndarray) -> tuple[int, ...]:
    colours = np.unique(pixels.reshape(-1, 3), axis=0)
    assert len(colours) == 1
    return tuple(int(c) for c in colours[0])


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return panels(batch([[1, 1, 0], [0, 0, 1]]), predictions(2), TASKS)


def test_images_and_predictions_are_in_their_cells(picture: Image.Image) -> None:
    palette = TASKS["segmentation"].palette  # type: ignore[attr-defined]
    for row in (0, 1):
        assert only_colour(cell(picture, row, 0)) == (51, 51, 51)
        assert only_colour(cell(picture, row, 2)) == tuple(palette[1])
        assert only_colour(cell(picture, row, 6)) == (255, 128, 128)


def test_labels_are_in_their_cells(picture: Image.Image) -> None:
    palette = TASKS["segmentation"].palette  # type: ignore[attr-defined]
    assert only_colour(cell(picture, 0, 1)) == tuple(palette[0])
    assert only_colour(cell(picture, 1, 5)) == (128, 128, 255)


def test_a_label_that_is_not_there_is_a_card_whatever_its_values(picture: Image.Image) -> None:
    for row, column in ((0, 5), (1, 1), (1, 3)):
        pixels = cell(picture, row, column)
        assert (pixels[:20] == module.CARD).all()
        assert (pixels != module.CARD).any()  # the words


def test_invalid_pixels_are_dark_and_hatched_and_no_others(picture: Image.Image) -> None:
    pixels = cell(picture, 0, 3)
    invalid, valid = pixels[:, : 10 * FACTOR], pixels[:, 10 * FACTOR :]
    colours = {tuple(int(c) for c in colour) for colour in np.unique(invalid.reshape(-1, 3), axis=0)}
    assert colours == {INVALID, module.HATCH}
    assert only_colour(valid) not in colours


def test_hidden_labels_never_show() -> None:
    hidden = batch([[0, 0, 0]])
    other = batch([[0, 0, 0]])
    for name, label in other.labels.items():
        other.labels[name] = torch.roll(label, 1, -1) + (1 if name != "normals" else 0)
    a, b = (np.asarray(panels(x, predictions(1), TASKS)) for x in (hidden, other))
    assert (a == b).all()


def test_legends_have_the_colours_of_the_classes(picture: Image.Image) -> None:
    below = np.asarray(picture)[module.MARGIN + module.HEADER + 2 * (CELL[1] + module.GAP) :]
    for colour in TASKS["segmentation"].palette:  # type: ignore[attr-defined]
        assert (below == colour).all(-1).sum() >= module.SWATCH**2


@pytest.mark.parametrize(
    ("task", "target", "name"),
    [
        (TASKS["normals"], [0.0, -1.0, 0.0], "-y"),  # a floor, where y points down
        (
            TASKS["normals"],
            [0.0, 0.0, -1.0],
            "-z",
        ),  # a wall that faces the camera, where z points into the scene
        (TASKS["normals"], [-1.0, 0.0, 0.0], "-x (left)"),
        (TASKS["normals"], [0.0, 1.0, 0.0], "+y"),
        (TASKS["depth"], [0.0], "0 m or less"),
        (TASKS["depth"], [-3.0], "0 m or less"),
    ],
)
def test_a_colour_that_a_prediction_may_have_is_in_the_legend(
    task: Task, target: list[float], name: str
) -> None:
    drawn = task.render(torch.tensor(target).view(1, -1, 1, 1)).flatten().tolist()
    assert [int(c) for c in task.legend().colours[name]] == drawn


def test_image_level_tasks_and_names_need_no_pixels_of_their_own() -> None:
    room: dict[str, Task] = {"room": Classification(["kitchen", "office"])}
    both = batch([[1], [0]])
    both.labels = {"room": torch.tensor([1, -1])}
    plain = panels(both, {"room": torch.zeros(2, 2)}, room)
    named = panels(both, {"room": torch.zeros(2, 2)}, room, ["x" * 200, "b"], title="A title")
    assert named.size == (plain.width, plain.height + 34)
    assert (cell(plain, 0, 1) != cell(plain, 1, 1)).any()


# Errors


def columns_of(picture: Image.Image) -> int:
    return round((picture.width - 2 * module.MARGIN) / (CELL[0] + module.GAP))


def test_errors_have_a_column_of_their_own_only_if_wanted() -> None:
    one = batch([[1, 1, 1]])
    assert columns_of(panels(one, predictions(1), TASKS)) == 7
    assert columns_of(panels(one, predictions(1), TASKS, errors=True)) == 10


def test_error_is_black_where_right_bright_where_wrong_and_hatched_where_unknown() -> None:
    one = batch([[0, 1, 1]])
    guess = predictions(1)
    guess["depth"] = torch.full((1, 1, HEIGHT, WIDTH), 4.0)
    guess["depth"][..., 25:] = 9.0
    picture = np.asarray(panels(one, guess, TASKS, errors=True))

    def pixels(group: int, column: int) -> np.ndarray:
        before = [0, 1, 4, 7][group] + column
        x = module.MARGIN + before * (CELL[0] + module.GAP) + group * (module.GROUP_GAP - module.GAP)
        y = module.MARGIN + module.HEADER
        return picture[y : y + CELL[1], x : x + CELL[0]]

    # No label of the segmentation: nothing to be wrong about.
    assert tuple(pixels(1, 2)[2, 2]) == module.CARD
    error = pixels(2, 2)
    assert set(map(tuple, error[:, : 10 * FACTOR].reshape(-1, 3))) == {INVALID, module.HATCH}
    assert error[:, 11 * FACTOR : 25 * FACTOR].max() < 10  # Inferno begins near black
    assert (error[:, 26 * FACTOR :] == error[-1, -1]).all()
    assert error[-1, -1].min() > 150


def test_large_images_are_made_smaller() -> None:
    large = batch([[1, 1, 1]])
    scaled = Batch(
        torch.nn.functional.interpolate(large.image, scale_factor=16),
        {
            name: torch.nn.functional.interpolate(v.float().reshape(1, -1, HEIGHT, WIDTH), scale_factor=16)
            for name, v in large.labels.items()
        },
        large.available,
        large.domain,
        large.index,
    )
    scaled.labels["segmentation"] = scaled.labels["segmentation"][:, 0].long()
    guess = {k: torch.nn.functional.interpolate(v, scale_factor=16) for k, v in predictions(1).items()}
    picture = panels(scaled, guess, TASKS)
    assert picture.width < 7 * (module.LARGEST_CELL * WIDTH / HEIGHT + 40)


def test_a_name_without_any_room_is_left_out() -> None:
    """In a cell of an image 16 times as high as wide not even the mark of a shortened name fits; it hung there."""
    tall = batch([[1, 1, 1]])
    tall.image = torch.rand(1, 3, 256, 16)
    tall.labels = {"depth": torch.ones(1, 1, 256, 16)}
    tall.available = torch.ones(1, 1, dtype=torch.bool)
    drawn = panels(tall, {"depth": torch.ones(1, 1, 256, 16)}, {"depth": Depth()}, ["train sample"])
    assert drawn.height > 256
