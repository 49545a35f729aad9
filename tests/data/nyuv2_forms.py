"""Generated rooms in the forms that NYU-v2 is published in."""

from pathlib import Path

from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms

SIZE = (24, 32)


def make_forms(root: Path, *forms: str) -> Path:
    """Writes the same rooms in forms of NYU-v2, each in the folder of its name."""
    for name in forms:
        layout = LAYOUTS[name]()
        val = 3 if "val" in layout.splits else 0
        spec = RoomsSpec(train=5, val=val, test=0, height=SIZE[0], width=SIZE[1])
        make_rooms(root / name, spec, layout, workers=1, progress=False)
    return root
