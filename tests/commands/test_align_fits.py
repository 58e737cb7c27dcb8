from __future__ import annotations

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal

from spalipy_astro import Alignment, align, detect_stars, find_alignment
from spalipy_astro.commands import (
    align_fits,
    align_fits_simple,
    parser_of_align_fits,
    parser_of_align_fits_simple,
)
from spalipy_astro.commands._arguments import WITHOUT_EFFECT

# What spalipy 3.5.5 has, and --quad-edge-buffer, which it declares under another option's name.
OPTIONS_OF_SPALIPY = """
-sc --source-cat -tf --template-fits -tc --template-cat --output-shape --source-ext --template-ext
--n-det --n-quad-det --min-quad-sep --max-match-dist --min-n-match --sub-tile --max-quad-cand
--patience-quad-cand --quad-edge-buffer --max-quad-hash-dist --spline-order --interp-order
--sep-thresh --min-fwhm --bad-flag-bits --min-sep --preserve-footprints --cval --cval-mask
--overwrite -v --verbose
""".split()
OPTIONS_OF_SIMPLE = """
--source-ext --template-ext --min-n-match --sep-thresh --preserve-footprints --overwrite -v
--verbose
""".split()


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(rotation=20, seed=12)


@pytest.fixture
def folder(pair, tmp_path, monkeypatch):
    """A working folder with source.fits and template.fits."""
    fits.PrimaryHDU(pair.source.data.astype(np.float32)).writeto(tmp_path / "source.fits")
    fits.PrimaryHDU(pair.template.data.astype(np.float32)).writeto(tmp_path / "template.fits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def truth(pair, alignment):
    """Largest error of an alignment on the source frame, px."""
    ny, nx = pair.source.shape
    xy = np.array([[0.3 * nx, 0.3 * ny], [0.5 * nx, 0.5 * ny], [0.7 * nx, 0.6 * ny]])
    return np.abs(np.column_stack(alignment.transform(*xy.T)) - pair.forward(xy)).max()


def verify(path):
    """Check that a file is valid FITS."""
    with fits.open(path) as hdus:
        hdus.verify("exception")
    if shutil.which("fitsverify"):
        result = subprocess.run(
            ["fitsverify", "-e", path], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout


def options_of(parser):
    return {option for action in parser._actions for option in action.option_strings}


def test_every_option_of_spalipy_is_there():
    assert set(OPTIONS_OF_SPALIPY) <= options_of(parser_of_align_fits())
    assert set(OPTIONS_OF_SIMPLE) <= options_of(parser_of_align_fits_simple())


def test_the_plain_call(pair, folder, capsys):
    """The very command of spalipy's README."""
    assert align_fits(["source.fits", "aligned.fits", "-tf", "template.fits"]) == 0
    assert "stars" in capsys.readouterr().out
    verify("aligned.fits")
    aligned = CCDData.read("aligned.fits")
    expected = align(
        CCDData(pair.source.data.astype(np.float32), unit="adu"),
        pair.template.data.astype(np.float32),
    )
    assert_array_equal(aligned.data, expected.data)
    assert_array_equal(aligned.mask, expected.mask)
    assert sorted(path.name for path in folder.iterdir()) == [
        "aligned.fits",
        "source.fits",
        "template.fits",
    ]


def test_the_simple_script(pair, folder):
    assert align_fits_simple(["source.fits", "simple.fits", "template.fits"]) == 0
    assert align_fits(["source.fits", "aligned.fits", "-tf", "template.fits"]) == 0
    assert_array_equal(CCDData.read("simple.fits").data, CCDData.read("aligned.fits").data)


def test_transforms_are_saved_and_used_again(pair, folder):
    first = ["source.fits", "one.fits", "-tf", "template.fits"]
    assert align_fits([*first, "--transform", "found.asdf"]) == 0
    assert truth(pair, Alignment.read("found.asdf")) < 0.1
    assert align_fits(["source.fits", "two.fits", "--apply", "found.asdf"]) == 0
    assert_array_equal(CCDData.read("one.fits").data, CCDData.read("two.fits").data)


@pytest.mark.parametrize("kinds", [("ascii", "ecsv"), ("fits", None), (None, "fits")])
def test_catalogs_instead_of_images(pair, folder, kinds):
    arguments = ["source.fits", "out.fits", "--transform", "t.asdf"]
    for kind, side, option in zip(kinds, ("source", "template"), ("-sc", "-tc"), strict=True):
        if kind is None:
            continue
        table = detect_stars(getattr(pair, side))["x", "y", "flux", "fwhm", "flag"]
        table.meta.clear()
        name = f"{side}_stars.{kind}"
        if kind == "ascii":  # SExtractor's
            table["x"] += 1
            table["y"] += 1
            table.rename_columns(
                table.colnames, ["X_IMAGE", "Y_IMAGE", "FLUX_BEST", "FWHM_IMAGE", "FLAGS"]
            )
            head = [f"#  {k} {column}\n" for k, column in enumerate(table.colnames, 1)]
            rows = [" ".join(str(value) for value in row) + "\n" for row in table]
            (folder / name).write_text("".join(head + rows))
        else:
            table.write(name, format="fits" if kind == "fits" else "ascii.ecsv")
        arguments += [option, name]
    if kinds[1] is None:
        arguments += ["-tf", "template.fits"]
    assert align_fits(arguments) == 0
    assert truth(pair, Alignment.read("t.asdf")) < 0.15
    # without a template image the grid has the size of the source's
    shape = pair.template.shape if kinds[1] is None else pair.source.shape
    assert CCDData.read("out.fits").shape == shape


def test_template_catalog_on_the_grid_of_an_image(pair, folder):
    detect_stars(pair.template)["x", "y", "flux"].write("t.ecsv")
    arguments = ["source.fits", "out.fits", "-tf", "template.fits", "-tc", "t.ecsv", "--union"]
    assert align_fits(arguments) == 0
    ny, nx = CCDData.read("out.fits").shape
    assert ny >= pair.template.shape[0]
    assert nx >= pair.template.shape[1]


def test_mask_and_uncertainty_come_along(pair, folder):
    mask = np.zeros(pair.source.shape, np.uint8)
    mask[100:130, 150:190] = 4
    fits.PrimaryHDU(mask).writeto("mask.fits")
    sigma = np.full(pair.source.shape, 7.5)
    fits.PrimaryHDU(sigma).writeto("sigma.fits")
    arguments = ["source.fits", "out.fits", "-tf", "template.fits", "--transform", "t.asdf"]
    assert align_fits([*arguments, "--mask", "mask.fits", "--uncertainty", "sigma.fits"]) == 0
    verify("out.fits")
    aligned = CCDData.read("out.fits")
    image = CCDData(
        pair.source.data.astype(np.float32),
        unit="adu",
        mask=mask != 0,
        uncertainty=StdDevUncertainty(sigma),
    )
    expected = Alignment.read("t.asdf").resample(image)
    assert_array_equal(aligned.mask, expected.mask)
    assert isinstance(aligned.uncertainty, StdDevUncertainty)
    assert_allclose(aligned.uncertainty.array, expected.uncertainty.array)
    # and from the file itself
    image.write("whole.fits")
    assert align_fits(["whole.fits", "again.fits", "--apply", "t.asdf"]) == 0
    assert_array_equal(CCDData.read("again.fits").mask, expected.mask)


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        (["--interp-order", "0"], "nearest"),
        (["--interp-order", "1"], "bilinear"),
        (["--interp-order", "3"], "bicubic"),
        (["--method", "bilinear"], "bilinear"),
        ([], "lanczos3"),
    ],
)
def test_interpolation(folder, pair, arguments, method):
    common = ["source.fits", "out.fits", "-tf", "template.fits", "--transform", "t.asdf"]
    assert align_fits([*common, *arguments, "--cval", "-5"]) == 0
    source = CCDData(pair.source.data.astype(np.float32), unit="adu")
    expected = Alignment.read("t.asdf").resample(source, method=method, fill_value=-5)
    assert_array_equal(CCDData.read("out.fits").data, expected.data)


