"""The result: a transform, what supports it, and what can be done with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.modeling import Model
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from spalipy_astro import _windows
from spalipy_astro._smoothing import SplineSpace
from spalipy_astro.errors import FormatError
from spalipy_astro.fitting import Covariance, Fit

if TYPE_CHECKING:
    from spalipy_astro.matching import Match
    from spalipy_astro.registration import Frame

__all__ = ["Alignment", "Coverage", "Summary"]

FloatArray = NDArray[np.float64]


class Coverage(IntFlag):
    """Bits of `Alignment.coverage`."""

    NO_DATA = 1
    """The pixel lies outside the source frame."""
    EXTRAPOLATED = 2
    """The pixel lies outside the hull of the matched stars: the transform is extrapolated."""


class Summary(Mapping[str, Any]):
    """
    Figures of merit of an alignment: a mapping that prints itself as a table.

    Parameters
    ----------
    values : mapping
        The figures.
    """

    _LINES = (
        ("matched stars", "{n_matched} of {n_expected} expected, {n_clipped} clipped"),
        ("residuals", "{rms_x:.3f} px in x, {rms_y:.3f} px in y (rms)"),
        ("chi-squared", "{chi2_x:.2f} in x, {chi2_y:.2f} in y (per degree of freedom)"),
        ("log-odds", "{log_odds:.1f} (natural logarithm, against chance)"),
        ("scale", "{scale:.6f} template px per source px"),
        ("rotation", "{rotation:.4f} deg counter-clockwise"),
        ("parity", "{parity:+d}"),
        ("shift", "{shift_x:.2f} px in x, {shift_y:.2f} px in y (of the center)"),
        ("distortion", "{distortion:.2f} px at most, {freedom:.1f} parameters per axis"),
        ("coverage", "{coverage:.0%} of the overlap lies among matched stars"),
    )

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _rows(self) -> list[tuple[str, str]]:
        return [(label, line.format(**self._values)) for label, line in self._LINES]

    def __str__(self) -> str:
        return "\n".join(f"{label:15s} {line}" for label, line in self._rows())

    def __repr__(self) -> str:
        return f"Summary({self._values!r})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{label}</th><td>{line}</td></tr>" for label, line in self._rows())
        return f"<table>{rows}</table>"


@dataclass(frozen=True, eq=False, repr=False)
class Alignment:
    """
    The transform from a source's pixels to a template's, and what supports it.

    `find_alignment` makes one and `Alignment.read` opens one from a file.

    Attributes
    ----------
    transform : `~astropy.modeling.Model`
        Source px -> template px; ``transform.inverse`` goes back. Points are ``(x, y)``, 0-based,
        with pixel centers on integers.
    matches : `~astropy.table.QTable`
        The matched stars, brightest first: ``x_source``, ``y_source``, ``x_template``,
        ``y_template`` (px), ``flux_source``, ``flux_template``, ``source_row``, ``template_row``
        (rows of the catalogs), ``dx``, ``dy`` (residuals: template position minus transformed
        source position, template px), ``sigma`` (their expected scatter along each axis), ``used``
        (False where clipped).
    source_shape, template_shape : tuple of int or None
        Shapes ``(ny, nx)`` of the images; None where there was only a catalog.
    original_wcs : `astropy.wcs.WCS`, `gwcs.WCS` or None
        The template's own WCS.
    times : dict
        Seconds that detection, matching and fitting took.
    """

    transform: Model
    matches: QTable
    source_shape: tuple[int, int] | None
    template_shape: tuple[int, int] | None
    original_wcs: Any
    _summary: Mapping[str, Any]
    _covariance: Covariance | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def _wcs_pair(self) -> tuple[Any, Any]:
        from spalipy_astro.wcs import build_wcs

        return build_wcs(
            self.transform,
            self.original_wcs,
            source_shape=self.source_shape,
            template_shape=self.template_shape,
        )

    @property
    def wcs(self) -> Any:
        """The source's `gwcs.WCS`: source_detector -> template_detector, and on to any sky."""
        return self._wcs_pair[0]

    @property
    def template_wcs(self) -> Any:
        """The WCS of the template's pixels with the same world, for reproject's output."""
        return self._wcs_pair[1]

    def summary(self) -> Summary:
        """
        Return the figures of merit.

        Returns
        -------
        Summary
            A mapping that prints itself as a table.
        """
        return Summary(self._summary)

    def __repr__(self) -> str:
        s = self._summary
        return (
            f"<Alignment of {s['n_used']} stars, rms {s['rms']:.3f} px, scale {s['scale']:.5f}, "
            f"rotation {s['rotation']:.3f} deg, log-odds {s['log_odds']:.0f}>"
        )

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def error(self, x: ArrayLike, y: ArrayLike) -> Any:
        """
        Return the 1-sigma error of the transform.

        Parameters
        ----------
        x, y : array_like
            Source px.

        Returns
        -------
        ndarray or float
            Standard deviation along each axis, template px. It grows with the distance from the
            matched stars. The star's own position error is not in it.

        Notes
        -----
        From the Bayesian covariance of the penalized fit (Wahba 1983, J. R. Stat. Soc. B, 45, 133),
        which allows for the bias of smoothing.
        """
        if self._covariance is None:
            raise ValueError("this alignment was made without a fit and has no error estimate.")
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        template_xy = np.column_stack([np.ravel(c) for c in self.transform(x, y)])
        error = self._covariance.error(template_xy) * self._summary["scale"]
        return error.reshape(x.shape) if x.ndim else float(error[0])

    def resample(
        self,
        data: Any,
        *,
        method: str = "lanczos3",
        conserve_flux: bool = True,
        fill_value: float = np.nan,
        shape: tuple[int, int] | None = None,
        output: str = "template",
        mask: Any = None,
        uncertainty: Any = None,
        n_threads: int | None = None,
    ) -> Any:
        """
        Put an image with the source's geometry on the template's grid.

        Parameters
        ----------
        data : CCDData, NDData or array_like, shape (..., ny, nx)
            The image; leading axes are planes that share the geometry.
        method : str, optional
            ``"lanczos3"`` (default), ``"bicubic"``, ``"bilinear"``, ``"nearest"``,
            ``"adaptive"``, ``"exact"`` or ``"drizzle"``.
        conserve_flux : bool, optional
            Whether to conserve flux (default) or surface brightness.
        fill_value : float, optional
            Value of pixels without data.
        shape : tuple of int, optional
            Shape ``(ny, nx)`` of the output, from the template's pixel (0, 0); by default that
            of the template.
        output : {"template", "union"}, optional
            The template's grid, or that grid enlarged to hold both full frames.
        mask, uncertainty
            For plain arrays: as those of CCDData.
        n_threads : int, optional
            Threads; by default as many as the process has cores.

        Returns
        -------
        CCDData, NDData or ndarray
            Of the type of ``data``. Pixels without data are masked and have ``fill_value``.

        Raises
        ------
        ValueError
            If there is no shape to resample to, or an option is unknown.
        """
        from spalipy_astro import resampling

        offset: tuple[int, int] = (0, 0)
        if output == "union":
            if shape is not None:
                raise ValueError("output='union' finds its own shape; leave shape out.")
            offset, shape = self._union()
        elif output != "template":
            raise ValueError(f"output is 'template' or 'union'; got {output!r}.")
        elif shape is None:
            shape = self.template_shape
        if shape is None:
            raise ValueError(
                "the template was a catalog and has no shape; give the output's as shape=(ny, nx)."
            )
        return resampling.resample(
            data,
            self.transform.inverse,
            shape=shape,
            offset=offset,
            method=method,
            conserve_flux=conserve_flux,
            fill_value=fill_value,
            mask=mask,
            uncertainty=uncertainty,
            wcs=_windows.shifted_wcs(self.original_wcs, offset, shape),
            provenance=self._cards(),
            n_threads=n_threads,
        )

    def _union(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return offset ``(x, y)`` and shape of the window that holds both frames."""
        if self.source_shape is None or self.template_shape is None:
            raise ValueError("output='union' takes the shapes of two images; one was a catalog.")
        return _windows.union(self.transform, self.source_shape, self.template_shape)

    def coverage(self, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """
        Tell which template pixels the source covers, and where the transform is extrapolated.

        Parameters
        ----------
        shape : tuple of int, optional
            Shape ``(ny, nx)``; by default that of the template.

        Returns
        -------
        ndarray of uint8, shape (ny, nx)
            `Coverage` bits: 0 inside the source frame and among matched stars.
        """
        shape = self.template_shape if shape is None else shape
        if shape is None:
            raise ValueError("the template was a catalog and has no shape; give one.")
        out = np.zeros(shape, np.uint8)
        if self.source_shape is not None:
            inside = _windows.footprint(self.transform.inverse, self.source_shape, shape)
            out[~inside] |= np.uint8(Coverage.NO_DATA)
        used = self.matches[np.asarray(self.matches["used"])]
        xy = np.column_stack((used["x_template"], used["y_template"]))
        out[~_windows.hull_mask(xy, shape)] |= np.uint8(Coverage.EXTRAPOLATED)
        return out

    def plot(self, **images: Any) -> Any:
        """
        Draw matches, residuals and distortion.

        Parameters
        ----------
        **images
            ``source``, ``template`` and ``aligned`` images to show too; see
            `spalipy_astro.plotting.plot_alignment`.

        Returns
        -------
        `~matplotlib.figure.Figure`
        """
        from spalipy_astro.plotting import plot_alignment

        return plot_alignment(self, **images)

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """
        Save to an ASDF file.

        Parameters
        ----------
        path : path-like
            The file. It is written whole or not at all.
        overwrite : bool, optional
            Replace a file that exists.

        Raises
        ------
        FileExistsError
            If the file exists and may not be replaced.
        """
        import asdf

        from spalipy_astro._files import whole_file

        with whole_file(path, overwrite=overwrite) as part:
            asdf.AsdfFile({"alignment": self, "wcs": self.wcs}).write_to(part)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Alignment:
        """
        Open a file that `write` made.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        Alignment

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FormatError
            If it is no ASDF file, is damaged, holds no alignment, or was written by a later
            version.
        """
        import asdf

        if not os.path.exists(path):
            raise FileNotFoundError(f"there is no file {os.fspath(path)!r}.")
        try:
            # Not lazy: the alignment must outlive the file.
            with asdf.open(path, lazy_load=False, memmap=False) as file:
                alignment = file.tree.get("alignment")
        except Exception as error:
            raise FormatError(
                f"{os.fspath(path)!r} cannot be read as an alignment ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else 'no reason given'}). "
                "Files come from Alignment.write."
            ) from error
        if not isinstance(alignment, cls):
            raise FormatError(
                f"{os.fspath(path)!r} holds {type(alignment).__name__} under 'alignment', not an "
                "Alignment; it was not made by Alignment.write, or by a later version of "
                "spalipy_astro: try upgrading."
            )
        return alignment

    def _cards(self) -> dict[str, Any]:
        """Return the provenance cards of an aligned image."""
        from spalipy_astro import __version__

        return {
            "ALGNVERS": (__version__, "version of spalipy_astro"),
            "ALGNNUM": (int(self._summary["n_used"]), "stars that the transform was fitted to"),
            "ALGNRMS": (round(float(self._summary["rms"]), 5), "[px] rms distance of these stars"),
            "ALGNODDS": (round(float(self._summary["log_odds"]), 2), "ln odds against chance"),
        }

    def _to_tree(self) -> dict[str, Any]:
        """Return what the ASDF file holds."""
        tree = {
            "transform": self.transform,
            "matches": self.matches,
            "summary": dict(self._summary),
            "source_shape": None if self.source_shape is None else list(self.source_shape),
            "template_shape": None if self.template_shape is None else list(self.template_shape),
            "template_wcs": self.original_wcs,
            "provenance": dict(self.provenance),
        }
        if self._covariance is not None:
            space = self._covariance.space
            tree["covariance"] = {
                "bounds": [list(side) for side in space.bounds],
                "shape": [space.n_y, space.n_x],
                "degree": space.degree,
                "null_order": space.null_order,
                "factor": self._covariance.factor,
            }
        return {key: value for key, value in tree.items() if value is not None}

    @classmethod
    def _from_tree(cls, tree: Mapping[str, Any]) -> Alignment:
        """Rebuild from what the ASDF file holds."""
        covariance = None
        if "covariance" in tree:
            c = tree["covariance"]
            (x_lo, x_hi), (y_lo, y_hi) = c["bounds"]
            bounds = ((float(x_lo), float(x_hi)), (float(y_lo), float(y_hi)))
            space = SplineSpace(bounds, c["shape"][1], c["shape"][0], c["degree"], c["null_order"])
            covariance = Covariance(space, np.array(c["factor"], dtype=float))
        shapes = [
            tuple(int(n) for n in tree[key]) if tree.get(key) is not None else None
            for key in ("source_shape", "template_shape")
        ]
        return cls(
            transform=tree["transform"],
            matches=tree.get("matches", QTable()),
            source_shape=shapes[0],  # type: ignore[arg-type]
            template_shape=shapes[1],  # type: ignore[arg-type]
            original_wcs=tree.get("template_wcs"),
            _summary=dict(tree["summary"]),
            _covariance=covariance,
            provenance=dict(tree.get("provenance", {})),
        )

    @classmethod
    def _of_fit(
        cls, fit: Fit, match: Match, source: Frame, template: Frame, **extra: Any
    ) -> Alignment:
        """Wrap a fit of two frames."""
        transform = fit.backward.inverse
        s, t = source.stars.take(match.source), template.stars.take(match.template)
        forward = np.linalg.inv(fit.matrix)
        scale = float(np.sqrt(abs(np.linalg.det(forward))))
        offsets = t.xy - np.column_stack(transform(*s.xy.T))
        matches = QTable(
            {
                "x_source": s.xy[:, 0],
                "y_source": s.xy[:, 1],
                "x_template": t.xy[:, 0],
                "y_template": t.xy[:, 1],
                "flux_source": s.flux,
                "flux_template": t.flux,
                "source_row": s.row,
                "template_row": t.row,
                "dx": offsets[:, 0],
                "dy": offsets[:, 1],
                "sigma": fit.sigma * scale,
                "used": fit.used,
            }
        )
        summary = _figures(fit, match, source, template, matches, forward, scale)
        return cls(
            transform=transform,
            matches=matches,
            source_shape=source.shape,
            template_shape=template.shape,
            original_wcs=template.wcs,
            _summary=summary,
            _covariance=fit.covariance,
            provenance=_provenance(),
            **extra,
        )


def _figures(
    fit: Fit,
    match: Match,
    source: Frame,
    template: Frame,
    matches: QTable,
    forward: FloatArray,
    scale: float,
) -> dict[str, Any]:
    """Collect the figures of merit as plain numbers."""
    used = fit.used
    n_used = int(np.count_nonzero(used))
    d = np.column_stack((matches["dx"], matches["dy"]))[used]
    rms_x, rms_y = (float(v) for v in np.sqrt(np.mean(d**2, axis=0)))
    free = max(n_used - fit.freedom, 1e-9)
    chi2 = np.sum((d / matches["sigma"][used, np.newaxis]) ** 2, axis=0) / free
    shape_s, shape_t = (
        f.shape or tuple(f.stars.xy.max(axis=0)[::-1] + 1) for f in (source, template)
    )
    center = (np.array(shape_s[::-1]) - 1) / 2
    middle = (np.array(shape_t[::-1]) - 1) / 2
    transform = fit.backward.inverse
    shift = np.array(transform(*center)) - middle
    xy = np.column_stack((matches["x_template"], matches["y_template"]))
    affine_xy = (
        np.column_stack((matches["x_source"], matches["y_source"])) - fit.offset
    ) @ forward.T
    distortion = np.hypot(*(xy - affine_xy)[used].T).max() if fit.freedom > 3.01 else 0.0
    return {
        "n_source": len(source.stars),
        "n_template": len(template.stars),
        "n_matched": len(matches),
        "n_expected": int(match.expected),
        "n_used": n_used,
        "n_clipped": len(matches) - n_used,
        "rms_x": rms_x,
        "rms_y": rms_y,
        "rms": float(np.hypot(rms_x, rms_y)),
        "chi2_x": float(chi2[0]),
        "chi2_y": float(chi2[1]),
        "excess_scatter": float(fit.floor * scale),
        "log_odds": float(match.log_odds),
        "hypotheses": int(match.hypotheses),
        "scale": scale,
        "rotation": float(np.degrees(np.arctan2(forward[1, 0], forward[0, 0]))),
        "parity": 1 if np.linalg.det(forward) > 0 else -1,
        "shift_x": float(shift[0]),
        "shift_y": float(shift[1]),
        "freedom": float(fit.freedom),
        "distortion": float(distortion),
        "coverage": _windows.covered_fraction(fit.backward, xy[used], shape_s, shape_t),
    }


def _provenance() -> dict[str, str]:
    """Return the versions of what made the transform."""
    from importlib.metadata import version

    names = ("spalipy_astro", "astropy", "gwcs", "numpy", "photutils", "scipy")
    from spalipy_astro import __version__

    versions = {name: version(name) for name in names[1:]}
    return {"spalipy_astro": __version__, **versions}
