"""What an alignment offers: coverage, errors, union, files."""

from __future__ import annotations

import pickle
from dataclasses import replace

import asdf
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from reproject import reproject_interp

from spalipy_astro import Alignment, Coverage, ExportError, FormatError, find_alignment
from spalipy_astro.alignment import ErrorTerm, output_of

GRID = np.column_stack(
    [g.ravel() for g in np.meshgrid(np.linspace(-50, 400, 9), np.linspace(-50, 320, 7))]
)


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(rotation=37, distortion=0.02, n_stars=400)


def test_matches(alignment, pair):
    matches = alignment.matches
    x, y = alignment.transform(matches["x_source"], matches["y_source"])
    np.testing.assert_allclose(matches["x_template"] - x, matches["dx"], atol=1e-12)
    np.testing.assert_allclose(matches["y_template"] - y, matches["dy"], atol=1e-12)
    used = np.asarray(matches["used"])
    summary = alignment.summary()
    assert summary["n_matched"] == len(matches)
    assert summary["n_used"] == used.sum()
    assert summary["rms_x"] == pytest.approx(np.sqrt(np.mean(matches["dx"][used] ** 2)))
    assert 0.7 < summary["chi2_x"] < 1.4
    assert np.all(np.diff(matches["flux_source"]) <= 0)


def test_inverse_is_exact(alignment):
    x, y = alignment.transform.inverse(*alignment.transform(*GRID.T))
    np.testing.assert_allclose(np.column_stack((x, y)), GRID, atol=1e-8)


def test_summary_prints_itself(alignment):
    text = str(alignment.summary())
    assert "matched stars" in text
    assert "log-odds" in text
    assert alignment.summary()._repr_html_().startswith("<table>")
    assert repr(alignment).startswith("<Alignment of ")
    assert set(dict(alignment.summary())) >= {"n_matched", "rms", "log_odds", "parity", "coverage"}


def test_error_is_small_among_stars_and_grows_outside(alignment, pair):
    middle, outside = pair.center_source, np.add(pair.center_source, [600, 400])
    assert alignment.error(*middle) < 0.05 < alignment.error(*outside)
    x, y = np.meshgrid(np.arange(0, 300, 50.0), np.arange(0, 200, 50.0))
    assert alignment.error(x, y).shape == x.shape
    assert isinstance(alignment.error(10.0, 20.0), float)


def test_the_error_in_one_number(alignment):
    """The rms over the overlap; over the source or its stars where there is none."""

    def rms(x, y):
        return np.sqrt(2 * np.mean(alignment.error(x, y) ** 2))

    def grid(shape):
        return [g.ravel() for g in np.meshgrid(*(np.linspace(0, n - 1, 11) for n in shape[::-1]))]

    x, y = alignment.transform.inverse(*grid(alignment.template_shape))
    ny, nx = alignment.source_shape
    seen = (x >= -0.5) & (x <= nx - 0.5) & (y >= -0.5) & (y <= ny - 0.5)
    assert 10 < seen.sum() < 121
    figures = alignment.summary()
    assert figures["error"] == pytest.approx(rms(x[seen], y[seen]), rel=1e-9)
    assert f"aligned to      {figures['error']:.2g} px" in str(figures)
    assert repr(alignment).startswith(
        f"<Alignment of {figures['n_used']} stars to {figures['error']:.2g} px, rms"
    )
    without = replace(alignment, template_shape=None)
    everywhere = rms(*grid(alignment.source_shape))
    assert without.summary()["error"] == pytest.approx(everywhere, rel=1e-9)
    without = replace(without, source_shape=None)
    stars = rms(alignment.matches["x_source"], alignment.matches["y_source"])
    assert without.summary()["error"] == pytest.approx(stars, rel=1e-9)
    binned = alignment.binned(template=2)
    assert binned.summary()["error"] == pytest.approx(figures["error"] / 2, rel=0.02)
    assert "error" not in replace(alignment, _errors=()).summary()


