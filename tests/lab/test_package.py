"""The package `tsdistill.lab`: its functions, and the calls of version 0.1 that still work."""

from __future__ import annotations

import pytest

import tsdistill
from tsdistill.errors import TsdistillError
from tsdistill.lab import Outcome, check, run

SMALL = {"depths": (1,), "repeats": 2, "steps": 2}


def test_the_package_has_its_functions_without_an_import_of_its_own() -> None:
    assert tsdistill.lab.run is run
    assert tsdistill.lab.check is check


def test_the_package_is_callable_for_one_version() -> None:
    with pytest.warns(DeprecationWarning, match=r"lab\.run"):
        old = tsdistill.lab("gradient-rule", **SMALL)
    assert old.data == run("gradient-rule", settings=SMALL).data


@pytest.mark.parametrize(("old", "new"), [("lab_check", check), ("Outcome", Outcome)])
def test_former_names_warn(old: str, new: object) -> None:
    with pytest.warns(DeprecationWarning, match=r"tsdistill\.lab\."):
        assert getattr(tsdistill, old) is new


def test_a_setting_that_does_not_exist() -> None:
    with pytest.raises(TsdistillError, match="repeats"):
        run("gradient-rule", settings={"repeat": 2})


def test_the_former_module_of_the_figures_warns() -> None:
    import tsdistill.report.lab
    from tsdistill.lab.figures import save_outcome

    with pytest.warns(DeprecationWarning, match=r"lab\.figures"):
        assert tsdistill.report.lab.save_outcome is save_outcome
