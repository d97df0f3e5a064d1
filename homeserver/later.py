"""Libraries that a server may never need, loaded when something of them is used.

What uses one imports it as any other, whole, and names its parts inside functions:
`import jinja2`, and later `jinja2.Environment(…)`.
"""

import sys
from collections.abc import Iterable
from importlib.util import find_spec, module_from_spec
from types import ModuleType


class _Later(ModuleType):
    """A module that has not been read yet."""

    def __getattr__(self, name: str) -> object:
        object.__setattr__(self, "__class__", ModuleType)  # from here on as any other
        spec = self.__spec__
        if spec is None or spec.loader is None:
            raise AttributeError(name)
        spec.loader.exec_module(self)
        return getattr(self, name)


def load_later(names: Iterable[str]) -> None:
    """Have those modules stand ready empty, and read them at the first look inside.

    For use by one thread. Those that are loaded or not installed stay as they are.
    """
    for name in names:
        spec = None if name in sys.modules else find_spec(name)
        if spec is not None:
            module = sys.modules[name] = module_from_spec(spec)
            module.__class__ = _Later