def test_errors_are_calibrated(make_sky_pair):
    pulls, overall = [], []
    for seed in range(5):
        pair = make_sky_pair(rotation=37, distortion=0.02, n_stars=400, seed=seed)
        found = find_alignment(pair.source, pair.template)
        xy = GRID[np.all((GRID > 20) & (GRID < [340, 260]), axis=1)]
        truth = pair.forward(xy)
        seen = np.all((truth > 0) & (truth < np.array(pair.template.shape[::-1]) - 1), axis=1)
        off = np.column_stack(found.transform(*xy[seen].T)) - truth[seen]
        grid = np.column_stack([g.ravel() for g in np.mgrid[0:360:20.0, 0:280:20.0]])
        true = pair.forward(grid)
        seen_all = np.all((true > 0) & (true < np.array(pair.template.shape[::-1]) - 1), axis=1)
        miss = np.column_stack(found.transform(*grid[seen_all].T)) - true[seen_all]
        overall.append((np.mean(np.sum(miss**2, axis=1)), found.summary()["error"] ** 2))
        pulls.append((off / found.error(*xy[seen].T)[:, None]).ravel())
    assert 0.7 < 1.4826 * np.median(np.abs(np.concatenate(pulls))) < 1.4
    true, expected = np.sqrt(np.mean(overall, axis=0))
    # the expected error is large in the corners, where these lenses happen to be tame
    assert 0.4 < true / expected < 1.2


def test_coverage(alignment, pair):
    coverage = alignment.coverage()
    assert coverage.shape == pair.template.shape
    x, y = np.meshgrid(np.arange(320.0), np.arange(340.0))
    sx, sy = alignment.transform.inverse(x, y)
    seen = (sx >= -0.5) & (sx <= 359.5) & (sy >= -0.5) & (sy <= 279.5)
    np.testing.assert_array_equal((coverage & Coverage.NO_DATA) == 0, seen)
    matches = alignment.matches[np.asarray(alignment.matches["used"])]
    at = np.round((matches["y_template"], matches["x_template"])).astype(int)
    inner = coverage[at[0], at[1]] & Coverage.EXTRAPOLATED
    # Rounding can push stars on the hull itself out of it.
    assert np.mean(inner == 0) > 0.9
    assert coverage[0, 0] & Coverage.EXTRAPOLATED
    aligned = alignment.resample(pair.source)
    assert np.all(np.isfinite(aligned.data[(coverage & Coverage.NO_DATA) == 0]).mean() > 0.97)


def test_covered_fraction():
    """
    The share of the overlap among the stars, counted on the grid of 64 x 64 points by hand.

    The last star of each list has no partner and makes the frame: 1261 x 631 px in the template,
    with points every 20 px along x and every 10 along y, and 605 x 395 in the source. The overlap
    has x of 200 to 800 and y of 40 to 430, 31 x 40 points, of which 9 x 14 lie between the corners.
    """
    corners = np.array([[230.0, 195.0], [410.0, 195.0], [230.0, 335.0], [410.0, 335.0]])
    inner = np.random.default_rng(3).uniform(corners[0], corners[3], (40, 2))
    stars = np.vstack((corners, inner))
    source = np.vstack((stars - [200, 40], [[604, 394]]))
    template = np.vstack((stars, [[1260, 630]]))
    summary = find_alignment(source, template).summary()
    assert summary["n_used"] == 44
    assert summary["coverage"] == pytest.approx(9 * 14 / (31 * 40), rel=1e-12)


def test_union_holds_both_frames(alignment, pair):
    whole = alignment.resample(pair.source, output="union", conserve_flux=False)
    inner = alignment.resample(pair.source, conserve_flux=False)
    assert whole.shape[0] > inner.shape[0]
    assert whole.shape[1] > inner.shape[1]
    assert np.isfinite(whole.data).sum() == pytest.approx(pair.source.data.size, rel=0.05)
    x0, y0 = output_of(alignment, output="union").offset
    cut = whole.data[-y0 : -y0 + inner.shape[0], -x0 : -x0 + inner.shape[1]]
    np.testing.assert_allclose(cut, inner.data, rtol=1e-5)


