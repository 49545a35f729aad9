"""W&B as a logger of partially labelled training; wandb itself is imported only when a run is begun."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger

HOST = "https://api.wandb.ai"
RESULTS = "results"


class PartialLabelWandbLogger(WandbLogger):
    """Lightning's ``WandbLogger`` with what partially labelled training needs.

    Metrics are grouped by task (``val/depth/abs_err`` becomes ``depth/val/abs_err``, since W&B makes a section of the
    first part of a name), the results are a table, and without a key for the server everything is kept on the disk
    (``wandb sync FOLDER`` uploads it later).

    Args:
        project: The project in W&B; by default the environment variable ``WANDB_PROJECT``, else ``jtr-lightning``.
        name: The run's name; ``jtr fit`` gives that of the run folder.
        save_dir: Where wandb keeps its files; ``jtr fit`` gives the run folder.
        offline: Whether to keep everything on the disk; None for yes unless there is a key (environment variable
            ``WANDB_API_KEY`` or an entry in ``~/.netrc``, which ``wandb login`` makes). ``WANDB_MODE`` overrules it.
        log_best: Keep the best checkpoint as an artifact, at the end of a training.
        **kwargs: More arguments of ``wandb.init``, such as ``entity``, ``group`` and ``tags``.
    """

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        save_dir: str | Path | None = None,
        offline: bool | None = None,
        log_best: bool = False,
        **kwargs: Any,
    ) -> None:
        # Not Lightning's `offline`, which changes the environment of the whole process.
        kwargs["mode"] = os.environ.get("WANDB_MODE") or _mode(not has_key() if offline is None else offline)
        project = project or os.environ.get("WANDB_PROJECT", "jtr-lightning")
        super().__init__(name=name, save_dir=".", project=project, **kwargs)
        if self._wandb_init.get("anonymous") is None:
            # Lightning gives it in any case, and wandb warns of it in any case.
            self._wandb_init.pop("anonymous", None)
        self.log_best = log_best
        self._best: ModelCheckpoint | None = None
        if save_dir is not None:
            self.use_folder(Path(save_dir), name)

    def use_folder(self, folder: Path, name: str | None = None) -> None:
        """Takes a run folder where none was given.

        Args:
            folder: Where wandb makes its own folder ``wandb``.
            name: The run's name, if it has none.
        """
        if self._save_dir == ".":
            self._save_dir = self._wandb_init["dir"] = str(folder)
        if self._wandb_init["name"] is None:
            self._name = self._wandb_init["name"] = name

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs metrics, grouped by task."""
        super().log_metrics({grouped(key): value for key, value in metrics.items()}, step)

    @rank_zero_only
    def log_results(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], stage: str) -> None:
        """Logs a table of results.

        Args:
            columns: Heads.
            rows: Cells, in each column of one type or None.
            stage: ``val`` or ``test``, part of the table's name.
        """
        self.log_table(f"{RESULTS}/{stage}", list(columns), [list(row) for row in rows])

    @rank_zero_only
    def close(self) -> None:
        """Ends the run; the next one in the same process is a run of its own."""
        if self._experiment is not None:
            self._experiment.finish()
            self._experiment = None

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        if self.log_best and checkpoint_callback.monitor is not None:
            self._best = checkpoint_callback

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Keeps the best checkpoint as an artifact, if that was asked for and the training succeeded."""
        super().finalize(status)
        path = None if self._best is None else self._best.best_model_path
        if status != "success" or self._best is None or not path:
            return
        import wandb

        score = self._best.best_model_score
        metadata = {"monitor": self._best.monitor, "score": None if score is None else float(score)}
        artifact = wandb.Artifact(f"model-{self.experiment.id}", type="model", metadata=metadata)
        artifact.add_file(path, name="best.ckpt")
        self.experiment.log_artifact(artifact, aliases=["best"])
        self._best = None


def grouped(key: str) -> str:
    """The name in W&B of a logged value; the same function brings it back.

    Args:
        key: ``<stage>/<task>/<metric>`` or ``<stage>/<regularizer>/<term>/<task>``; a name of fewer parts is left as it
            is.

    Returns:
        ``<task>/<stage>/<metric>``, ``<regularizer>/<stage>/<term>/<task>``.
    """
    stage, *rest = key.split("/")
    return "/".join((rest[0], stage, *rest[1:])) if len(rest) >= 2 else key


def _mode(offline: bool) -> str:
    return "offline" if offline else "online"


def has_key() -> bool:
    """Whether wandb would find a key for its server without asking."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", HOST)).hostname or ""
    return any(_mentions(path, host) for path in _netrc_files())


def _netrc_files() -> Iterator[Path]:
    given = os.environ.get("NETRC")
    names = (given,) if given else ("~/.netrc", "~/_netrc")
    for name in names:
        path = Path(name).expanduser()
        if path.is_file():
            yield path


def _mentions(path: Path, host: str) -> bool:
    try:
        return host in netrc.netrc(path).hosts
    except (OSError, netrc.NetrcParseError):
        return False
