"""A plugin of pytest that fails a run whose processes took more processor time than they may.

Seconds of the processors and not of the clock: a machine that has other things to do is no reason to fail.
"""

import resource

import pytest


def pytest_addoption(parser):
    """Add the option that states the budget."""
    parser.addoption("--cpu-budget", type=float, metavar="SECONDS", help="fail if the run takes more processor time")


def seconds():
    """Return the processor time of this process and of all its descendants that have ended, workers among them."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


# Innermost of all: the workers have ended, and the summary is not yet written.
@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session):
    """Fail a run that is over its budget."""
    try:
        return (yield)
    finally:
        budget = session.config.getoption("--cpu-budget")
        if budget is not None and seconds() > budget and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    """Say what was spent of what."""
    budget = config.getoption("--cpu-budget")
    if budget is None:
        return
    spent = seconds()
    said = f"{spent:.1f} of {budget:g} seconds of processor time"
    if spent > budget:
        terminalreporter.section("over budget", sep="=", red=True, bold=True)
        said += ": make the slowest tests above cheaper, or raise the budget in the Makefile with a reason"
    terminalreporter.write_line(said)
