"""Notes where the host would wait for a device, for tests that run on whatever device there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OPERATIONS = frozenset(
    {
        *(
            "_local_scalar_dense",
            "is_nonzero",
            "nonzero",
            "nonzero_numpy",
            "masked_select",
            "equal",
            "bincount",
        ),
        *("unique_dim", "_unique", "_unique2", "unique_consecutive", "repeat_interleave"),
    }
)
"""Operations whose result, or its size, depends on values."""

METHODS = frozenset({"tolist", "cpu", "numpy", "__array__", "__repr__", "__format__"})
"""Methods that bring values to the host, and of which no operation tells where they are there already."""


class HostReads(TorchDispatchMode):
    """Notes every use of values by the host, in ``found``; ``seen`` counts all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.seen = 0
        self._methods = _Methods(self.found)

    def __enter__(self) -> HostReads:
        self._methods.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._methods.__exit__(kind, error, trace)

    def __torch_dispatch__(
        self,
        function: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.seen += 1
        name = function.overloadpacket.__name__
        indices = [i for a in args if isinstance(a, list | tuple) for i in a]
        by_mask = any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices)
        if name in OPERATIONS or (name.startswith("index") and by_mask):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in METHODS:
            self.found.append(name)
        return function(*args, **(kwargs or {}))
