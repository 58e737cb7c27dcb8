from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import QTable

from spalipy_astro import Alignment, align_many, find_alignment

plt = pytest.importorskip("matplotlib.pyplot")
Image = pytest.importorskip("PIL.Image")

from spalipy_astro.report import _page, _report, _viewer  # noqa: E402  after the check for matplotlib
from spalipy_astro.report._told import told_of  # noqa: E402
from spalipy_astro.report._verdict import judge, judge_sequence  # noqa: E402

HOSTILE = "<script>alert('x')</script>&\"M 57\".fits"
CHROMIUM = os.environ.get("SPALIPY_ASTRO_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium found; SPALIPY_ASTRO_CHROMIUM can name one"
)


class Page(HTMLParser):
    """What a test asks of a page."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements, self.words, self.open = [], [], []
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def addresses(self):
        return [a[key] for _, a in self.elements for key in ("src", "href") if key in a]


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(rotation=20, seed=12, source_shape=(680, 760), template_shape=(640, 720))


@pytest.fixture(scope="module")
def written(pair, alignment, tmp_path_factory):
    """The report of a pair with all there is."""
    path = tmp_path_factory.mktemp("report") / "night.html"
    source = CCDData(pair.source, meta={"OBJECT": HOSTILE, "EXPTIME": 30.0})
    alignment.report(path, source=source, template=pair.template, title=HOSTILE)
    return path


@pytest.fixture(scope="module")
def table(pair):
    frames = [pair.source, np.full(pair.source.shape, np.nan), pair.template]
    table = align_many(frames, pair.template)
    table["source"] = [HOSTILE, "nan.fits", "template.fits"]
    return table


@pytest.fixture(scope="module")
def written_batch(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "batch.html"
    _report.report_sequence(table, path)
    return path


@pytest.fixture
def quick(monkeypatch):
    """Leave the drawing out: it takes most of the time."""

    def draw(self, draw, *, alt, caption):
        return _report._html.figure(b"", (1, 1), alt, caption)

    monkeypatch.setattr(_page.Figures, "draw", draw)


def test_the_page_needs_nothing_but_itself(written, written_batch):
    for path in (written, written_batch):
        page = Page(path)
        assert all(address.startswith(("data:", "#")) for address in page.addresses())
        assert not re.search(r"@import|url\(|https?://", page.source)
        (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert page.elements[0] == ("html", {"lang": "en"})


def test_the_verdict_comes_first(written, alignment):
    text = Page(written).text
    verdict = judge(alignment)
    assert verdict.concerns == []
    assert verdict.headline == "✓ The frames match"
    n = alignment.summary()["n_used"]
    order = [verdict.headline, f"{n} stars that both frames show", "See for yourself", "Figures"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    for fact in verdict.facts:
        assert fact in text


def test_what_stands_in_files_is_escaped(written, written_batch):
    for path in (written, written_batch):
        page = Page(path)
        assert "<script>alert" not in page.source
        assert HOSTILE in page.text  # as text
        assert len(page.all("script")) == 1


def test_every_picture_has_words(written, written_batch):
    for path, least in ((written, 12), (written_batch, 5)):
        pictures = Page(path).all("img")
        assert len(pictures) >= least
        assert all(len(picture["alt"]) > 12 for picture in pictures)
        for picture in pictures:
            content = base64.b64decode(picture["src"].partition(",")[2])
            size = (int(picture["width"]), int(picture["height"]))
            assert Image.open(BytesIO(content)).size == size


def test_figures_are_closed_and_settings_kept(table, written_batch, tmp_path):
    before = plt.get_fignums()
    with plt.rc_context({"font.size": 31.0}):
        _report.report_sequence(table, tmp_path / "r.html")
        assert plt.rcParams["font.size"] == 31.0
    assert plt.get_fignums() == before
    # and the pages do not differ
    assert (tmp_path / "r.html").read_bytes() == written_batch.read_bytes()


def test_without_images_there_is_no_viewer(pair, alignment, tmp_path, quick):
    for number, images in enumerate(
        ({}, {"source": pair.source}, {"template": pair.template}, {"aligned": pair.template})
    ):
        path = tmp_path / f"{number}.html"
        alignment.report(path, **images)
        page = Page(path)
        assert page.all("input") == []
        assert "See for yourself" not in page.text
        assert len(page.all("img")) == 8


def test_the_aligned_source_may_be_given(pair, alignment, tmp_path, quick):
    alignment.report(tmp_path / "1.html", source=pair.source, template=pair.template)
    aligned = alignment.resample(pair.source)
    alignment.report(tmp_path / "2.html", aligned=aligned, template=pair.template)
    pictures = [Page(tmp_path / name).all("img")[:2] for name in ("1.html", "2.html")]
    assert pictures[0] == pictures[1]


def test_images_on_different_grids(pair, alignment, tmp_path, quick):
    with pytest.raises(ValueError, match=r"shape \(640, 720\) and the aligned source \(680, 760\)"):
        alignment.report(tmp_path / "r.html", aligned=pair.source, template=pair.template)
    assert list(tmp_path.iterdir()) == []


def test_an_alignment_of_catalogs(pair, alignment, tmp_path):
    matches = alignment.matches
    xy = [np.column_stack((matches[f"x_{s}"], matches[f"y_{s}"])) for s in ("source", "template")]
    bare = find_alignment(*xy)
    bare.report(tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert len(page.all("img")) == 6  # no fluxes, no coverage
    assert "a catalog" in page.text


def test_an_image_gives_the_grid_that_a_catalog_has_not(pair, alignment, tmp_path, quick):
    matches = alignment.matches
    xy = [np.column_stack((matches[f"x_{s}"], matches[f"y_{s}"])) for s in ("source", "template")]
    bare = find_alignment(*xy)
    bare.report(tmp_path / "2.html", source=pair.source, template=pair.template)
    assert len(Page(tmp_path / "2.html").all("input")) >= 1


def test_an_inverse_from_a_file(alignment, tmp_path, quick):
    alignment.write(tmp_path / "a.asdf")
    Alignment.read(tmp_path / "a.asdf").inverse.report(tmp_path / "r.html")
    assert "✓ The frames match" in Page(tmp_path / "r.html").text


def test_in_a_notebook(alignment):
    hostile = replace(alignment, _summary={**alignment.summary(), "n_matched": "<script>"})
    for shown in (alignment, hostile):
        html = shown._repr_html_()
        assert html.startswith("<p>&lt;Alignment of ")
        assert html.count("<tr>") == len(shown.summary()._rows())
        assert "<script>" not in html
    assert "\n" not in repr(alignment)
    assert len(repr(alignment)) < 120


def test_nothing_is_overwritten_unasked(alignment, table, tmp_path, quick):
    path = tmp_path / "r.html"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        alignment.report(path)
    with pytest.raises(FileExistsError):
        _report.report_sequence(table, path)
    assert path.read_text() == "precious"
    alignment.report(path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    assert "The frames match" in Page(path).text


def test_matplotlib_is_asked_for(alignment, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "spalipy_astro.visualization", None)
    monkeypatch.delattr("spalipy_astro.visualization")
    with pytest.raises(ImportError, match="pip install matplotlib"):
        alignment.report(tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


WORRIES = {
    "log_odds": (20.0, "evidence is thin"),
    "n_used": (7, "rests on 7 stars"),
    "n_expected": (10_000, "10000 were expected"),
    "n_clipped": (50, "were left out of the fit"),
    "chi2_x": (4.0, "2.0 times larger"),
    "excess_scatter": (0.34, "0.34 px more than their noise"),
    "coverage": (0.5, "50% of the overlap lies outside"),
}


@pytest.mark.parametrize("name", WORRIES)
def test_worries(alignment, name):
    value, words = WORRIES[name]
    summary = {**alignment.summary(), name: value}
    doubtful = SimpleNamespace(
        summary=lambda: summary,
        matches=alignment.matches,
        transform=alignment.transform,
        source_shape=alignment.source_shape,
        template_shape=alignment.template_shape,
        error=alignment.error,
    )
    verdict = judge(doubtful)
    assert verdict.headline.startswith("! ")
    assert len(verdict.concerns) == 1
    assert words in verdict.concerns[0]


def test_worries_about_the_field(alignment):
    doubtful = SimpleNamespace(
        summary=alignment.summary,
        matches=alignment.matches,
        transform=alignment.transform,
        source_shape=(150, 160),
        template_shape=alignment.template_shape,
        error=lambda x, y: np.where(x > 140, 0.7, 0.1),
    )
    first, second = judge(doubtful).concerns
    assert "uncertain by up to 0.7 px" in first
    assert re.search(r"covers \d% of the template only", second)


def test_chance_in_words(alignment):
    summary = {**alignment.summary(), "log_odds": 100 * np.log(10) + 0.1}
    first, fact, *_ = judge(
        SimpleNamespace(
            summary=lambda: summary,
            matches=alignment.matches,
            transform=alignment.transform,
            source_shape=None,
            template_shape=None,
        )
    ).facts
    assert first == f"Aligned to {summary['error']:.2g} px by {summary['n_used']} stars."
    assert "chance are 1 to 10¹⁰⁰ (log-odds 230)" in fact


def test_a_batch(written_batch, table):
    page = Page(written_batch)
    assert "! 2 of 3 frames were aligned, 1 was not" in page.text
    assert "1 frame not aligned: the source cannot be searched for stars" in page.text
    rows = page.source.count("<tr")
    assert rows > 3
    assert page.source.count('class="failed">') == 1
    assert str(table["reason"][1]) in page.text
    assert f"{table['rms'][0]:.3f}" in page.text
    assert "option threshold" in page.text


def test_links_lead_from_the_table_to_each_frame_and_back(written_batch, table):
    page = Page(written_batch)
    links = [a["href"] for a in page.all("a")]
    anchors = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(anchors)) == len(anchors) == 2 * len(table)
    assert {f"#{anchor}" for anchor in anchors} == set(links)
    rows = [re.search(f'<tr id="row-{k}".*?</tr>', page.source)[0] for k in range(3)]
    parts = [
        re.search(f'<article id="frame-{k}">.*?</article>', page.source, re.S)[0] for k in range(3)
    ]
    for k, (row, part) in enumerate(zip(rows, parts, strict=True)):
        assert re.findall('href="(.*?)"', row) == [f"#frame-{k}"]
        near = [f"#frame-{j}" for j in (k - 1, k + 1) if 0 <= j < 3]
        assert re.findall('href="(.*?)"', part) == [f"#row-{k}", *near]
    assert f"by {table['alignment'][0].summary()['n_used']} stars" in parts[0]
    assert "<img" in parts[0]
    assert "cannot be searched for stars" in parts[1]
    assert "This frame is the template." in parts[2]
    assert "frame template.fits" in page.text  # the provenance, where the array has no name


def test_frames_whose_alignments_are_in_files(alignment, tmp_path, quick):
    table = _made_up(3)
    alignment.write(tmp_path / "0.asdf")
    table["asdf"] = [str(tmp_path / "0.asdf"), str(tmp_path / "moved.asdf"), ""]
    _report.report_sequence(table, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert page.text.count("✓ The frames match") == 1
    assert page.text.count("moved.asdf") == 1
    assert "option threshold" in page.text


def _made_up(n, *, failed=()):
    bad = np.isin(np.arange(n), failed)
    figures = {"rms": 0.2, "log_odds": 900.0, "shift_x": 1.0, "shift_y": -0.01, "rotation": 0.0}
    table = QTable({name: np.full(n, value) for name, value in figures.items()})
    table["source"] = [f"f{k}.fits" for k in range(n)]
    table["status"] = np.where(bad, "failed", "ok")
    table["reason"] = [f"no stars: noise {k}.5 is too high" if b else "" for k, b in enumerate(bad)]
    table["scale"], table["parity"], table["n_matched"] = 1.0, 1, 300
    table["time"], table["resumed"] = 0.5, False
    return table


@pytest.mark.parametrize(
    ("n", "failed", "headline"),
    [
        (3, (), "✓ All 3 frames were aligned"),
        (1, (), "✓ The frame was aligned"),
        (3, (0, 1, 2), "✗ None of 3 frames was aligned"),
        (0, (), "! There were no frames"),
    ],
)
def test_batches_of_all_kinds(n, failed, headline, tmp_path, quick):
    table = _made_up(n, failed=failed)
    assert judge_sequence(table).headline == headline
    _report.report_sequence(table, tmp_path / "r.html")
    assert headline in Page(tmp_path / "r.html").text


def test_worries_about_a_batch():
    table = _made_up(12, failed=(2, 3, 5))
    table["rms"][7], table["n_matched"][8], table["log_odds"][9] = 0.9, 60, 20.0
    assert judge_sequence(table).concerns == [
        "3 frames not aligned: no stars: noise 2.5 is too high",
        "Residuals three times those of the others: 1 frame (f7.fits). Clouds, trails or bad "
        "focus?",
        "A third of the matched stars of the others: 1 frame (f8.fits). Clouds, trails or bad "
        "focus?",
        "Thin evidence: 1 frame (f9.fits). Clouds, trails or bad focus?",
    ]


def test_rejected_frames_and_the_template():
    table = _made_up(6, failed=(5,))
    table["status"] = ["ok"] * 4 + ["rejected", "failed"]
    table["reason"] = [*table["reason"][:4], "fwhm is 5, above the limit of 4", table["reason"][5]]
    table.meta["template"] = table["source"][0]
    table["rms"][0], table["n_matched"][0] = 0.0, 99_999
    verdict = judge_sequence(table)
    assert verdict.headline == "! 4 of 6 frames are good, 1 was rejected, 1 was not aligned"
    assert verdict.concerns[:2] == [
        "1 frame not aligned: no stars: noise 5.5 is too high",
        "1 frame rejected: fwhm is 5, above the limit of 4",
    ]
    assert "99999" not in " ".join(verdict.facts)
    table["source"][0] = "again"
    table["shift_x"][0] = table["shift_y"][0] = 0.0
    assert judge_sequence(table).facts == verdict.facts


def test_what_is_told_of_the_making():
    def my_finder(data, mask=None):
        return None

    told = told_of(
        {
            "astropy": "8.0",
            "batch": "12ab",
            "figures": {"rms": 0.1},
            "options": {"finder": my_finder, "threshold": 5.0},
            "quality": {"source": {"fwhm": 2.34567, "fwhm_arcsec": np.nan, "n_stars": 30.0}},
        }
    )
    assert told["quality of the source"] == "fwhm 2.346, n stars 30"
    assert set(told) == {"astropy", "options", "quality of the source"}
    assert told["options"]["finder"].endswith("my_finder")
    assert told["options"]["threshold"] == "5.0"


def test_a_batch_is_the_table_of_align_many(tmp_path):
    with pytest.raises(ValueError, match="the table lacks log_odds"):
        _report.report_sequence(QTable({"x": [1.0]}), tmp_path / "r.html")


def test_block_means():
    image = np.arange(5 * 7, dtype=float).reshape(5, 7)
    image[0, 0], image[4, 6] = np.nan, np.nan
    small = _viewer.block_mean(image, 4)
    assert small.shape == (3, 4)
    assert small[0, 0] == pytest.approx(np.nanmean(image[:2, :2]))
    assert small[1, 2] == pytest.approx(image[2:4, 4:6].mean())
    assert np.isnan(small[2, 3])
    assert _viewer.block_mean(image, 7) is image


def test_gray_levels():
    rng = np.random.default_rng(3)
    image = rng.normal(200, 5, (60, 90))
    image[10, 20], image[30, 40], image[50:, :] = 230, 20000, np.nan
    gray = _viewer.to_gray(image)
    sky = np.median(gray[:50])
    assert 10 < sky < 80
    assert sky + 30 < gray[10, 20] < gray[30, 40] == 255
    assert np.all(gray[50:] == 0)
    assert np.all(_viewer.to_gray(np.full((4, 5), np.nan)) == 0)


@pytest.mark.parametrize("center", [(0, 0), (350, 320), (719, 639)])
def test_the_detail_lies_in_the_frame(center):
    rows, columns = _viewer.detail_around(center, (640, 720))
    assert 0 <= rows.start < rows.stop <= 640
    assert 0 <= columns.start < columns.stop <= 720
    assert (rows.stop - rows.start, columns.stop - columns.start) == (300, 450)
    assert _viewer.detail_around(center, (70, 90)) == (slice(0, 70), slice(0, 90))


def test_a_pair_of_4096_pixels_stays_small():
    """The figures weigh 0.8 MB or less, whatever the size of the frames."""
    rng = np.random.default_rng(4)
    image = rng.normal(100, 5, (4096, 4096))
    y, x = rng.integers(0, 4096, (2, 20_000))
    image[y, x] += 100 * rng.pareto(1.0, 20_000)
    weight = sum(map(len, _viewer.viewer(image, image, (2000, 2000))))
    assert 1e5 < weight < 1.8e6


SELF_TEST = """
<script>
const errors = [];
window.addEventListener("error", (event) => errors.push(String(event.message)));
</script>
"""

DRIVER = """
<script>
addEventListener("load", async () => {
  const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const result = {
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    broken: [...document.images].filter((image) => !image.naturalWidth).length,
  };
  const viewer = document.querySelector(".viewer");
  if (viewer) {
    const stage = viewer.querySelector(".stage"), slider = viewer.querySelector("input");
    const above = stage.querySelectorAll("img")[1];
    const box = stage.getBoundingClientRect();
    const clip = () => getComputedStyle(above).clipPath;
    result.start = clip();
    slider.value = 20;
    slider.dispatchEvent(new Event("input"));
    result.slid = clip();
    slider.focus();
    result.focused = document.activeElement === slider;
    const pointer = (kind, share) => stage.dispatchEvent(new PointerEvent(kind, {
      pointerId: 1, isPrimary: true, button: 0, bubbles: true,
      clientX: box.left + share * box.width, clientY: box.top + 5,
    }));
    // Made-up pointers cannot be captured.
    stage.setPointerCapture = () => {};
    stage.hasPointerCapture = () => true;
    pointer("pointerdown", 0.5);
    pointer("pointermove", 0.75);
    result.dragged = [clip(), slider.value];
    const [blink, difference] = viewer.querySelectorAll("button");
    const state = () => [
      stage.dataset.shown, getComputedStyle(above).visibility, viewer.querySelector("output").value,
    ];
    blink.click();
    result.blink = [state()];
    await later(700);
    result.blink.push(state());
    difference.click();
    result.difference = [state()[0], getComputedStyle(above).mixBlendMode];
    await later(1500);
    result.still = state()[0];
    difference.click();
    result.end = [state()[0], clip(), blink.getAttribute("aria-pressed")];
  }
  result.errors = errors;
  parent.postMessage(JSON.stringify(result), "*");
});
</script>
"""

# A window cannot be narrower than 500 pixels; a frame within it can.
WINDOW = """<!DOCTYPE html>
<script>
addEventListener("message", (event) => {
  const out = document.createElement("pre");
  out.textContent = btoa(event.data);
  document.body.append(out);
});
</script>
<iframe src="copy.html" style="width: %dpx; height: 900px; border: 0"></iframe>
"""


def chromium(folder, *arguments):
    """Run headless Chromium with an empty profile and no network."""
    command = [
        CHROMIUM,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--enable-logging=stderr", "--virtual-time-budget=8000", "--hide-scrollbars"),
        f"--user-data-dir={folder / 'profile'}",
        *arguments,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=True
    )


@needs_chromium
@pytest.mark.parametrize("kind", ["written", "written_batch"])
def test_the_page_loads_without_errors(kind, request, tmp_path):
    path = request.getfixturevalue(kind)
    result = chromium(tmp_path, "--dump-dom", path.as_uri())
    assert "</html>" in result.stdout
    assert "CONSOLE" not in result.stderr
    if kind == "written":
        # the script has run: the policy lets it pass
        assert "aria-valuetext" in result.stdout


@needs_chromium
def test_console_errors_would_be_seen(written, tmp_path):
    page = written.read_text(encoding="utf-8").replace("</main>", "<script>f()</script></main>")
    (tmp_path / "bad.html").write_text(page, encoding="utf-8")
    result = chromium(tmp_path, "--dump-dom", (tmp_path / "bad.html").as_uri())
    assert "CONSOLE" in result.stderr
    assert "Content Security Policy" in result.stderr  # no other script may run


@needs_chromium
@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("kind", ["written", "written_batch"])
def test_the_page_works_at_any_width(kind, width, request, tmp_path):
    page = request.getfixturevalue(kind).read_text(encoding="utf-8")
    page = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", page)
    page = page.replace("<head>", "<head>" + SELF_TEST).replace("</body>", DRIVER + "</body>")
    (tmp_path / "copy.html").write_text(page, encoding="utf-8")
    (tmp_path / "window.html").write_text(WINDOW % width, encoding="utf-8")
    uri = (tmp_path / "window.html").as_uri()
    dom = chromium(tmp_path, "--window-size=1700,1000", "--dump-dom", uri).stdout
    (found,) = re.findall(r"<pre>(.*?)</pre>", dom)
    result = json.loads(base64.b64decode(found))
    assert result["errors"] == []
    assert result["broken"] == 0
    assert result["width"] == width
    assert result["scroll"] <= width
    if kind == "written":
        assert result["start"] == "inset(0px 0px 0px 50%)"
        assert result["slid"] == "inset(0px 0px 0px 20%)"
        assert result["focused"]
        assert result["dragged"] == ["inset(0px 0px 0px 75%)", "75"]
        assert result["blink"] == [
            ["template", "hidden", "Template"],
            ["source", "visible", "Aligned source"],
        ]
        assert result["difference"] == ["difference", "difference"]
        assert result["still"] == "difference"  # no longer blinking
        assert result["end"] == [None, "inset(0px 0px 0px 75%)", "false"]
