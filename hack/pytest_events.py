"""Lets pytest write what becomes of its tests as `go test -json` does, so that testsum counts them: python -m pytest -p pytest_events."""

import json
import os

EVENTS = open(os.environ["PYTEST_EVENTS"], "w", encoding="utf-8")
ENDS = {"passed": "pass", "failed": "fail", "skipped": "skip"}


def event(action, test, **more):
    print(json.dumps({"Action": action, "Package": "python", "Test": test.replace("/", "|"), **more}), file=EVENTS, flush=True)


def pytest_runtest_logreport(report):
    test = report.nodeid.rpartition("/")[2]
    if report.when == "setup":
        event("run", test)
    # A test that is skipped, or whose fixtures fail, has no call.
    if report.when == "call" or report.outcome != "passed":
        if report.longrepr:
            event("output", test, Output=f"{report.longreprtext}\n")
        event(ENDS[report.outcome], test)


def pytest_collectreport(report):
    if report.failed:
        event("output", report.nodeid, Output=f"{report.longreprtext}\n")
        event("fail", report.nodeid)
