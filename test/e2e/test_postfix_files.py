"""Existing configurations of Postfix are accepted as they are; check tells name by name what each setting does here."""

import json
import os
import subprocess

import pytest

from instance import BINARY

# What Debian's package installs.
DEBIAN_MAIN = """
# See /usr/share/postfix/main.cf.dist for a commented, more complete version

smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
biff = no

# appending .domain is the MUA's job.
append_dot_mydomain = no
readme_directory = no
compatibility_level = 3.6

# TLS parameters
smtpd_tls_cert_file={tls}/cert.pem
smtpd_tls_key_file={tls}/key.pem
smtpd_tls_security_level=may

smtp_tls_CApath=/etc/ssl/certs
smtp_tls_security_level=may
smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache

smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = mail.example.org
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
myorigin = /etc/mailname
mydestination = $myhostname, example.org, localhost.example.org, , localhost
relayhost =
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
inet_protocols = all
"""
DEBIAN_MASTER = """
# service type  private unpriv  chroot  wakeup  maxproc command + args
smtp      inet  n       -       y       -       -       smtpd
#smtp      inet  n       -       y       -       1       postscreen
#submission inet n       -       y       -       -       smtpd
#  -o syslog_name=postfix/submission
pickup    unix  n       -       y       60      1       pickup
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       y       1000?   1       tlsmgr
rewrite   unix  -       -       y       -       -       trivial-rewrite
bounce    unix  -       -       y       -       0       bounce
defer     unix  -       -       y       -       0       bounce
trace     unix  -       -       y       -       0       bounce
verify    unix  -       -       y       -       1       verify
flush     unix  n       -       y       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
showq     unix  n       -       y       -       -       showq
error     unix  -       -       y       -       -       error
retry     unix  -       -       y       -       -       error
discard   unix  -       -       y       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       y       -       -       lmtp
anvil     unix  -       -       y       -       1       anvil
scache    unix  -       -       y       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}
uucp      unix  -       n       n       -       -       pipe
  flags=Fqhu user=uucp argv=uux -r -n -z -a$sender - $nexthop!rmail ($recipient)
"""
# Virtual users in MySQL behind Dovecot, as the guides build them.
VIRTUAL_MAIN = """
myhostname = mx.example.org
mydomain = example.org
mydestination = localhost
mynetworks = 127.0.0.0/8, [::1]/128, 192.0.2.0/28
smtpd_tls_cert_file = {tls}/cert.pem
smtpd_tls_key_file = {tls}/key.pem
smtpd_tls_protocols = !SSLv2, !SSLv3, !TLSv1, !TLSv1.1
smtpd_tls_mandatory_ciphers = medium
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
virtual_transport = lmtp:unix:private/dovecot-lmtp
virtual_mailbox_domains = mysql:/etc/postfix/mysql-domains.cf
virtual_mailbox_maps = mysql:/etc/postfix/mysql-users.cf
virtual_alias_maps = hash:/etc/postfix/virtual
message_size_limit = 52428800
smtpd_helo_required = yes
disable_vrfy_command = yes
smtpd_restriction_classes = from_partners
from_partners = check_sender_access hash:/etc/postfix/partners, reject
smtpd_client_restrictions = permit_mynetworks,
    check_client_access cidr:/etc/postfix/clients.cidr,
    reject_rbl_client zen.spamhaus.org=127.0.0.[2..11]
smtpd_helo_restrictions = permit_mynetworks, reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname
smtpd_sender_restrictions = reject_non_fqdn_sender, reject_unknown_sender_domain
smtpd_recipient_restrictions =
    permit_mynetworks, permit_sasl_authenticated,
    reject_unauth_destination,
    check_recipient_access hash:/etc/postfix/recipients,
    check_policy_service unix:private/policyd-spf,
    check_policy_service { inet:127.0.0.1:10023, timeout=10s, default_action=DUNNO }
smtpd_milters = inet:localhost:8891
non_smtpd_milters = $smtpd_milters
milter_default_action = accept
header_checks = pcre:/etc/postfix/header_checks
smtpd_recipent_limit = 100
"""
VIRTUAL_MASTER = """
smtp       inet  n       -       y       -       -       smtpd
  -o content_filter=smtp-amavis:[127.0.0.1]:10024
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=$mua_client_restrictions
  -o smtpd_recipient_restrictions=
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o milter_macro_daemon_name=ORIGINATING
smtps      inet  n       -       y       -       -       smtpd
  -o syslog_name=postfix/smtps
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
  -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }
127.0.0.1:10025 inet n   -       n       -       -       smtpd
  -o content_filter=
  -o mynetworks=127.0.0.0/8
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
smtp-amavis unix -       -       n       -       2       smtp
  -o smtp_data_done_timeout=1200
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
"""
# A host that only hands its own mail to a relay.
NULL_MAIN = """
myhostname = web1.example.org
myorigin = $mydomain
relayhost = [smtp.example.org]:587
inet_interfaces = loopback-only
mydestination =
local_transport = error:local delivery is disabled
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:user:password
smtp_tls_security_level = encrypt
"""
NULL_MASTER = """
smtp      inet  n       -       y       -       -       smtpd
pickup    unix  n       -       y       60      1       pickup
qmgr      unix  n       -       n       300     1       qmgr
smtp      unix  -       -       y       -       -       smtp
"""


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A certificate that the files may name."""
    box = tmp_path_factory.mktemp("postfix") / "own"
    subprocess.run([BINARY, "init", str(box), "--domain", "example.org", "--port-offset", "20000"], check=True, capture_output=True)
    return box / "tls"


def check(directory, tls, main, master, *args):
    os.makedirs(directory, exist_ok=True)
    for name, text in (("virtual", "info@example.org alice@example.org\n"), ("partners", "example.net OK\n"), ("recipients", "x@example.org REJECT\n"),
                       ("clients.cidr", "192.0.2.0/24 REJECT\n"), ("aliases", "root: alice@example.org\n")):
        (directory / name).write_text(text)
    (directory / "mailname").write_text("example.org\n")
    main = main.replace("/etc/postfix/", f"{directory}/")
    for name in ("aliases", "mailname"):
        main = main.replace(f"/etc/{name}", f"{directory}/{name}")
    (directory / "main.cf").write_text(main.replace("{tls}", str(tls)))
    (directory / "master.cf").write_text(master)
    return subprocess.run([BINARY, "-c", str(directory), "check", *args], capture_output=True, text=True)


@pytest.mark.parametrize("main,master,said", [
    (DEBIAN_MAIN, DEBIAN_MASTER, ["not used yet: service maildrop (pipe)", "without effect: biff: nobody is told by comsat(8)",
                                  "without effect: service qmgr (qmgr): queue keeps what waits, relay sends it",
                                  "without effect: service postlog (postlogd): master writes the log",
                                  "without effect: readme_directory: it says where Postfix is installed"]),
    (VIRTUAL_MAIN, VIRTUAL_MASTER, ["not used yet: smtpd_sasl_path", "not used yet: milter_default_action"]),
    (NULL_MAIN, NULL_MASTER, ["without effect: service qmgr (qmgr): queue keeps what waits, relay sends it"]),
], ids=["debian", "virtual", "null"])
def test_it_is_accepted_and_explained(tmp_path, tls, main, master, said):
    done = check(tmp_path / "etc", tls, main, master)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error: " not in done.stdout
    for text in said:
        assert f"note: accepted, {text}\n" in done.stdout, text


@pytest.mark.parametrize("line,sentence", [
    ("virtual_alias_maps = mysql:/etc/postfix/mysql-aliases.cf", 'the table type "mysql" is not supported yet; there are: hash'),
    ("transport_maps = hash:/etc/postfix/nowhere", "nowhere: No such file"),
    ("transport_maps = pcre:{ {/a/ b}, {/(/ c} }", "line 2: error in regex"),
    ("relay_domains = /etc/postfix/no-such-list", "no-such-list: No such file"),
])
def test_a_table_that_cannot_be_used_is_refused(tmp_path, tls, line, sentence):
    done = check(tmp_path / "etc", tls, DEBIAN_MAIN + line + "\n", DEBIAN_MASTER)
    assert done.returncode == 78
    assert f"error: {line.split()[0]}: " in done.stdout
    assert sentence in done.stdout


def test_what_would_silently_weaken_a_server_is_a_warning(tmp_path, tls):
    found = json.loads(check(tmp_path / "etc", tls, VIRTUAL_MAIN, VIRTUAL_MASTER, "--json").stdout)
    assert found["ok"]
    warnings = [f["text"] for f in found["findings"] if f["level"] == "warning"]
    text = "accepted, but refuses and permits nobody yet: check_policy_service in smtpd_recipient_restrictions"
    assert warnings.count(text) == 1, warnings
    assert any("unknown parameter" in w and "smtpd_recipent_limit" in w for w in warnings), "a slip of the pen"
    for text in ("smtpd_milters: mail is taken without asking them", "header_checks: nothing in a header is looked at",
                 "content_filter (-o of service smtp): mail is delivered without", "virtual_mailbox_domains: mail for these domains",
                 "virtual_mailbox_maps: users are those of postrider user", "smtpd_sasl_type: log-ins are those of postrider user"):
        assert any(w.startswith("accepted, not used yet: " + text) for w in warnings), (text, warnings)


SPAMC = """
spamassassin unix - n n - - pipe
  user=spamd argv=/usr/bin/spamc -f -e /usr/sbin/sendmail -oi -f ${sender} ${recipient}
