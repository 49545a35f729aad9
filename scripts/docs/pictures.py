"""Makes the pictures of the documentation that show data: `python -m scripts.docs.pictures`."""

from __future__ import annotations

from pathlib import Path

from jtr_lightning import OneLabel, RoomsDataModule
from jtr_lightning.data.contact_sheet import contact_sheet

FOLDER = Path(__file__).parents[2] / "docs" / "images"


def partial_labels() -> None:
    """Rooms that keep the label of one task each."""
    data = RoomsDataModule(scenario=OneLabel(), size=(150, 200), num_train=6, num_val=1, num_test=1)
    data.prepare_data()
    train = data.dataset("train")
    # One room for each task.
    chosen = [int(train.available[:, k].nonzero()[0][0]) for k in range(len(data.tasks))]
    sheet = contact_sheet(train.source, data.tasks, train.available, chosen)
    sheet.quantize(256, dither=0).save(FOLDER / "partial_labels.png", optimize=True)


if __name__ == "__main__":
    partial_labels()
