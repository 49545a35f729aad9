"""Tests that every task and every data module should pass, for inheriting. Needs pytest.

A dataset of your own is tested by::

    class TestMyData(DataModuleContract):
        @pytest.fixture
        def make(self):
            return lambda **changes: MyDataModule("folder", **{"batch_size": 2, **changes})

and a task of your own by::

    class TestMyTask(TaskContract):
        @pytest.fixture
        def task(self):
            return MyTask()
"""

from __future__ import annotations

import pytest

# So that a failure shows the values compared.
pytest.register_assert_rewrite(f"{__name__}.data_modules", f"{__name__}.tasks")

from jtr_lightning.testing.data_modules import DataModuleContract  # noqa: E402
from jtr_lightning.testing.tasks import TaskContract  # noqa: E402

__all__ = ["DataModuleContract", "TaskContract"]