def test_shape_of_the_output(folder):
    common = ["source.fits", "out.fits", "-tf", "template.fits"]
    assert align_fits([*common, "--output-shape", "210,190"]) == 0
    assert CCDData.read("out.fits").shape == (190, 210)


@pytest.mark.parametrize("name", ["out.fits.gz", "out.fits.fz"])
def test_compressed_files(pair, folder, name):
    assert align_fits(["source.fits", "out.fits", "-tf", "template.fits"]) == 0
    assert align_fits(["source.fits", name, "-tf", "template.fits"]) == 0
    with fits.open(name) as packed, fits.open("out.fits") as plain:
        packed.verify("exception")
        images = [hdu for hdu in packed if hdu.data is not None]
        for one, two in zip(images, plain, strict=True):
            assert_array_equal(one.data, two.data)  # no loss, NaN in their places
    # and they can be read again
    assert align_fits([name, "back.fits", "-tf", "template.fits"]) == 0


@pytest.mark.parametrize("extensions", ["all", "1,CHIP:2"])
def test_every_extension_of_a_file(make_sky_pair, pair, folder, extensions):
    other = make_sky_pair(rotation=20, seed=12, shift=(-9, 14))
    chips = [
        fits.ImageHDU(pair.template.data.astype(np.float32), name="CHIP", ver=1),
        fits.ImageHDU(other.template.data.astype(np.float32), name="CHIP", ver=2),
    ]
    primary = fits.PrimaryHDU()
    primary.header["OBSERVER"] = "Leavitt"
    fits.HDUList([primary, *chips]).writeto("chips.fits")
    arguments = ["chips.fits", "out.fits", "-tf", "source.fits", "--source-ext", extensions]
    figures = ["--plot", "p.png"] if extensions == "all" else []
    assert align_fits([*arguments, "--transform", "t.asdf", *figures]) == 0
    verify("out.fits")
    with fits.open("out.fits") as hdus:
        names = [(hdu.name, hdu.ver) for hdu in hdus[1:]]
        assert names == [("CHIP", 1), ("MASK", 1), ("CHIP", 2), ("MASK", 2)]
        for hdu in (hdus["CHIP", 1], hdus["CHIP", 2]):
            assert hdu.shape == pair.source.shape
            assert hdu.header["OBSERVER"] == "Leavitt"
            good = np.isfinite(hdu.data)
            difference = (hdu.data - pair.source.data)[good]
            assert np.median(np.abs(difference)) < 30  # noise
    shifts = [Alignment.read(f"t-{k}.asdf").summary()["shift_x"] for k in (1, 2)]
    assert abs(shifts[0] - shifts[1]) > 5
    drawn = sorted(path.name for path in folder.glob("p*.png"))
    assert drawn == (["p-1.png", "p-2.png"] if figures else [])


