"""Commands in their first second and their last: ended at any time, in one line, with a status."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from astropy.io import fits
from astropy.wcs import WCS

from spalipy_astro.commands import _signals, main
from spalipy_astro.commands._signals import Ended, Heard

# what the installed scripts do; it tells when its own imports begin
SCRIPT = """
import sys
from spalipy_astro.commands import {name}

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            open("begun", "w").close()
            import time
            time.sleep(20)

sys.meta_path.insert(0, Watch())
sys.exit({name}())
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")
@pytest.mark.parametrize(
    ("number", "command", "module", "told"),
    [
        (signal.SIGINT, "align_fits a b -tf c", "numpy", "align-fits: interrupted; files are"),
        (signal.SIGTERM, "align_fits_simple a b c", "astropy", "align-fits-simple: ended by SIG"),
        (signal.SIGINT, "align_group a c -o b", "numpy", "align-group: interrupted; files are"),
        (signal.SIGINT, "main demo b", "numpy", "python -m spalipy_astro: interrupted; files are"),
    ],
)
def test_ended_while_it_imports(tmp_path, number, command, module, told):
    name, *words = command.split()
    for file in ("a", "c"):
        (tmp_path / file).touch()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(name=name, module=module), *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a test that runs in the background of a shell would ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "begun").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    lines = process.communicate(timeout=15)[0].splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(told)
    assert process.returncode == 128 + number


STATUS = """
import sys
from spalipy_astro import commands

found = []
for name, *words in {calls!r}:
    try:
        found.append(getattr(commands, name)(words))
    except SystemExit as end:
        found.append(end.code)
print()
print(*found, *({{name.partition(".")[0] for name in sys.modules}} & {heavy!r}))
"""


def test_help_and_what_is_mistyped_import_next_to_nothing(tmp_path):
    calls = {
        "align_fits -h": 0,
        "align_fits --version": 0,
        "align_fits a b -tf c --overwrit": 2,
        "align_fits a b -tf a --workers 0": 2,
        "align_fits missing b -tf a": 1,
        "align_fits a b -tf missing": 1,
        "align_fits_simple -h": 0,
        "align_fits_simple missing b a": 1,
        "align_group -h": 0,
        "align_group a": 2,
        "main -h": 0,
        "main demo": 2,
        "main align-fits -h": 0,
    }
    (tmp_path / "a").touch()
    heavy = {"numpy", "scipy", "astropy", "asdf", "yaml", "multiprocessing", "concurrent"}
    code = STATUS.format(calls=[call.split() for call in calls], heavy=heavy)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines()[-1] == " ".join(str(status) for status in calls.values())


UNNEEDED = (
    "gwcs matplotlib photutils reproject "
    "scipy.fft scipy.linalg scipy.ndimage scipy.optimize scipy.spatial scipy.special scipy.stats"
)


def test_a_plain_run_needs_no_gwcs(tmp_path, make_sky_pair):
    pair = make_sky_pair(n_stars=40, source_shape=(120, 150), template_shape=(130, 140))
    sky = WCS(naxis=2)
    sky.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    for name in ("source", "template"):
        data = getattr(pair, name).data
        fits.PrimaryHDU(data, sky.to_header()).writeto(tmp_path / f"{name}.fits")
    code = (
        "import sys, astropy.modeling, astropy.nddata, astropy.wcs; before = set(sys.modules); "
        "from spalipy_astro.commands import align_fits; status = align_fits(); "
        "import gc; assert gc.isenabled(); assert gc.get_freeze_count() > 10_000; "
        "print(*set(sys.modules) - before); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "source.fits", "out.fits", "-tf", "template.fits"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert fits.getheader(tmp_path / "out.fits")["CTYPE1"] == "RA---TAN"
    assert not set(UNNEEDED.split()) & set(done.stdout.split())


def test_the_collector_of_another_program_is_left_alone(tmp_path, capsys):
    (tmp_path / "bad.fits").touch()
    frozen = gc.get_freeze_count()
    assert main(["align-fits", f"{tmp_path}/bad.fits", f"{tmp_path}/out", "-tf", "bad"]) == 1
    assert "bad" in capsys.readouterr().err
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    time_is = [100.0]
    monkeypatch.setattr(_signals.time, "monotonic", lambda: time_is[0])
    return time_is


def test_a_second_signal_does_not_disturb_the_tidying(clock):
    signals = Heard()
    before = signal.getsignal(signal.SIGTERM)
    with signals:
        with pytest.raises(Ended):
            signal.raise_signal(signal.SIGTERM)
        clock[0] += 1
        assert signals.just_now
        signal.raise_signal(signal.SIGINT)  # the impatient operator: nothing happens
        assert signals.number == signal.SIGTERM
        clock[0] += 3
        assert not signals.just_now
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signals.number == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Heard():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_import_that_is_interrupted_says_something_else(tmp_path, monkeypatch, capsys):
    def work(*_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy failed to import") from None

    monkeypatch.setattr("spalipy_astro.commands._demo._demo", work)
    assert main(["demo", str(tmp_path)]) == 130
    assert capsys.readouterr().err == (
        "python -m spalipy_astro: interrupted; files are whole, and the same command continues\n"
    )


def test_in_another_thread_it_works_without_signals():
    numbers = []

    def work():
        with (signals := Heard()):
            numbers.append(signals.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert numbers == [0]
