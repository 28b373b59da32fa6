"""Registers the classes that are saved, as soon as Keras is there.

The package imports lazily. But `keras.saving.load_model` finds a class only if its
module has been imported, which registers it, and it imports no package but Keras' own.
So all modules with such classes are imported right after Keras, whoever imports it.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = __name__.partition(".")[0]
# Their modules register a class.
_REGISTERING = ("attacks", "callbacks", "optimizers", "recipes", "training", "zoo")
# They do without Keras.
_LIGHT = ("__main__", "command_line", "version")


def when_keras_is_imported() -> None:
    """Registers the classes: now, if Keras is imported, else when it will be."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _FirstImport())


def _register() -> None:
    for subpackage in _REGISTERING:
        importlib.import_module(f"{_PACKAGE}.{subpackage}")


class _FirstImport(importlib.abc.MetaPathFinder):
    """Notices the first import of Keras, or of a module here that needs it.

    In the latter case Keras comes first: else that module would be half imported, by
    an `import keras` of its own, when all others are.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """As every finder; None leaves it to the others."""
        package, _, rest = fullname.partition(".")
        if fullname == "keras":
            sys.meta_path.remove(self)
            return _then_registering(importlib.util.find_spec("keras"))
        if package == _PACKAGE and rest.split(".")[0] not in _LIGHT:
            importlib.import_module("keras")
            return _already_imported(sys.modules.get(fullname))
        return None


def _then_registering(spec: ModuleSpec | None) -> ModuleSpec | None:
    if spec is not None:
        spec.loader = _RegisteringLoader(spec.loader)
    return spec


def _already_imported(module: ModuleType | None) -> ModuleSpec | None:
    if module is None or module.__spec__ is None:
        return None
    return ModuleSpec(module.__name__, _NothingToLoad(module))


class _RegisteringLoader(importlib.abc.Loader):
    """Loads Keras as its own loader does, and registers the classes."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register()


class _NothingToLoad(importlib.abc.Loader):
    """Of a module that was imported while it was looked for."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import has put this loader's in its place