"""


def test_arguments_of_commands_are_no_options(tmp_path, tls):
    done = check(tmp_path / "etc", tls, DEBIAN_MAIN, DEBIAN_MASTER + SPAMC)
    assert done.returncode == 0 and "service spamassassin (pipe)" in done.stdout, done.stdout


def test_what_nobody_does_is_logged_at_start(stopped):
    stopped.configure(header_checks="regexp:/nonexistent", body_checks="")
    with open(stopped.dir + "/master.cf") as f:
        text = f.read()
    with open(stopped.dir + "/master.cf", "w") as f:
        f.write(text.replace("  -o smtpd_sasl_auth_enable=yes", "  -o smtpd_sasl_auth_enable=yes -o content_filter=scan:[127.0.0.1]:9", 1) +
                "27 inet n - n - - postscreen\n")
    mail = stopped.start()
    mail.wait_log(r"warning: \S+/main\.cf, line \d+: header_checks is not used yet: nothing in a header is looked at")
    mail.wait_log(r"warning: service \d+: content_filter is not used yet: mail is delivered without going through the filter")
    mail.wait_log(r"warning: service 27 \(postscreen\) is not supported yet: nobody listens there")
    assert "body_checks" not in mail.log()


@pytest.mark.parametrize("line,sentence", [
    ("smtpd_relay_restrictions = permit_mynetworks\nsmtpd_recipient_restrictions =", "must hold one of"),
    ("smtpd_client_restrictions = check_client_access, reject", "check_client_access needs a table behind it"),
    ("smtpd_client_restrictions = reject_rbl_client", "reject_rbl_client needs a name behind it"),
    ("smtpd_restriction_classes = mine", "smtpd_restriction_classes: nothing says what mine is"),
    ("smtpd_helo_restrictions = reject_nonfqdn_helo", 'unknown or unsupported restriction "reject_nonfqdn_helo"'),
])
def test_what_would_open_the_relay_or_is_misspelt_is_refused(tmp_path, tls, line, sentence):
    done = check(tmp_path / "etc", tls, DEBIAN_MAIN + line + "\n", DEBIAN_MASTER)
    assert done.returncode == 78
    assert sentence in done.stdout
    # An override of one service, too.
    name, value = line.splitlines()[0].split(" = ", 1)
    master = "smtp inet n - y - - smtpd\n  -o { %s = %s }\n  -o smtpd_recipient_restrictions=\n" % (name, value)
    done = check(tmp_path / "etc2", tls, DEBIAN_MAIN, master)
    assert done.returncode == 78 and sentence in done.stdout, done.stdout
    run = subprocess.run([BINARY, "-c", str(tmp_path / "etc2"), "run"], capture_output=True, text=True, timeout=30)
    assert run.returncode == 78 and sentence in run.stderr


def test_restrictions_without_effect_are_logged_at_start(stopped):
    stopped.configure(smtpd_client_restrictions="check_policy_service inet:127.0.0.1:9")
    mail = stopped.start()
    mail.wait_log(r"warning: service \S+: smtpd_client_restrictions: check_policy_service is not supported yet")


def test_an_origin_that_is_a_file_is_its_first_line(stopped, tmp_path):
    """Debian's own main.cf has myorigin = /etc/mailname."""
    name = tmp_path / "mailname"
    stopped.configure(myorigin=str(name))
    assert f"myorigin: cannot open {name}" in stopped.command("check", check=False).stdout
    name.write_text("\n")
    assert f"the first line of {name} is no domain" in stopped.command("check", check=False).stdout
    name.write_text("example.test \n# and nothing of this\n")
    stopped.start()
    stopped.command("sendmail", "-f", "bob", "alice", input="To: alice\nSubject: s\n\nx\n")
    text = open(stopped.wait_messages("alice@example.test", 1)[0]).read()
    assert "Return-Path: <bob@example.test>\n" in text and "To: alice@example.test\n" in text


def test_the_queue_of_a_postfix_is_left_alone(stopped, tmp_path):
    """Its maildrop has the name of ours: what waits there would be set aside as damaged."""
    queue = tmp_path / "postfix"
    for name in ("active", "incoming", "defer", "maildrop", "public", "corrupt"):
        (queue / name).mkdir(parents=True, mode=0o700)
    (queue / "maildrop" / "4711ABC").write_bytes(b"C1 2 3")
    stopped.configure(queue_directory=str(queue))
    sentence = f"queue_directory: {queue} is the queue of a Postfix: leave the setting out, or name another directory"
    assert f"error: {sentence}" in stopped.command("check", check=False).stdout
    run = subprocess.run([BINARY, "-c", stopped.dir, "run"], capture_output=True, text=True, timeout=60)
    assert run.returncode == os.EX_CONFIG and sentence in run.stderr
    assert sorted(os.listdir(queue)) == ["active", "corrupt", "defer", "incoming", "maildrop", "public"]
    assert (queue / "maildrop").stat().st_mode & 0o7777 == 0o700
    assert os.listdir(queue / "maildrop") == ["4711ABC"]