def test_one_extension_by_name(pair, folder):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((50, 40)), name="WEIGHT")]
    hdus.append(fits.ImageHDU(pair.source.data, name="SCI"))
    fits.HDUList(hdus).writeto("mef.fits")
    common = ["mef.fits", "out.fits", "-tf", "template.fits"]
    assert align_fits([*common, "--source-ext", "SCI"]) == 0
    assert align_fits([*common, "--source-ext", "2", "--overwrite"]) == 0
    assert align_fits(["source.fits", "o2.fits", "-tf", "mef.fits", "--template-ext", "SCI"]) == 0


def test_several_sources(make_sky_pair, pair, folder, capsys):
    paths = []
    for k, shift in enumerate([(3.0, 2.0), (-8.0, 5.0)]):
        frame = make_sky_pair(rotation=20, seed=12, shift=shift).template
        paths.append(f"frame{k}.fits")
        fits.PrimaryHDU(frame.data).writeto(paths[-1])
    command = [*paths, "missing.fits", "out", "-tf", "source.fits"]
    assert align_fits(command) == 1
    printed = capsys.readouterr()
    assert printed.out.count("stars") == 2
    assert "missing.fits: there is no file" in printed.err
    assert "1 of 3 sources" in printed.err
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "frame0_aligned.fits",
        "frame0_alignment.asdf",
        "frame1_aligned.fits",
        "frame1_alignment.asdf",
    ]
    assert align_fits([*paths, "out", "-tf", "source.fits"]) == 0
    assert capsys.readouterr().out.count("done before") == 2
    # options may stand anywhere among the names
    assert align_fits([paths[0], "-tf", "source.fits", paths[1], "other", "--union"]) == 0
    shapes = {CCDData.read(path).shape for path in (folder / "other").glob("*.fits")}
    assert len(shapes) == 1


def test_report(folder, capsys):
    pytest.importorskip("matplotlib")
    command = ["source.fits", "out.fits", "-tf", "template.fits", "--report", "r.html"]
    assert align_fits(command) == 0
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert "<h1>source.fits on template.fits</h1>" in page
    assert "The frames match" in page
    assert 'class="viewer"' in page
    assert align_fits(command) == 1  # it is there
    assert "exist" in capsys.readouterr().err
    simple = ["source.fits", "simple.fits", "template.fits", "--report", "s.html", "--union"]
    assert align_fits_simple(simple) == 0
    assert 'class="viewer"' in (folder / "s.html").read_text(encoding="utf-8")


