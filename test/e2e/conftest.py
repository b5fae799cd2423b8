import os
import pwd
import shutil

import pytest

from instance import Instance, let_through


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.passed = report.passed


@pytest.fixture
def tmp_path(tmp_path, request):
    """pytest's, removed with what a test that passed left there: a journal alone is 128 MB."""
    yield tmp_path
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
    assert not [m for m in mounts if m.startswith(f"{tmp_path}/")], "something is still mounted there"
    if getattr(request.node, "passed", False):
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def mail(tmp_path):
    """A running system with alice and bob."""
    with Instance(tmp_path / "mail") as m:
        m.user("alice@example.test")
        m.user("bob@example.test")
        m.start()
        yield m


@pytest.fixture
def stopped(tmp_path):
    """An instance with alice and bob that was not started."""
    with Instance(tmp_path / "mail") as m:
        m.user("alice@example.test")
        m.user("bob@example.test")
        yield m


@pytest.fixture
def unprivileged(tmp_path):
    """The same, run by a user without rights (skipped only where the tests themselves are not root)."""
    if os.getuid() != 0:
        pytest.skip("needs root to become somebody else")
    nobody = pwd.getpwnam("nobody")
    tmp_path.chmod(0o755)
    let_through(tmp_path)
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    with Instance(tmp_path / "mail", as_user="nobody") as m:
        m.user("alice@example.test")
        m.user("bob@example.test")
        yield m