def test_a_window_of_the_grid(alignment, pair):
    whole, share = alignment.resample(pair.source, return_footprint=True)
    window = alignment.resample(pair.source, shape=(60, 90), offset=(20, 30), min_weight=0.999)
    part = np.s_[30:90, 20:110]
    full = share[part] >= 0.999
    assert 0 < np.count_nonzero(~full) < full.size
    np.testing.assert_array_equal(window.mask, ~full)
    np.testing.assert_array_equal(window.data[full], whole.data[part][full])


def test_union_keeps_the_sky(make_sky_pair):
    pair = make_sky_pair(rotation=37)
    template = pair.template.copy()
    template.wcs = WCS(naxis=2)
    template.wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    template.wcs.wcs.cd = np.diag([-1, 1]) / 3600
    template.wcs.wcs.crpix = [100, 120]
    found = find_alignment(pair.source, template)
    x0, y0 = output_of(found, output="union").offset
    whole = found.resample(pair.source, output="union")
    sky = template.wcs.pixel_to_world(31.0, 47.0)
    x, y = whole.wcs.world_to_pixel(sky)
    assert (float(x), float(y)) == pytest.approx((31.0 - x0, 47.0 - y0), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "both"}, "'template', 'union' or 'intersection'"),
        ({"output": "union", "shape": (3, 4)}, "leave shape and offset out"),
        ({"output": "union", "offset": (3, 4)}, "leave shape and offset out"),
        ({"method": "sinc"}, "sinc"),
    ],
)
def test_senseless_options_of_resample(alignment, pair, options, words):
    with pytest.raises(ValueError, match=words):
        alignment.resample(pair.source, **options)


def test_reproject_takes_the_wcs(alignment, pair):
    data = pair.source.data.astype(float)
    theirs, _ = reproject_interp(
        (data, alignment.wcs), alignment.template_wcs, shape_out=pair.template.shape
    )
    ours = alignment.resample(data, method="bilinear", conserve_flux=False)
    both = np.isfinite(theirs) & np.isfinite(ours)
    assert both.mean() > 0.5
    assert np.abs(theirs - ours)[both].max() < 1e-5 * np.nanmax(data)


def test_round_trip_is_exact(alignment, pair, tmp_path):
    path = tmp_path / "night1.asdf"
    alignment.write(path)
    again = Alignment.read(path)
    np.testing.assert_array_equal(again.transform(*GRID.T), alignment.transform(*GRID.T))
    np.testing.assert_array_equal(
        again.transform.inverse(*GRID.T), alignment.transform.inverse(*GRID.T)
    )
    np.testing.assert_array_equal(again.error(*GRID.T), alignment.error(*GRID.T))
    np.testing.assert_array_equal(again.wcs(*GRID.T), alignment.wcs(*GRID.T))
    for name in alignment.matches.colnames:
        np.testing.assert_array_equal(again.matches[name], alignment.matches[name])
    assert dict(again.summary()) == dict(alignment.summary())
    assert again.source_shape == pair.source.shape
    assert again.template_shape == pair.template.shape
    one, two = (a.resample(pair.source).data for a in (alignment, again))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(again.coverage(), alignment.coverage())


def test_the_file_holds_live_objects(alignment, tmp_path):
    path = tmp_path / "a.asdf"
    alignment.write(path)
    with asdf.open(path) as file:
        assert isinstance(file["alignment"], Alignment)
        assert file["wcs"].available_frames == ["source_detector", "template_detector"]


def test_writing_never_destroys(alignment, tmp_path):
    path = tmp_path / "a.asdf"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        alignment.write(path)
    assert path.read_text() == "precious"
    alignment.write(path, overwrite=True)
    assert isinstance(Alignment.read(path), Alignment)
    assert [p.name for p in tmp_path.iterdir()] == ["a.asdf"]


