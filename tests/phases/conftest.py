"""Makes the fixtures of conftest_phases available to the tests of this folder."""

from conftest_phases import arithmetic

__all__ = ["arithmetic"]
