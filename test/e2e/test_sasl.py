"""Log-in: every mechanism by every protocol, what binds it to TLS, and by which names."""

import base64
import hashlib
import hmac
import os
import re
import ssl
import subprocess
import time

import pytest

from instance import PATIENCE, Instance, Raw

ALICE = "alice@example.test"


@pytest.fixture
def unslowed(tmp_path):
    """As `mail`, but failed log-ins are answered at once: what is counted here is their number."""
    with Instance(tmp_path / "mail", settings={"auth_failure_delay": "0s"}) as m:
        m.user(ALICE)
        m.user("bob@example.test")
        m.start()
        yield m


class Dialogue:
    """SASL as one protocol speaks it: start(mechanism, first) and step(response) give (kind, bytes or text), kind
    being "go on", "yes" or "no"."""

    def __init__(self, mail, protocol, tls=True):
        self.protocol = protocol
        self.raw = Raw(mail.ports[{"smtp": "submission", "imap": "imap", "pop3": "pop3"}[protocol]])
        self.binding = None
        self.raw.reply() if protocol == "smtp" else self.raw.line()
        if protocol == "smtp":
            self.raw.ask("EHLO client.test")
        if tls:
            self._starttls(mail)

    def _starttls(self, mail):
        command, good = {"smtp": ("STARTTLS", "220"), "imap": ("t STARTTLS", "t OK"), "pop3": ("STLS", "+OK")}[self.protocol]
        self.raw.send(command + "\r\n")
        assert self.raw.line().startswith(good)
        context = mail.tls()
        # Python 3.11 knows no tls-exporter, and TLS 1.3 no tls-unique.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.raw.socket = context.wrap_socket(self.raw.socket)
        self.raw.file = self.raw.socket.makefile("rb")
        self.binding = self.raw.socket.get_channel_binding("tls-unique")
        if self.protocol == "smtp":
            self.raw.ask("EHLO client.test")

    def _answer(self):
        line = self.raw.line()
        while self.protocol == "imap" and line.startswith("* "):
            line = self.raw.line()
        head, _, text = line.partition(" ")
        if head in ("334", "+"):
            return "go on", base64.b64decode(text)
        return ("yes" if head in ("235", "+OK") or line.startswith("a OK") else "no"), line

    def start(self, mechanism, first=None):
        command = {"smtp": "AUTH", "imap": "a AUTHENTICATE", "pop3": "AUTH"}[self.protocol]
        initial = "" if first is None else " " + (base64.b64encode(first).decode() or "=")
        self.raw.send(f"{command} {mechanism}{initial}\r\n")
        return self._answer()

    def step(self, response):
        self.raw.send(base64.b64encode(response) + b"\r\n")
        return self._answer()

    def close(self):
        self.raw.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def scram(d, mechanism, user, password, gs2, binding=b""):
    """RFC 5802 and 7677. Returns the server's last answer; the server's signature is checked."""
    nonce = base64.b64encode(os.urandom(12)).decode()
    bare = f"n={user},r={nonce}"
    kind, challenge = d.start(mechanism, (gs2 + bare).encode())
    if kind != "go on":
        return kind, challenge
    parts = dict(p.split("=", 1) for p in challenge.decode().split(","))
    assert parts["r"].startswith(nonce)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
    final = "c=" + base64.b64encode(gs2.encode() + binding).decode() + ",r=" + parts["r"]
    auth = f"{bare},{challenge.decode()},{final}".encode()
    mac = lambda key, data: hmac.new(key, data, "sha256").digest()
    client = mac(salted, b"Client Key")
    signature = mac(hashlib.sha256(client).digest(), auth)
    proof = bytes(a ^ b for a, b in zip(client, signature))
    kind, answer = d.step((final + ",p=" + base64.b64encode(proof).decode()).encode())
    if kind == "go on":
        assert answer == b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), auth))
        kind, answer = d.step(b"")
    return kind, answer


def plain(user, password="secret"):
    return b"\0" + user.encode() + b"\0" + password.encode()


@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3"])
def test_every_mechanism(mail, protocol):
    with Dialogue(mail, protocol) as d:
        assert d.start("PLAIN", plain(ALICE))[0] == "yes"
    with Dialogue(mail, protocol) as d:
        assert d.start("PLAIN")[0] == "go on"
        assert d.step(plain(ALICE))[0] == "yes"
    with Dialogue(mail, protocol) as d:
        assert d.start("LOGIN")[0] == "go on"
        assert d.step(ALICE.encode())[0] == "go on"
        assert d.step(b"secret")[0] == "yes"
    with Dialogue(mail, protocol) as d:
        assert scram(d, "SCRAM-SHA-256", ALICE, "secret", "n,,")[0] == "yes"
    with Dialogue(mail, protocol) as d:
        assert scram(d, "SCRAM-SHA-256-PLUS", ALICE, "secret", "p=tls-unique,,", d.binding)[0] == "yes"


