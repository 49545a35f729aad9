"""Cityscapes: street scenes with classes and stereo depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.cityscapes_official import (
    CLASSES_2,
    CLASSES_7,
    CLASSES_19,
    PUBLISHED,
    DepthKind,
    OfficialSource,
)
from jtr_lightning.data.class_ids import refuse_class_as_void, refuse_other_classes
from jtr_lightning.data.codings import ClassIds, Scaled
from jtr_lightning.data.npy_folder import NpyFolderSource, is_npy_layout, refuse_published_rows
from jtr_lightning.data.source import SampleSource
from jtr_lightning.errors import ConfigError, DataError, check_number
from jtr_lightning.tasks import Depth, Segmentation, Task

INVERSE_STATISTICS = (0.138, 0.110)
"""Mean and standard deviation of the valid inverse depths of the training set, p / 65535: a mean p of 9070 and a
standard deviation of 28.04 pixels of disparity, which a public RGB-D loader gives as its calculated statistics (not
verified by us; `jtr data check` prints those of your files)."""

METRIC_STATISTICS = (18.0, 16.0)
"""Our estimate for depths below 80 m: the mean disparity above is 13 m, and depth is skewed to the far side."""


class CityscapesDataModule(PartialLabelDataModule):
    """Cityscapes, in the form in which you have it.

    * ``official``: ``root/{leftImg8bit,gtFine,disparity,camera}/<split>/<city>/...``, 2975 and 500 images of
      1024x2048. Of the four folders only ``leftImg8bit`` is needed; a label whose file is missing is a missing label.
    * ``npy``: the preprocessed arrays of MTAN, which MTPSL and JTR use:
      ``root/{train,val}/{image,label_7,depth}/<i>.npy``, 128x256 or 256x512. Published ``.pth`` label splits belong
      to this form.

    Published tables score the validation images, so they are the test set, too; ``official_test`` takes the official
    test images instead, which have no public classes.

    Tasks:

    * ``segmentation``: 19 classes; 7 categories (flat, construction, object, nature, sky, human, vehicle), made of
      the 19 classes, so that what the official evaluation ignores is ignored; or 2: background and foreground, which
      is human and vehicle. The last one is our choice, since no publication says what ``label_2`` holds.
    * ``depth``: ``inverse`` is the disparity file's 16-bit value p over 65535, as in the preprocessed files, so
      errors compare with published ones; the disparity is (p - 1) / 256 pixels at a width of 2048. p = 0 is invalid;
      p = 1 is a disparity of 0, infinitely far, a valid inverse depth (0.000015). ``metres`` is baseline * fx /
      disparity (``official`` alone), invalid where it is infinite or above ``max_depth``.

    Args:
        root: The folder with one of the two forms.
        tasks: The tasks to train; all by default.
        classes: 19, 7 or 2.
        layout: ``official``, ``npy``, or ``auto`` to look.
        depth: ``inverse`` or ``metres``.
        inverse_scaling: What a zoom by s does to inverse depths. ``physical`` multiplies them by s, since things come
            nearer; ``published`` divides them, as the authors' loaders do (KentoNishi/JTR-CVPR-2024,
            code/datasets/cityscapes.py).
        depth_statistics: Mean and standard deviation of the depth in its unit, for JTR's coding. The defaults are
            ``INVERSE_STATISTICS`` and ``METRIC_STATISTICS`` of this module.
        max_depth: Metric depths beyond this many metres are invalid: at 80 m one step of the file is 5 cm, but one
            pixel of disparity is 14 m.
        official_test: Use the official test images for testing and prediction.
        **kwargs: As for every data module: ``scenario``, ``seed``, ``batch_size``, ``num_workers``, ``size``,
            ``augmentation``, ``on_error``.

    Raises:
        ConfigError: A parameter does not fit.
    """

    default_tasks = ("segmentation", "depth")

    def __init__(
        self,
        root: str | Path,
        tasks: list[str] | dict[str, Task] | None = None,
        classes: Literal[19, 7, 2] = 7,
        layout: Literal["auto", "official", "npy"] = "auto",
        depth: DepthKind = "inverse",
        inverse_scaling: Literal["physical", "published"] = "physical",
        depth_statistics: tuple[float, float] | None = None,
        max_depth: float = 80.0,
        official_test: bool = False,
        **kwargs: Any,
    ) -> None:
        for name, value, allowed in (
            ("classes", classes, (19, 7, 2)),
            ("layout", layout, ("auto", "official", "npy")),
            ("depth", depth, ("inverse", "metres")),
            ("inverse_scaling", inverse_scaling, ("physical", "published")),
        ):
            if value not in allowed:
                raise ConfigError(f"Parameter `{name}` should be one of {list(allowed)}; found {value!r}.")
        check_number("max_depth", max_depth)
        if not max_depth > 0:
            raise ConfigError(f"Parameter `max_depth` should be above 0 metres; found {max_depth}.")
        self.classes: Literal[19, 7, 2] = classes  # these before the base class asks for the known tasks
        self.depth: DepthKind = depth
        self.inverse_scaling = inverse_scaling
        self.depth_statistics = depth_statistics
        self.max_depth = max_depth
        super().__init__(root, tasks, **kwargs)
        refuse_other_classes(self.tasks.get("segmentation"), classes)
        self._refuse_other_zoom()
        self.layout = layout
        self.official_test = official_test

    def _refuse_other_zoom(self) -> None:
        """Refuses a depth task of one's own that follows another rule of zooming than was asked for."""
        task, usual = self.tasks.get("depth"), self.known_tasks()["depth"]
        if isinstance(task, Depth) and isinstance(usual, Depth) and task.inverse != usual.inverse:
            raise ConfigError(
                f"Parameter `inverse` of the task 'depth' should be {str(usual.inverse).lower()} with `depth: "
                f"{self.depth}` and `inverse_scaling: {self.inverse_scaling}`, by which a zoom "
                f"{'multiplies' if usual.inverse else 'divides'} its values; found {str(task.inverse).lower()}. Mend "
                "it, or one of these."
            )

    def known_tasks(self) -> dict[str, Task]:
        names = {19: CLASSES_19, 7: CLASSES_7, 2: CLASSES_2}[self.classes]
        if self.depth == "metres":
            mean, std = self.depth_statistics or METRIC_STATISTICS
            ends = (0.0, self.max_depth)
            depth = Depth(mean, std, "m", display_range=ends, expected_range=ends)
        else:
            mean, std = self.depth_statistics or INVERSE_STATISTICS
            physical = self.inverse_scaling == "physical"
            # No unit: the published authors write 1/m, which it is not.
            depth = Depth(
                mean,
                std,
                "",
                inverse=physical,
                display_range=(0.0, mean + 3 * std),
                expected_range=(0.0, 1.0),
            )
        return {"segmentation": Segmentation(list(names)), "depth": depth}

    def source(self, split: Split) -> SampleSource:
        if self._form() == "npy":
            return self._preprocessed(split)
        if split == "train":
            refuse_published_rows(self.scenario, "official files of Cityscapes")
        refuse_class_as_void(self.tasks.get("segmentation"), "the official files of Cityscapes")
        part: Split = "val" if split == "test" and not self.official_test else split
        return OfficialSource(self.root, part, self.classes, self.depth, self.max_depth)

    def _preprocessed(self, split: Split) -> SampleSource:
        if self.depth == "metres":
            raise ConfigError(
                f"Parameter `depth` should be 'inverse' for the preprocessed .npy files in '{self.root}', "
                "which come without cameras; found 'metres'. Use the official files for metres."
            )
        if self.official_test:
            raise ConfigError(
                "Parameter `official_test` should be false for the preprocessed .npy files in "
                f"'{self.root}', which hold no test images; found true."
            )
        part = "train" if split == "train" else "val"
        folder = self.root / part
        label = f"label_{self.classes}"
        # Some copies have the 7 categories in a folder `label`.
        if self.classes == 7 and not (folder / label).is_dir() and (folder / "label").is_dir():
            label = "label"
        return NpyFolderSource(
            folder,
            {"segmentation": (label, ClassIds()), "depth": ("depth", Scaled(hole=0.0, channels=1))},
            PUBLISHED[part],
        )

    def _form(self) -> str:
        if self.layout != "auto":
            return self.layout
        if (self.root / "leftImg8bit").is_dir():
            return "official"
        if is_npy_layout(self.root):
            return "npy"
        raise DataError(
            f"The folder '{self.root}' should hold Cityscapes, as official files (leftImg8bit/train/...) or "
            "as preprocessed arrays (train/image/0.npy ...); found "
            f"{'neither' if self.root.is_dir() else 'no such folder'}. Give the folder that has one of them as `root`."
        )
