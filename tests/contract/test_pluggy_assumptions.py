"""What the plugin host relies on in pluggy (>=1.7,<2); if one of these fails, so would the host."""

from __future__ import annotations

import warnings

import pluggy
import pytest

hookspec, hookimpl = pluggy.HookspecMarker("t"), pluggy.HookimplMarker("t")


class Specs:
    @hookspec(firstresult=True)
    def one(self, a, b):
        """Two parameters."""

    @hookspec
    def every(self, a):
        """One parameter."""


@pytest.fixture
def manager():
    it = pluggy.PluginManager("t")
    it.add_hookspecs(Specs)
    return it


def _generated(source, **names):
    exec(compile(source, "<test>", "exec"), names)
    return hookimpl(names["one"])


class Plain:
    """Carries functions as attributes, like a proxy."""


def test_generated_functions_on_an_instance_are_hooks(manager):
    plugin = Plain()
    plugin.one = _generated("def one(a, b):\n    return answer(a, b)", answer=lambda a, b: (a, b))
    manager.register(plugin)
    assert manager.hook.one(b=2, a=1) == (1, 2)


def test_names_come_from_the_code_object(manager):
    def one(*args, **kwargs):
        return args, kwargs

    plugin = Plain()
    plugin.one = hookimpl(one)
    manager.register(plugin)
    assert manager.hook.one(a=1, b=2) == ((), {}), "a catch-all function would do as a proxy: simplify proxy.py"


def test_an_implementation_may_take_fewer_parameters(manager):
    class Older:
        @hookimpl
        def one(self, a):
            return a

    manager.register(Older())
    assert manager.hook.one(a=1, b=2) == 1


def test_a_parameter_that_the_specification_lacks_is_refused_at_registration(manager):
    class Wrong:
        @hookimpl
        def one(self, a, c):
            return c

        @hookimpl
        def every(self, a):
            return a

    with pytest.raises(pluggy.PluginValidationError):
        manager.register(Wrong())
    assert manager.get_plugins() == set(), "registration is not atomic"
    assert manager.hook.every(a=1) == []


def test_a_hook_without_specification_is_found_by_check_pending(manager):
    class Misspelt:
        @hookimpl
        def onee(self, a):
            return a

    manager.register(Misspelt())
    with pytest.raises(pluggy.PluginValidationError):
        manager.check_pending()


def test_a_call_goes_on_with_the_plugins_it_began_with(manager):
    seen = []

    class Other:
        @hookimpl
        def every(self, a):
            seen.append("other")

    other = Other()

    class Remover:
        @hookimpl(tryfirst=True)
        def every(self, a):
            manager.unregister(other)
            seen.append("remover")

    manager.register(other)
    manager.register(Remover())
    manager.hook.every(a=1)
    assert seen == ["remover", "other"]


def test_exceptions_come_through_unchanged(manager):
    class Raising:
        @hookimpl
        def one(self, a, b):
            raise KeyError(a)

    manager.register(Raising())
    with pytest.raises(KeyError):
        manager.hook.one(a=1, b=2)


def test_results_of_none_are_no_result(manager):
    class Nothing:
        @hookimpl
        def one(self, a, b):
            return None

        @hookimpl
        def every(self, a):
            return None

    manager.register(Nothing())
    assert manager.hook.one(a=1, b=2) is None
    assert manager.hook.every(a=1) == []


def test_firstresult_is_told_by_the_specification(manager):
    assert manager.hook.one.spec.opts["firstresult"] is True
    assert not manager.hook.every.spec.opts["firstresult"]


def test_a_missing_argument_is_warned_about(manager):
    class Both:
        @hookimpl
        def one(self, a):
            return a

    manager.register(Both())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manager.hook.one(a=1)
    assert "b" in str(caught[0].message)