@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3"])
def test_what_is_refused(unslowed, protocol):
    mail = unslowed
    mail.user("twin@example.test", "other")
    for why, mechanism, user, password, gs2, binding in (
            ("wrong password", "SCRAM-SHA-256", ALICE, "wrong", "n,,", b""),
            ("unknown user", "SCRAM-SHA-256", "nobody@example.test", "secret", "n,,", b""),
            ("another's password", "SCRAM-SHA-256", "twin@example.test", "secret", "n,,", b""),
            ("another connection's binding", "SCRAM-SHA-256-PLUS", ALICE, "secret", "p=tls-unique,,", b"\1" * 12),
            # RFC 5802 6: "y" = "I could bind, you said you cannot"; we did not say so.
            ("downgrade", "SCRAM-SHA-256", ALICE, "secret", "y,,", b""),
            ("unbound -PLUS", "SCRAM-SHA-256-PLUS", ALICE, "secret", "n,,", b"")):
        with Dialogue(mail, protocol) as d:
            assert scram(d, mechanism, user, password, gs2, binding)[0] == "no", why
    with Dialogue(mail, protocol) as d:
        assert d.start("PLAIN", plain(ALICE, "wrong"))[0] == "no"
    with Dialogue(mail, protocol) as d:
        assert d.start("PLAIN", b"twin@example.test\0" + ALICE.encode() + b"\0secret")[0] == "no"
    with Dialogue(mail, protocol) as d:
        assert d.start("PLAIN")[0] == "go on"
        d.raw.send("*\r\n")
        assert d._answer()[0] == "no"
        assert d.start("PLAIN", plain(ALICE))[0] == "yes"          # and the connection lives on


def test_bound_log_in_is_not_offered_without_tls(mail):
    with Dialogue(mail, "imap", tls=False) as d:
        d.raw.send("c CAPABILITY\r\n")
        assert "-PLUS" not in d.raw.line()
        assert d.raw.line().startswith("c OK")
        assert scram(d, "SCRAM-SHA-256-PLUS", ALICE, "secret", "p=tls-unique,,", b"x" * 12)[0] == "no"


def gsasl(mail, protocol, mechanism, password, *options):
    port = mail.ports["imap" if protocol == "imap" else "submission"]
    return subprocess.run(["gsasl", "--" + protocol, f"--connect=127.0.0.1:{port}", "--hostname=localhost", "--starttls",
                           f"--x509-ca-file={mail.dir}/tls/cert.pem", "--mechanism=" + mechanism,
                           "--authentication-id=" + ALICE, "--password=" + password, *options],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * PATIENCE)


