"""``jtr export``: a checkpoint's network for other runtimes."""

from __future__ import annotations

from pathlib import Path

from jtr_lightning.cli.checkpoints import add_checkpoint, load
from jtr_lightning.cli.parser import Parser
from jtr_lightning.console import console
from jtr_lightning.export import FORMATS, Exported, export_model
from jtr_lightning.export.exporting import REASON
from jtr_lightning.run_folder import run_of_checkpoint


def run(arguments: list[str]) -> None:
    """Writes a model and its description, and says what it takes.

    Args:
        arguments: The options.

    Raises:
        UserError: An option does not fit, or the network cannot be exported.
    """
    parser = Parser(
        prog="jtr export",
        description="Writes a checkpoint's network with the tasks' activations, checks the file by running it, and "
        "writes a JSON file beside it that tells inputs, outputs, classes and units.",
    )
    add_checkpoint(parser)
    parser.add_argument("--format", required=True, choices=list(FORMATS), help="The kind of file.")
    parser.add_argument(
        "--out",
        type=Path,
        help="The file; by default export/<format>/model.* in the checkpoint's run folder.",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="Size to check with, and the only size where the network allows no other; by default the training's.",
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace files that exist.")
    given = parser.parse_args(arguments)
    module = load(given)
    path = given.out or _default(Path(given.ckpt_path), given.format)
    size = None if given.size is None else (given.size[0], given.size[1])
    _report(export_model(module, path, given.format, size, given.overwrite))


def _default(checkpoint: Path, format_name: str) -> Path:
    folder = run_of_checkpoint(checkpoint) or checkpoint.parent
    return folder / "export" / format_name / f"model{FORMATS[format_name].suffix}"


def _report(exported: Exported) -> None:
    sizes = exported.sizes
    worst = max(exported.differences, key=lambda name: exported.differences[name])
    lines = [
        f"Model: {exported.path}",
        f"Description: {exported.description}",
        f"Takes images [batch, 3, height, width], batch: {sizes.batch}, height: {sizes.height}, width: {sizes.width}.",
        f"A model for any size could not be made; `{REASON}` in {exported.description.name} has the reason."
        if exported.reason
        else "",
        f"Checked by running it: differs from the module by at most {exported.differences[worst]:.2g} ('{worst}').",
    ]
    console().print("\n".join(filter(None, lines)), markup=False, soft_wrap=True)
