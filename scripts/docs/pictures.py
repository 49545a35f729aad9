"""Makes the pictures of the documentation that show data: `python -m scripts.docs.pictures`."""

from __future__ import annotations

from pathlib import Path

from jtr_lightning import OneLabel, RoomsDataModule
from jtr_lightning.data.contact_sheet import Part, choose, contact_sheet

FOLDER = Path(__file__).parents[2] / "docs" / "images"


def partial_labels(folder: Path = FOLDER) -> None:
    """Draws three rooms that keep the label of one task each.

    Args:
        folder: Where to write ``partial_labels.png``.
    """
    data = RoomsDataModule(scenario=OneLabel(), size=(150, 200), num_train=6, num_val=1, num_test=1)
    data.prepare_data()
    train = data.dataset("train")
    part = Part("train", train.source, train.available, choose(train.available, len(data.tasks)))
    sheet = contact_sheet([part], data.tasks)
    sheet.quantize(256, dither=0).save(folder / "partial_labels.png", optimize=True)


if __name__ == "__main__":
    partial_labels()
