"""The path of a newcomer and of an administrator: make demo, make install, and README's steps as they are written.

The steps run in a network and mount namespace of their own, so that ports and directories are the real ones and
the host stays as it is."""

import os
import pty
import pwd
import re
import select
import shutil
import signal
import subprocess
import time

import pytest

from instance import BINARY, PATIENCE, ROOT, let_through, wait_for

NOBODY = pwd.getpwnam("nobody")
AS = ["root", "nobody"] if os.getuid() == 0 else ["self"]
PASSWORD = "correct horse battery"


def can_unshare(*flags):
    return subprocess.run(["unshare", *flags, "true"], capture_output=True).returncode == 0


@pytest.fixture(params=AS)
def somebody(request, tmp_path):
    """How to become the user of the test, and a directory of his."""
    home = tmp_path / "home"
    home.mkdir()
    let_through(home)
    prefix = []
    if request.param == "nobody":
        os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
        prefix = ["setpriv", "--reuid", str(NOBODY.pw_uid), "--regid", str(NOBODY.pw_gid), "--clear-groups"]
    return prefix, home


def environment(home, **more):
    return dict(os.environ, HOME=str(home), TMPDIR=str(home), POSTRIDER=BINARY, **more)


def processes_of(directory):
    """Processes that have something to do with the directory."""
    found = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            if str(directory) in open(f"/proc/{pid}/cmdline").read() or os.readlink(f"/proc/{pid}/cwd").startswith(str(directory)):
                found.append(int(pid))
        except OSError:
            pass
    return found


# ---- make demo ----

def demo(prefix, home, *args, **more):
    return subprocess.Popen([*prefix, os.path.join(ROOT, "contrib", "demo"), *args], env=environment(home, **more),
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=home)


def test_the_demonstration_works_and_leaves_nothing(somebody):
    prefix, home = somebody
    d = demo(prefix, home, "once")
    out = d.communicate(timeout=4 * PATIENCE)[0]
    assert d.returncode == 0, out
    assert "The attachment is byte for byte what was sent." in out
    assert "Set up a mail client" in out
    assert os.listdir(home) == []
    assert processes_of(home) == []


def test_the_demonstration_stays_until_ctrl_c(somebody):
    prefix, home = somebody
    d = demo(prefix, home)
    lines = []
    for line in d.stdout:
        lines.append(line)
        if "Running. Ctrl-C ends it" in line:
            break
    else:
        raise AssertionError("".join(lines))
    os.killpg(d.pid, signal.SIGINT)
    out = d.communicate(timeout=PATIENCE)[0]
    assert d.returncode == 0, "".join(lines) + out
    assert os.listdir(home) == []
    assert processes_of(home) == []


@pytest.mark.parametrize("program", ["swaks", "curl"])
def test_a_demonstration_that_fails_says_so(somebody, program):
    """A step whose program fails; status and tidiness."""
    prefix, home = somebody
    broken = home / "bin"
    broken.mkdir()
    # curl works until there is a message to read: it is also how the script waits for the start.
    script = "#!/bin/sh\nexit 7\n" if program == "swaks" else \
        "#!/bin/sh\ncase \"$*\" in *MAILINDEX*) exit 7 ;; esac\nexec /usr/bin/curl \"$@\"\n"
    (broken / program).write_text(script)
    (broken / program).chmod(0o755)
    d = demo(prefix, home, "once", PATH=f"{broken}:{os.environ['PATH']}")
    out = d.communicate(timeout=4 * PATIENCE)[0]
    assert d.returncode not in (0, None), out
    assert "FAILED: " in out
    assert os.listdir(home) == ["bin"]
    assert processes_of(home) == []


