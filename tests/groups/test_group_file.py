"""Files of groups: read back bit by bit, and refused in words where they are damaged."""

from __future__ import annotations

import subprocess
import sys

import asdf
import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D
from astropy.table import QTable

from spalipy_astro import Alignment, FormatError, GroupAlignment

ASK = """
import sys
from spalipy_astro import GroupAlignment
group = GroupAlignment.read(sys.argv[1])
print(group, group.shape, group.offset, float(group.alignments[1].transform(3.0, 4.0)[0]).hex())
"""


def make(n=3, failed=1, component=None):
    alignments = [
        Alignment.from_transform(
            AffineTransformation2D([[1, 1e-3 * k], [-1e-3 * k, 1]], [10 * k, 1 / 3]),
            source_shape=(30, 40),
            template_shape=(30, 40),
        )
        for k in range(n)
    ]
    component = component or [0] * n
    table = QTable(
        {
            "source": [f"frame{k}.fits" for k in range(n + failed)],
            "status": ["ok"] * n + ["failed"] * failed,
            "reason": [""] * n + ["its stars could not be matched."] * failed,
            "component": component + [-1] * failed,
            "rms": np.r_[np.full(n, 0.1), np.full(failed, np.nan)],
        }
    )
    one, two = np.arange(max(n - 1, 0)), np.arange(1, n)
    links = QTable(
        {
            "i": one,
            "j": two,
            "n_matched": np.full(len(one), 50),
            "log_odds": np.full(len(one), 99.5),
            "rms": np.full(len(one), 0.1),
            "used": np.ones(len(one), bool),
        }
    )
    top = 0 if n else None
    return GroupAlignment(top, alignments + [None] * failed, table, links, {"options": {"a": 1}})


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("group") / "field #1.asdf"
    make().write(path)
    return path


def test_a_fresh_interpreter_reads_it(path):
    group = make()
    x = float(group.alignments[1].transform(3.0, 4.0)[0]).hex()
    found = subprocess.run(
        [sys.executable, "-c", ASK, path], capture_output=True, text=True, timeout=60
    )
    assert found.stdout.strip() == f"{group} {group.shape} {group.offset} {x}", found.stderr


def test_all_of_it_comes_back(path):
    group, again = make(), GroupAlignment.read(path)
    assert again.reference == 0
    assert again.alignments[-1] is None
    assert again.provenance == group.provenance
    for name in ("table", "links"):
        one, two = getattr(group, name), getattr(again, name)
        assert one.colnames == two.colnames
        for column in one.colnames:
            np.testing.assert_array_equal(one[column], two[column])
    for one, two in zip(group.alignments[:-1], again.alignments[:-1], strict=True):
        assert one.transform(3.0, 4.0) == two.transform(3.0, 4.0)
        assert one.source_shape == two.source_shape


def test_asdf_opens_it(path):
    with open(path, "rb") as stream, asdf.open(stream) as file:
        assert isinstance(file["group"], GroupAlignment)


def test_a_group_without_links(tmp_path):
    nothing = make(0, failed=2)
    nothing.write(tmp_path / "none.asdf")
    again = GroupAlignment.read(tmp_path / "none.asdf")
    assert again.reference is None
    assert again.alignments == [None, None]
    assert len(again.links) == 0
    with pytest.raises(ValueError, match="no two frames are connected"):
        _ = again.shape


def test_many_frames_are_not_too_many_entries(tmp_path):
    make(12).write(tmp_path / "many.asdf")
    assert len(GroupAlignment.read(tmp_path / "many.asdf").alignments) == 13


def test_what_is_no_group_is_refused(path, tmp_path):
    whole = path.read_bytes()
    cases = {
        "cut short": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"no file of this kind",
        "later": whole.replace(b"tags/group-1.0.0", b"tags/group-9.0.0"),
        "no links": whole.replace(b"  links:", b"  lynks:"),
        "reference": whole.replace(b"  reference: 0", b"  reference: 7"),
        "negative": whole.replace(b"  reference: 0", b"  reference: -1"),
    }
    for name, content in cases.items():
        broken = tmp_path / "broken.asdf"
        broken.write_bytes(content)
        with pytest.raises(FormatError, match=r"broken\.asdf") as error:
            GroupAlignment.read(broken)
        assert name != "reference" or "its reference is 7, for 4 images" in str(error.value)
    with pytest.raises(FileNotFoundError):
        GroupAlignment.read(tmp_path / "nowhere.asdf")


def test_the_file_of_an_alignment_is_none_of_a_group(path, tmp_path):
    make().alignments[1].write(tmp_path / "one.asdf")
    with pytest.raises(FormatError, match=r"holds NoneType under 'group'.*Alignment\.read"):
        GroupAlignment.read(tmp_path / "one.asdf")
    with pytest.raises(FormatError, match="not an Alignment"):
        Alignment.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree["table"].remove_column("status"), "its table lacks the columns status"),
        (lambda tree: tree["links"].remove_column("used"), "its links lacks the columns used"),
        (lambda tree: tree["alignments"].pop(), "3 alignments, and 4 rows"),
        (lambda tree: tree["table"]["component"].put(0, -1), "components that its alignments"),
        (lambda tree: tree["links"]["j"].put(0, 9), r"images that it does not have \(j\)"),
        (lambda tree: tree.update(reference=3), "not in the largest component"),
        (lambda tree: tree.update(reference=None), "its reference is None, for 4 images"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(change, message):
    tree = make().to_tree()
    change(tree)
    with pytest.raises(FormatError, match=message):
        GroupAlignment.from_tree(tree)


def test_names_of_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Write .*group\.asdf"):
        make().write(tmp_path / "group.fits")
    make().write(tmp_path / "group.asdf")
    with pytest.raises(FileExistsError):
        make().write(tmp_path / "group.asdf")
    make(2).write(tmp_path / "group.asdf", overwrite=True)
    assert len(GroupAlignment.read(tmp_path / "group.asdf").alignments) == 3