def test_report_of_several_sources(folder, capsys):
    pytest.importorskip("matplotlib")
    fits.PrimaryHDU(np.ones((50, 60))).writeto("blank.fits")
    command = ["source.fits", "blank.fits", "out", "-tf", "template.fits", "--report", "r.html"]
    assert align_fits(command) == 1
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert "<h1>2 frames on template.fits</h1>" in page
    assert len(re.findall('<tr[^>]* class="failed">', page)) == 1
    capsys.readouterr()
    assert align_fits(command) == 1
    assert "r.html exists already" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--report", "--plot", "--transform"])
def test_what_cannot_be_written_does_not_lose_the_image(folder, capsys, monkeypatch, option):
    pytest.importorskip("matplotlib")
    (folder / "no" / "folder").mkdir(parents=True)

    def find(*sides, **options):
        shutil.rmtree(folder / "no")  # in the meantime
        return find_alignment(*sides, **options)

    monkeypatch.setattr("spalipy_astro.commands._one.find_alignment", find)
    name = "no/folder/x.png" if option == "--plot" else "no/folder/x.html"
    command = ["source.fits", "out.fits", "-tf", "template.fits", option, name]
    assert align_fits(command) == 1
    assert capsys.readouterr().err.startswith("align-fits: ")
    verify("out.fits")