def test_make_demo_runs_the_demonstration_of_what_it_built():
    done = subprocess.run(["make", "-n", "demo", "DEMO=once", "B=/nonexistent/b"], cwd=ROOT, capture_output=True, text=True,
                          env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS")})
    assert "POSTRIDER=/nonexistent/b/postrider contrib/demo once" in done.stdout, done.stdout + done.stderr


# ---- make install ----

def copy_built(build):
    """The binaries of this test run: both, or the whole one in the small one's place."""
    shutil.copy(BINARY, build / "postrider")
    shutil.copy(BINARY + "-client" if os.path.exists(BINARY + "-client") else BINARY, build / "postrider-client")


def make_install(tmp_path, destination, *variables):
    """Installs the binary of this test run, without building another."""
    build = tmp_path / "b"
    build.mkdir(exist_ok=True)
    copy_built(build)
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", "-o", f"{build}/postrider", "-o", f"{build}/postrider-client", f"B={build}", f"DESTDIR={destination}", *variables, "install"],
                          cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("variables,prefix", [([], "/usr/local"), (["PREFIX=/usr"], "/usr")])
def test_make_install_under_a_destination(tmp_path, variables, prefix):
    destination = tmp_path / "package"
    make_install(tmp_path, destination, *variables)
    binary = f"{destination}{prefix}/sbin/postrider"
    done = subprocess.run([binary, "--version"], capture_output=True, text=True)
    assert re.fullmatch(r"postrider \d+\.\d+\.\d+\n", done.stdout)
    for page in ("man1/postrider.1", "man5/main.cf.5", "man5/master.cf.5"):
        path = f"{destination}{prefix}/share/man/{page}"
        assert os.stat(path).st_mode & 0o777 == 0o644
        shown = subprocess.run(["man", "-l", path], capture_output=True, text=True, env=dict(os.environ, MANPAGER="cat", LC_ALL="C"))
        assert shown.returncode == 0 and len(shown.stdout) > 1000, shown.stderr
    unit = open(f"{destination}/lib/systemd/system/postrider.service").read()
    assert f"ExecStart={prefix}/sbin/postrider -c /etc/postrider run\n" in unit and "@" not in unit
    listed = sorted(os.path.relpath(os.path.join(base, f), destination) for base, _, files in os.walk(destination) for f in files)
    names = [f"{prefix[1:]}/sbin/{n}" for n in ("sendmail", "mailq", "newaliases", "postmap", "postalias", "postqueue", "postsuper", "postcat", "qshape")]
    assert set(names) < set(listed)
    for n in names:
        assert os.readlink(f"{destination}/{n}") == ("postrider" if n.endswith(("newaliases", "postmap", "postalias")) else "postrider-client")
    client = subprocess.run([f"{destination}{prefix}/sbin/postrider-client", "--version"], capture_output=True, text=True)
    assert client.stdout == done.stdout
    assert len(listed) == 25, listed
    rotate = open(f"{destination}/etc/logrotate.d/postrider").read()
    assert f"{prefix}/sbin/postrider -c /etc/postrider reload" in rotate and "@" not in rotate


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path):
    destination = tmp_path / "package"
    make_install(tmp_path, destination)
    # verify wants the program where the unit says; here it is somewhere else.
    unit = open(f"{destination}/lib/systemd/system/postrider.service").read()
    path = tmp_path / "postrider.service"
    path.write_text(unit.replace("/usr/local/sbin/", f"{destination}/usr/local/sbin/"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True)
    about_it = [line for line in done.stderr.splitlines() if "postrider" in line and "Failed to create" not in line]
    assert done.returncode == 0 or "Failed to" in done.stderr, done.stderr
    assert about_it == [], done.stderr


@pytest.mark.skipif(os.getuid() != 0 or not can_unshare("-m"), reason="needs root and namespaces")
def test_the_unit_leaves_master_what_it_needs(stopped):
    """Capabilities, new privileges and read-only file systems as the unit has them."""
    unit = open(os.path.join(ROOT, "contrib", "postrider.service")).read()
    assert "NoNewPrivileges=yes" in unit and "ProtectSystem=full" in unit
    caps = [c[4:].lower() for c in re.search(r"(?m)^CapabilityBoundingSet=(.*)$", unit).group(1).split()]
    script = "for d in /usr /etc; do mount --bind $d $d && mount -o remount,bind,ro $d; done && exec \"$@\""
    done = subprocess.run(["unshare", "-m", "sh", "-ec", script, "sh", "setpriv", "--no-new-privs", "--inh-caps=-all",
                           "--bounding-set=-all," + ",".join("+" + c for c in caps), BINARY, "-c", stopped.dir, "start"],
                          capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode == 0, done.stderr
    try:
        bounding = re.search(r"(?m)^CapBnd:\s*(\w+)", open(f"/proc/{done.stdout.split()[-1]}/status").read()).group(1)
        assert 0 < bin(int(bounding, 16)).count("1") <= len(caps)      # a container may have less
        stopped.send("alice@example.test")
        stopped.wait_messages("alice@example.test", 1)
        stopped.configure(message_size_limit="50000000")
        stopped.command("reload")
        stopped.command("restart")
        status = stopped.command("status").stdout
        assert status.count("chroot") == 7 and status.count("seccomp") == 7, status
        stopped.imap("alice@example.test").logout()
    finally:
        stopped.command("stop")


# ---- README's steps ----

def readme_block(after):
    """The lines of the first indented block behind the text."""
    text = open(os.path.join(ROOT, "README.md")).read()
    lines = text[text.index(after):].splitlines()[1:]
    block = []
    for line in lines:
        if line.startswith("    "):
            block.append(line[4:])
        elif block and line.strip():
            break
    return "\n".join(block) + "\n"


def at_terminal(argv, env, cwd, until, timeout=2 * PATIENCE):
    """Runs it at a terminal of its own and types the password whenever it is asked for. Ends when it exits or
    has said `until`. (output, exit status)."""
    pid, tty = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(argv[0], argv, env)
    out, answered, deadline = "", 0, time.monotonic() + timeout
    while time.monotonic() < deadline:
        if select.select([tty], [], [], 0.1)[0]:
            try:
                data = os.read(tty, 65536)
            except OSError:
                break                                # EIO: all have closed it
            if not data:
                break
            out += data.decode("utf-8", "replace")
        asked = len(re.findall(r"New password: |Once more: ", out))
        while answered < asked:
            os.write(tty, (PASSWORD + "\n").encode())
            answered += 1
        if until and until in out:
            os.write(tty, b"\x03")
            until = None
    else:
        os.kill(pid, signal.SIGKILL)
        out += "\n(too slow)"
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(tty)
    return out, status


# What a system with systemd does by itself: the command of the unit in the background.
SYSTEMCTL = """
systemctl() {
	test "$*" = "enable --now postrider"
	$(sed -n 's/^ExecStart=//p' /lib/systemd/system/postrider.service) >/tmp/run.out 2>&1 &
	echo $! >/tmp/pid
	i=0
	until postrider status >/dev/null 2>&1; do i=$((i + 1)); test $i -lt 600 || { cat /tmp/run.out; exit 1; }; sleep 0.05; done
}
"""
TRY_IT = """
printf 'Subject: by hand\\r\\n\\r\\nx\\r\\n' | curl -sS smtp://127.0.0.1:$SMTP --mail-from a@elsewhere.test --mail-rcpt $WHO -T -
curl -sS --insecure --user "$LOGIN:$PASSWORD" imaps://127.0.0.1:$IMAPS/INBOX\\;MAILINDEX=1 | grep '^Subject: by hand'
"""


@pytest.mark.skipif(os.getuid() != 0 or not can_unshare("-mn"), reason="needs root and namespaces")
def test_readmes_installation_works_as_it_is_written(tmp_path):
    block = readme_block("As root on Debian 12")
    assert "make install" in block and "systemctl enable --now postrider" in block
    work = tmp_path / "work"
    for name in ("etc", "sbin", "man", "units", "tmp"):
        (work / name).mkdir(parents=True)
    let_through(work)
    os.chmod(work / "tmp", 0o1777)
    subprocess.run(["cp", "-a", "/etc/.", str(work / "etc")], check=True)
    subprocess.run(["rm", "-rf", str(work / "etc" / "postrider")], check=True)
    build = work / "b"
    build.mkdir()
    copy_built(build)
    # What was built already is not built again.
    make = f"make() {{ test $# -gt 0 || return 0; command make -s -o {build}/postrider -o {build}/postrider-client B={build} \"$@\"; }}\n"
    script = work / "script"
    script.write_text(
        "set -eu\nip link set lo up\n"
        f"mount --bind {work}/etc /etc\n"
        f"mkdir -p /lib/systemd/system /usr/local/share/man\n"
        f"mount --bind {work}/sbin /usr/local/sbin\nmount --bind {work}/units /lib/systemd/system\n"
        f"mount --bind {work}/man /usr/local/share/man\n" + make + SYSTEMCTL.replace("/tmp/", f"{work}/tmp/") + block +
        f"SMTP=25 IMAPS=993 WHO=info@example.org LOGIN=alice@example.org PASSWORD='{PASSWORD}'\n" + TRY_IT +
        "systemd_reload=$(sed -n 's/^ExecReload=//p' /lib/systemd/system/postrider.service)\n$systemd_reload\n"
        "postrider stop\nwait\necho ALL DONE\n")
    out, status = at_terminal(["unshare", "-mn", "sh", str(script)],
                              dict(os.environ, PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ROOT, None)
    assert status == 0 and "ALL DONE" in out, out
    assert "Subject: by hand" in out
    assert processes_of(work) == []


@pytest.mark.skipif(os.getuid() != 0 or not can_unshare("-mn") or not os.path.exists("/usr/share/postfix/main.cf.debian"),
                    reason="needs root, namespaces and the package postfix")
def test_readmes_take_over_of_a_postfix_works_as_it_is_written(tmp_path):
    """The configuration that Debian's package makes, with a domain."""
    block = readme_block("## Take over a Postfix")
    assert "own.cf" in block and "user add --from users" in block
    work = tmp_path / "work"
    etc = work / "etc"
    etc.mkdir(parents=True)
    let_through(work)
    subprocess.run(["cp", "-a", "/etc/.", str(etc)], check=True)
    subprocess.run(["rm", "-rf", str(etc / "postrider")], check=True)
    for name in ("master.cf", "main.cf"):
        (etc / "postfix").mkdir(exist_ok=True)
        (etc / "postfix" / name).write_text(open(f"/usr/share/postfix/{name}.{'dist' if name == 'master.cf' else 'debian'}").read())
    with open(etc / "postfix" / "main.cf", "a") as f:
        f.write("myhostname = mail.example.org\nmydestination = localhost\nmaillog_file = /etc/postrider/log/log\nmyorigin = example.org\n"
                "smtpd_tls_cert_file = /etc/postrider/tls/cert.pem\nsmtpd_tls_key_file = /etc/postrider/tls/key.pem\n")
    sbin = work / "sbin"
    sbin.mkdir()
    shutil.copy(BINARY, sbin / "postrider")
    script = work / "script"
    block = block.replace("cd /etc/postrider\n", f"cd /etc/postrider\nprintf 'alice@example.org:{{PLAIN}}{PASSWORD}\\n' >users\n")
    script.write_text("set -eu\nip link set lo up\n" f"mount --bind {etc} /etc\n" + block +
                      "postrider start\n"
                      f"SMTP=25 IMAPS=993 WHO=alice@example.org LOGIN=alice@example.org PASSWORD='{PASSWORD}'\n" + TRY_IT +
                      "postrider stop\necho ALL DONE\n")
    done = subprocess.run(["unshare", "-mn", "sh", str(script)], capture_output=True, text=True, timeout=4 * PATIENCE,
                          env=dict(os.environ, PATH=f"{sbin}:/usr/sbin:/usr/bin:/sbin:/bin"))
    assert done.returncode == 0 and "ALL DONE" in done.stdout and "Subject: by hand" in done.stdout, done.stdout + done.stderr
    assert "0 errors" in done.stdout


def test_readmes_steps_without_root_work_as_they_are_written(somebody):
    prefix, home = somebody
    block = readme_block("full\naddress. To try it without root")
    assert "build/postrider init ./mail" in block and block.rstrip().endswith("run")
    if not can_unshare("-n" if os.getuid() == 0 else "-rn"):
        pytest.skip("needs a network of its own: the ports are those of README")
    (home / "build").mkdir()
    shutil.copy(BINARY, home / "build" / "postrider")
    master = block.strip().splitlines()[-1]
    script = home / "script"
    script.write_text(
        "set -eu\nmake() { :; }\n" + block.replace(master, master + " & pid=$!") +
        "\ni=0; until build/postrider -c ./mail status >/dev/null 2>&1; do i=$((i + 1)); test $i -lt 600; sleep 0.05; done\n"
        f"SMTP=10025 IMAPS=10993 WHO=alice@example.test LOGIN=alice@example.test PASSWORD='{PASSWORD}'\n" + TRY_IT +
        "build/postrider -c ./mail stop\nwait $pid\necho ALL DONE\n")
    net = ["unshare", "-n"] if os.getuid() == 0 else ["unshare", "-rn"]
    out, status = at_terminal([*net, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *prefix, "sh", str(script)],
                              environment(home), home, None)
    assert status == 0 and "ALL DONE" in out, out
    assert "Subject: by hand" in out
    wait_for("the end of all processes", lambda: processes_of(home) == [])
