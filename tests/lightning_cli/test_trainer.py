"""The trainer of the command line, apart from a training."""

from typing import Any

import lightning as L
import pytest
import yaml

from jtr_lightning.cli.main import main
from tests.lightning_cli.tiny_trainings import BASE


@pytest.mark.parametrize(
    ("option", "given", "read"),
    [
        ("limit_train_batches", "1", 1),
        ("limit_train_batches", "1.0", 1.0),
        ("limit_train_batches", "null", None),
        ("overfit_batches", "1", 1),
        ("val_check_interval", "1", 1),
        ("val_check_interval", "0.5", 0.5),
    ],
)
def test_a_whole_number_of_batches_stays_one(
    option: str, given: str, read: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What typing's cache makes of Lightning's unions where another package wrote the same ones in another order.
    monkeypatch.setitem(L.Trainer.__init__.__annotations__, option, float | int | None)
    with pytest.raises(SystemExit):
        main(["fit", *BASE, f"--trainer.{option}={given}", "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["trainer"][option]
    assert (found, type(found)) == (read, type(read))
