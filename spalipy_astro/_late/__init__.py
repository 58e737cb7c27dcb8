"""Names of a package that are imported when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["late"]


def late(
    package: str, modules: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    Return the functions ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Parameters
    ----------
    package : str
        Its ``__name__``.
    modules : mapping of str to tuple of str
        For each module in it the names that it gives to the package. A module whose name does not
        begin with an underscore is itself one of the package's names.

    Returns
    -------
    get, listed : callable
        The first raises AttributeError for any other name.

    Notes
    -----
    To a type checker, a module with a ``__getattr__`` has every name. So this is called where it
    does not look, beside the imports that it shall see::

        if TYPE_CHECKING:
            from package._module import name
        else:
            __getattr__, __dir__ = late(__name__, {"_module": ("name",)})
    """
    places = {name: module for module, names in modules.items() for name in names}
    public = {module for module in modules if not module.startswith("_")}

    def get(name: str) -> Any:
        if name in public:
            return import_module(f"{package}.{name}")
        if name not in places:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=sys.modules[package])
        value = getattr(import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, value)  # the next time it is found without this
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places, *public})

    return get, listed