@pytest.mark.parametrize("protocol", ["imap", "smtp"])
def test_gsasl(mail, protocol):
    """GNU SASL binds with tls-exporter over TLS 1.3 (RFC 9266), with tls-unique over TLS 1.2."""
    for options in ([], ["--priority=NORMAL:-VERS-TLS1.3"]):
        done = gsasl(mail, protocol, "SCRAM-SHA-256-PLUS", "secret", *options)
        assert done.returncode == 0, done.stdout + done.stderr
    done = gsasl(mail, protocol, "SCRAM-SHA-256", "secret", "--no-cb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert gsasl(mail, protocol, "SCRAM-SHA-256-PLUS", "wrong").returncode != 0


def test_method_is_logged(mail):
    with Dialogue(mail, "imap") as d:
        assert scram(d, "SCRAM-SHA-256", ALICE, "secret", "n,,")[0] == "yes"
    mail.wait_log(r"imap-login: Login: user=<alice@example\.test>, method=SCRAM-SHA-256, rip=127\.0\.0\.1, lip=127\.0\.0\.1, TLS")
    with Dialogue(mail, "pop3") as d:
        assert d.start("PLAIN", plain(ALICE))[0] == "yes"
    mail.wait_log(r"pop3-login: Login: user=<alice@example\.test>, method=PLAIN, ")
    with mail.imap(ALICE):
        mail.wait_log(r"imap-login: Login: user=<alice@example\.test>, method=PLAIN, ")


def test_bare_name_logs_in(mail):
    """A UNIX-style name means the user of the default domain."""
    box = mail.imap("alice")
    assert box.select()[0] == "OK"
    box.logout()
    pop = mail.pop3("alice")
    assert pop.stat() == (0, 0)
    pop.quit()
    for protocol in ("smtp", "imap", "pop3"):
        with Dialogue(mail, protocol) as d:
            assert scram(d, "SCRAM-SHA-256", "alice", "secret", "n,,")[0] == "yes"
    with mail.submission("alice") as s:
        s.sendmail(ALICE, ["bob@example.test"], "Subject: x\r\n\r\nx\r\n")
        assert s.mail("bob@example.test")[0] == 553 or s.rcpt("bob@example.test")[0] == 553
    assert mail.count("bob@example.test") == 1


def test_name_in_any_case_logs_in(mail):
    for name in ("ALICE@EXAMPLE.TEST", "Alice@Example.Test", "Alice"):
        mail.imap(name).logout()


def test_changed_password_and_disabled_user(unslowed):
    mail = unslowed
    mail.command("user", "set", ALICE, "--password-stdin", input="new secret\n")
    with Dialogue(mail, "imap") as d:
        assert d.start("PLAIN", plain(ALICE))[0] == "no"
    for mechanism in ("SCRAM-SHA-256", "PLAIN"):
        with Dialogue(mail, "imap") as d:
            answer = scram(d, mechanism, ALICE, "new secret", "n,,") if mechanism != "PLAIN" else \
                d.start("PLAIN", plain(ALICE, "new secret"))
            assert answer[0] == "yes"
    mail.command("user", "set", ALICE, "--disable")
    for protocol in ("smtp", "imap", "pop3"):
        with Dialogue(mail, protocol) as d:
            assert d.start("PLAIN", plain(ALICE, "new secret"))[0] == "no"
    assert not re.search(r"new secret|bmV3IHNlY3JldA", mail.log())


STORM = 60
PLAIN = base64.b64encode(b"\0alice@example.test\0secret")
ONE_STEP = {"smtp": (b"AUTH PLAIN %s\r\n" % PLAIN, b"235 "), "pop3": (b"AUTH PLAIN %s\r\n" % PLAIN, b"+OK"),
            "imap": (b"a AUTHENTICATE PLAIN %s\r\n" % PLAIN, b"a OK")}
FIRST_A_NAME = {"smtp": (b"AUTH LOGIN YWxpY2VAZXhhbXBsZS50ZXN0\r\n", b"c2VjcmV0\r\n", b"235 "),
                "pop3": (b"USER alice@example.test\r\n", b"PASS secret\r\n", b"+OK"),
                "imap": (b"t NOOP\r\n", b"a LOGIN alice@example.test {6+}\r\nsecret\r\n", b"a OK")}


def try_all(mail, protocol, before, command, good):
    crowd = [Raw(mail.ports[{"smtp": "submission", "imap": "imap", "pop3": "pop3"}[protocol]]) for _ in range(STORM)]
    for c in crowd:
        c.line()
        if protocol == "smtp":
            c.ask("STARTTLS")
            c.socket = mail.tls().wrap_socket(c.socket)
            c.file = c.socket.makefile("rb")
            c.ask("EHLO client.test")
        if before:
            c.send(before)
            c.line()
    for c in crowd:
        c.send(command)
    answers = [c.file.readline() for c in crowd]
    assert all(a.startswith(good) for a in answers), answers
    for c in crowd:
        c.close()


@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3"])
def test_a_storm_of_log_ins_is_sat_out(tmp_path, protocol):
    """Sixty at once where two may wait: all get in, each by an answer to the one command that it gave."""
    settings = {"access_thread_limit": "4", "smtpd_thread_limit": "4", "smtpd_client_auth_rate_limit": str(2 * STORM),
                "smtpd_client_event_limit_exceptions": "", "mynetworks": "192.0.2.0/24",
                "imap_user_connection_count_limit": "0", "pop3_user_connection_count_limit": "0",
                "smtpd_client_connection_count_limit": "0", "imap_client_connection_count_limit": "0",
                "pop3_client_connection_count_limit": "0"}
    with Instance(tmp_path / "mail", settings=settings) as m:
        m.user(ALICE)
        m.start()
        try_all(m, protocol, b"", *ONE_STEP[protocol])
        try_all(m, protocol, *FIRST_A_NAME[protocol])


def test_failures_are_slowed(mail):
    """Answers to wrong passwords come later and later, and others do not wait for that."""
    took = []
    for _ in range(3):
        with Dialogue(mail, "imap") as d:
            begin = time.monotonic()
            assert d.start("PLAIN", plain(ALICE, "wrong"))[0] == "no"
            took.append(time.monotonic() - begin)
    assert took[2] > took[0] and took[2] > 1