def test_reading_what_is_no_alignment(alignment, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        Alignment.read(tmp_path / "nowhere.asdf")
    text = tmp_path / "text.asdf"
    text.write_text("SIMPLE  = T")
    other = tmp_path / "other.asdf"
    asdf.AsdfFile({"spam": 1}).write_to(other)
    whole = tmp_path / "whole.asdf"
    alignment.write(whole)
    cut = tmp_path / "cut.asdf"
    cut.write_bytes(whole.read_bytes()[:3000])
    for path in (text, other, cut):
        with pytest.raises(FormatError, match=path.name):
            Alignment.read(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_truncated_files_are_refused(alignment, tmp_path, share):
    path = tmp_path / "cut.asdf"
    alignment.write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FormatError, match=r"cut\.asdf"):
        Alignment.read(path)


def test_damaged_numbers_are_refused(alignment, tmp_path):
    path = tmp_path / "damaged.asdf"
    alignment.write(path)
    content = bytearray(path.read_bytes())
    block = content.index(b"\xd3BLK")
    content[block + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match="checksum"):
        Alignment.read(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tags/alignment-1.0.0", "tags/alignment-2.0.0"),
        ("tags/spline_distortion_2d-1.0.0", "tags/spline_distortion_2d-1.9.0"),
        ("tag:stsci.edu:gwcs/wcs-1", "tag:stsci.edu:gwcs/wcs-9"),
    ],
)
def test_files_from_the_future_are_refused(alignment, tmp_path, old, new):
    path = tmp_path / "future.asdf"
    alignment.write(path)
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(FormatError, match="Upgrade"):
        Alignment.read(path)


def test_what_does_not_fit_the_schema_is_refused(alignment, tmp_path):
    path = tmp_path / "strange.asdf"
    alignment.write(path)
    path.write_bytes(
        path.read_bytes().replace(b"source_shape: [280, 360]", b"source_shape: [0, 3]")
    )
    with pytest.raises(FormatError, match="ValidationError"):
        Alignment.read(path)


def test_reading_executes_nothing(alignment, tmp_path):
    path, trace = tmp_path / "evil.asdf", tmp_path / "trace"
    alignment.write(path)
    call = f"!!python/object/apply:os.system ['touch {trace}']".encode()
    path.write_bytes(
        path.read_bytes().replace(b"provenance:", b"evil: " + call + b"\n  provenance:")
    )
    with pytest.raises(FormatError, match=r"evil\.asdf"):
        Alignment.read(path)
    assert not trace.exists()


@pytest.fixture(scope="module")
def with_sky(alignment):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [266.4, -29.0]
    wcs.wcs.cd = np.diag([-1, 1]) / 3600
    wcs.wcs.crpix = [100, 120]
    return replace(alignment, original_wcs=wcs)


@pytest.mark.parametrize("kind", ["sip", "tpv", "tab"])
def test_fits_header(with_sky, kind):
    export = with_sky.to_fits_header(kind=kind, tolerance=0.1)
    assert export.error <= 0.1
    read = WCS(export.header, fits.HDUList([fits.PrimaryHDU(), *export.tables]))
    x, y = np.meshgrid(np.linspace(0, 359, 20), np.linspace(0, 279, 20))
    truth = with_sky.pixel_to_sky(x, y)
    assert truth.separation(read.pixel_to_world(x, y)).arcsec.max() < 1.2 * export.error


def test_fits_header_takes_sky_and_image(alignment, with_sky):
    with pytest.raises(ExportError, match="no celestial WCS"):
        alignment.to_fits_header()
    with pytest.raises(ValueError, match="was a catalog"):
        replace(with_sky, source_shape=None).to_fits_header()


def test_pickle(alignment):
    again = pickle.loads(pickle.dumps(alignment))
    np.testing.assert_array_equal(again.transform(*GRID.T), alignment.transform(*GRID.T))


def test_it_is_frozen(alignment):
    with pytest.raises(AttributeError):
        alignment.transform = None


def test_provenance_is_in_the_header(alignment, pair):
    aligned = alignment.resample(CCDData(pair.source, meta={"OBJECT": "M1", "CRPIX1": 5.0}))
    assert aligned.meta["OBJECT"] == "M1"
    assert "CRPIX1" not in aligned.meta
    assert aligned.meta["ALGNNUM"] == alignment.summary()["n_used"]


@pytest.mark.parametrize("part", ["factor", "bending"])
def test_errors_that_do_not_go_together_are_refused(alignment, part):
    tree = alignment._errors[0].to_tree()
    assert ErrorTerm.from_tree(tree).covariance.factor.shape == np.shape(tree["factor"])
    with pytest.raises(FormatError, match="do not go with"):
        ErrorTerm.from_tree({**tree, part: np.zeros((0, 3))})
