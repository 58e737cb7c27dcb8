"""
Solve the dithers of an amateur's camera together, blind, and beside SCAMP with their WCS.

    python benchmarks/scamp.py FOLDER

FOLDER has als_m27/ (three frames of one night) and matches/ (stars that two of them have in common,
made without either program). SCAMP starts from the WCS of the frames and gets the stars of the last
one, by its own header, as its reference catalog: there is no network. For both programs: the
distance of those stars, px, and the seconds of all steps, the detection of stars included.
The commands source-extractor and scamp must be installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from spalipy_astro import align_group

FRAMES = ("Light_1069", "Light_1171", "Light_1283")
PAIRS = {"als_m27_26min": 0, "als_m27_13min": 1}  # their source; the template is the last frame
COLUMNS = """XWIN_IMAGE YWIN_IMAGE ERRAWIN_IMAGE ERRBWIN_IMAGE ERRTHETAWIN_IMAGE FLUX_AUTO
FLUXERR_AUTO MAG_AUTO MAGERR_AUTO FLAGS FLUX_RADIUS ELONGATION ALPHAWIN_J2000 DELTAWIN_J2000"""
SMOOTH = "CONV NORM\n1 2 1\n2 4 2\n1 2 1\n"


def run(*command: str) -> None:
    """Run a program that is silent unless it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr}")


def find_stars(frame: str) -> None:
    """Let SExtractor write NAME.ldac."""
    run(
        "source-extractor", f"{frame}.fits", "-CATALOG_NAME", f"{frame}.ldac",
        "-CATALOG_TYPE", "FITS_LDAC", "-PARAMETERS_NAME", "columns.param",
        "-FILTER_NAME", "smooth.conv", "-DETECT_THRESH", "3", "-VERBOSE_TYPE", "QUIET",
    )  # fmt: skip


def write_reference(frame: str) -> None:
    """Write the stars of a frame, by its own header, as a reference catalog."""
    with fits.open(f"{frame}.ldac") as hdus:
        stars = hdus[2].data[hdus[2].data["FLAGS"] < 2]
        error = np.full(len(stars), 1e-5)
        columns = {
            "X_WORLD": stars["ALPHAWIN_J2000"],
            "Y_WORLD": stars["DELTAWIN_J2000"],
            "ERRA_WORLD": error,
            "ERRB_WORLD": error,
            "ERRTHETA_WORLD": np.zeros(len(stars)),
            "MAG": stars["MAG_AUTO"],
            "MAGERR": stars["MAGERR_AUTO"],
            "OBSDATE": np.full(len(stars), 2020.0),
        }
        units = {name: "deg" for name in columns if name.endswith("WORLD")}
        table = fits.BinTableHDU.from_columns(
            [
                fits.Column(name, "D", unit=units.get(name), array=values)
                for name, values in columns.items()
            ],
            name="LDAC_OBJECTS",
        )
        fits.HDUList([fits.PrimaryHDU(), hdus[1], table]).writeto("reference.ldac")


def solve_by_scamp() -> list[WCS]:
    """Return the WCS of each frame by SCAMP."""
    for frame in FRAMES:
        find_stars(frame)
    write_reference(FRAMES[-1])
    run(
        "scamp", *(f"{frame}.ldac" for frame in FRAMES),
        "-ASTREF_CATALOG", "FILE", "-ASTREFCAT_NAME", "reference.ldac",
        "-DISTORT_DEGREES", "3", "-SOLVE_PHOTOM", "N", "-CHECKPLOT_TYPE", "NONE",
        "-WRITE_XML", "N", "-VERBOSE_TYPE", "QUIET",
    )  # fmt: skip
    solved = []
    for frame in FRAMES:
        cards = Path(f"{frame}.head").read_text(encoding="latin-1")
        header = fits.Header.fromstring(cards.encode("ascii", "ignore").decode(), sep="\n")
        header["NAXIS"] = 2
        solved.append(WCS(header))
    return solved


def told(program: str, pair: str, distance: np.ndarray, seconds: float) -> None:
    """Print a row."""
    rms = np.sqrt(np.mean(distance**2))
    print(
        f"{program:12} {pair:14} {len(distance):5} {np.median(distance):7.3f} {rms:7.3f} "
        f"{distance.max():7.2f} {seconds:8.2f}"
    )


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    data = Path(sys.argv[1]).absolute()
    print(
        f"{'program':12} {'pair':14} {'stars':>5} {'median':>7} {'rms':>7} {'max':>7} {'CPU s':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        home = os.getcwd()
        os.chdir(folder)
        Path("columns.param").write_text(COLUMNS.replace(" ", "\n"))
        Path("smooth.conv").write_text(SMOOTH)
        for frame in FRAMES:
            with fits.open(data / "als_m27" / f"{frame}.fits") as hdus:
                header, image = hdus[0].header, hdus[0].data.astype(np.float32)
                fits.writeto(f"{frame}.fits", image, header)
        before = os.times()
        wcs = solve_by_scamp()
        after = os.times()
        by_scamp = after.children_user + after.children_system
        by_scamp -= before.children_user + before.children_system
        align_group([f"{frame}.fits" for frame in FRAMES])  # imports are not counted
        began = time.process_time()
        group = align_group([f"{frame}.fits" for frame in FRAMES], reference=len(FRAMES) - 1)
        ours = time.process_time() - began
        os.chdir(home)
    for pair, k in PAIRS.items():
        x, y, *there = np.loadtxt(data / "matches" / f"{pair}.csv", delimiter=",", skiprows=1).T[:4]
        at = wcs[-1].world_to_pixel(wcs[k].pixel_to_world(x, y))
        told("SCAMP", pair, np.hypot(*np.subtract(at, there)), by_scamp)
        at = group.alignments[k].transform(x, y)
        told("align_group", pair, np.hypot(*np.subtract(at, there)), ours)


if __name__ == "__main__":
    main()