def test_a_report_without_matplotlib(folder, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    import spalipy_astro.visualization  # noqa: F401  so that it can be hidden

    monkeypatch.setitem(sys.modules, "spalipy_astro.visualization", None)
    monkeypatch.delattr("spalipy_astro.visualization")
    command = ["source.fits", "out.fits", "-tf", "template.fits", "--report", "r.html"]
    assert align_fits(command) == 1
    assert "pip install matplotlib" in capsys.readouterr().err
    verify("out.fits")


def test_one_source_to_a_folder(folder):
    assert align_fits(["source.fits", "new/", "-tf", "template.fits"]) == 0
    assert [path.name for path in (folder / "new").iterdir()] == ["source_aligned.fits"]


def test_nothing_is_overwritten_unasked(folder, capsys):
    (folder / "out.fits").write_text("precious")
    command = ["source.fits", "out.fits", "-tf", "template.fits"]
    assert align_fits(command) == 1
    assert "exists" in capsys.readouterr().err
    assert (folder / "out.fits").read_text() == "precious"
    (folder / "t.asdf").write_text("precious")
    command[1] = "new.fits"
    assert align_fits([*command, "--transform", "t.asdf"]) == 1
    assert not (folder / "new.fits").exists()
    assert align_fits([*command, "--transform", "t.asdf", "--overwrite"]) == 0
    Alignment.read("t.asdf")


def test_failures_leave_nothing_behind(folder, capsys):
    rng = np.random.default_rng(1)
    fits.PrimaryHDU(rng.normal(100, 5, (120, 140))).writeto("noise.fits")
    before = sorted(folder.iterdir())
    for command in (
        ["noise.fits", "out.fits", "-tf", "template.fits", "--transform", "t.asdf"],
        ["source.fits", "out.fits", "-tf", "noise.fits"],
        ["source.fits", "out.fits", "-tf", "missing.fits"],
        ["source.fits", "no/such/folder/out.fits", "-tf", "template.fits"],
        ["source.fits", "out.fits", "-tf", "template.fits", "--source-ext", "SCI"],
        ["source.fits", "out.fits", "-tf", "template.fits", "--min-n-match", "9999"],
        ["source.fits", "out.fits", "-tf", "template.fits", "--n-det", "3"],
        ["source.fits", "out.fits", "--apply", "missing.asdf"],
    ):
        assert align_fits(command) == 1
        message = capsys.readouterr().err
        assert message.startswith("align-fits: ")
        assert "Traceback" not in message
        assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s.fits", "o.fits"], "required"),
        (["s.fits"], "required"),
        (["s.fits", "o.fits", "-tf", "t.fits", "--apply", "a.asdf"], "--apply needs no template"),
        (["s.fits", "o.fits", "-tc", "t.cat", "--union"], "template image"),
        (["s.fits", "o.fits", "-tf", "t", "--method", "exact", "--interp-order", "1"], "one of"),
        (["s.fits", "o.fits", "-tf", "t.fits", "--interp-order", "7"], "invalid choice"),
        (["s.fits", "o.fits", "-tf", "t.fits", "--output-shape", "12"], "NX,NY"),
        (["a.fits", "b.fits", "o", "-tf", "t.fits", "-sc", "c.cat"], "one source"),
        (["a.fits", "b.fits", "o", "-tf", "t.fits", "--source-ext", "1,2"], "one source"),
        (["a.fits", "b.fits", "o", "-tf", "t.fits", "--no-such"], "unrecognized"),
    ],
)
def test_commands_that_are_not_understood(folder, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_:
        align_fits(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_options_without_effect_say_so(folder, capsys):
    command = ["source.fits", "out.fits", "-tf", "template.fits"]
    for name, kind, _ in WITHOUT_EFFECT:
        command += [name, str(kind(2))]
    assert align_fits(command) == 0
    notes = capsys.readouterr().err
    for name, _, instead in WITHOUT_EFFECT:
        assert f"{name} has no effect: {instead}" in notes


def test_filters_of_stars(pair, folder):
    common = ["source.fits", "out.fits", "-tf", "template.fits", "--transform", "t.asdf"]
    arguments = ["--n-det", "40", "--min-sep", "6", "--min-fwhm", "1", "--bad-flag-bits", "4"]
    assert align_fits([*common, *arguments, "--overwrite"]) == 0
    alignment = Alignment.read("t.asdf")
    assert len(alignment.matches) <= 40
    xy = np.column_stack((alignment.matches["x_source"], alignment.matches["y_source"]))
    distance = np.hypot(*(xy[:, None] - xy).T)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() >= 6


def test_no_spline(folder):
    common = ["source.fits", "out.fits", "-tf", "template.fits", "--transform", "t.asdf"]
    assert align_fits([*common, "--spline-order", "0"]) == 0
    assert Alignment.read("t.asdf").summary()["freedom"] == pytest.approx(3)


def test_the_wcs_of_the_template_comes_along(pair, folder):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 150.0, 2.0
    wcs.wcs.crpix = 160.0, 170.0
    wcs.wcs.cdelt = -3e-4, 3e-4
    template = fits.PrimaryHDU(pair.template.data, wcs.to_header())
    template.writeto("sky.fits")
    assert align_fits(["source.fits", "out.fits", "-tf", "sky.fits"]) == 0
    verify("out.fits")
    sky = WCS(fits.getheader("out.fits")).pixel_to_world_values(10.0, 20.0)
    assert_allclose(sky, wcs.pixel_to_world_values(10.0, 20.0), rtol=0, atol=1e-10)


def test_verbosity(folder, capsys):
    command = ["source.fits", "out.fits", "-tf", "template.fits"]
    assert align_fits(command) == 0
    assert "log-odds" not in capsys.readouterr().out
    assert align_fits([*command, "-v", "--overwrite"]) == 0
    assert "log-odds" in capsys.readouterr().out


def test_the_exit_status_is_documented(capsys):
    for script in (align_fits, align_fits_simple):
        with pytest.raises(SystemExit) as exit_:
            script(["--help"])
        assert exit_.value.code == 0
        assert re.search(r"Exit status:\s+0", capsys.readouterr().out)


@pytest.mark.parametrize(
    "name", ["tres1_4h", "sdss_g_to_r", "als_m27_13min", "panoptes_2min", "uk001l_9min"]
)
def test_real_pairs(real_pair, shared_data, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    pair = real_pair(name)
    source, template = (str(shared_data / pair.row[side]) for side in ("source", "template"))
    assert align_fits([source, "one.fits", "-tf", template, "--transform", "t.asdf"]) == 0
    assert align_fits_simple([source, "two.fits", template]) == 0
    x, y = Alignment.read("t.asdf").transform(*pair.source_xy.T)
    distance = np.hypot(x - pair.template_xy[:, 0], y - pair.template_xy[:, 1])
    assert np.median(distance) < 0.4
    for path in ("one.fits", "two.fits"):
        verify(path)
    with fits.open("one.fits") as one, fits.open("two.fits") as two:
        assert one[0].shape == pair.template.shape
        assert_array_equal(one[0].data, two[0].data)


def test_unrelated_real_frames_fail(real_pair, shared_data, tmp_path, capsys):
    row = real_pair("tres1_dark_negative").row
    source, template = (str(shared_data / row[side]) for side in ("source", "template"))
    assert align_fits_simple([source, str(tmp_path / "out.fits"), template]) == 1
    assert not list(tmp_path.iterdir())
