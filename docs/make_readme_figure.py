"""Draw the picture of the README, docs/images/demo.png: ``python docs/make_readme_figure.py``."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from spalipy_astro import find_alignment
from spalipy_astro.example import example_pair
from spalipy_astro.visualization import plot_alignment


def main() -> None:
    """Align the bundled pair and draw the overview."""
    source, template = example_pair()
    alignment = find_alignment(source, template)
    figure = plot_alignment(
        alignment, source=source, aligned=alignment.resample(source), template=template
    )
    drawn = BytesIO()
    figure.savefig(drawn, dpi=100)
    # 64 colors are enough for grays and two hues, and make the file a fraction as large.
    picture = Image.open(drawn).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    picture.save(Path(__file__).parent / "images" / "demo.png", optimize=True)


if __name__ == "__main__":
    main()
