"""Makes mutants of a file with the operators of Cosmic Ray."""

from __future__ import annotations

import ast
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

# One counterpart for each operator: the others mostly end in a TypeError, which any test notices.
OPERATORS = [
    *(
        "ReplaceBinaryOperator_" + pair
        for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Div")
    ),
    *(
        "ReplaceBinaryOperator_" + pair
        for pair in ("Mod_FloorDiv", "Pow_Mul", "BitOr_BitAnd", "BitAnd_BitOr")
    ),
    *("ReplaceComparisonOperator_" + pair for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *("ReplaceComparisonOperator_" + pair for pair in ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt")),
    *("ReplaceComparisonOperator_" + pair for pair in ("Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt")),
    *("ReplaceUnaryOperator_" + pair for pair in ("USub_UAdd", "Delete_Invert", "Delete_Not")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "NumberReplacer", "ZeroIterationForLoop"),
]


@dataclass
class Mutant:
    """One changed module.

    Attributes:
        path: The module's file.
        operator: What changed it.
        line: The first line that differs.
        source: The changed text.
        change: The line before and after.
        result: ``killed``, ``survived`` or ``timeout``.
    """

    path: Path
    operator: str
    line: int
    source: str
    change: tuple[str, str]
    result: str = ""


class _Positions(Visitor):
    """Counts the places that an operator can change."""

    def __init__(self, operator: Any) -> None:
        self.operator = operator
        self.number = 0

    def visit(self, node: Any) -> Any:
        self.number += sum(1 for _ in self.operator.mutation_positions(node))
        return node


def mutants_of(path: Path, share: float, rng: random.Random) -> tuple[int, list[Mutant]]:
    """How many places of a file can be changed, and the mutants of a random share of them.

    A change of annotations alone is no mutant, since nothing evaluates them when the code runs; nor is one of the
    ``*`` of a signature.
    """
    source = path.read_text()
    tree, meaning, before = get_ast(source), _meaning(source), source.splitlines()
    places = []
    for name in OPERATORS:
        positions = _Positions(get_operator(f"core/{name}")())
        positions.walk(tree)
        places += [(name, occurrence) for occurrence in range(positions.number)]
    rng.shuffle(places)
    found: list[Mutant] = []
    for name, occurrence in places[: math.ceil(share * len(places))]:
        changed = mutate_code(source, get_operator(f"core/{name}")(), occurrence)
        try:
            if _meaning(changed) == meaning:
                continue
        except SyntaxError:  # the bare * of a signature, say
            continue
        after = changed.splitlines()
        line = next(i for i, pair in enumerate(zip(before, after, strict=True), 1) if pair[0] != pair[1])
        found.append(Mutant(path, name, line, changed, (before[line - 1].strip(), after[line - 1].strip())))
    return len(places), found


def _meaning(source: str) -> str:
    """The module's syntax without annotations, and without what may be given by position or by name alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arguments):
            node.args = node.posonlyargs + node.args + node.kwonlyargs
            node.defaults = node.defaults + [value for value in node.kw_defaults if value is not None]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)
