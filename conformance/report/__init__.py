"""What a run found, for people, for CI and for other programs."""

from conformance.report.junit import write_junit
from conformance.report.page import page
from conformance.report.terminal import show

__all__ = ["page", "show", "write_junit"]
