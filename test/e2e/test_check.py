"""What `postrider check` says of values that cannot be what was meant."""

import json
import os
import socket
import struct

import pytest

# name, value, what the sentence says behind the name. All at once in one file: none hides another.
ODD = [
    ("2bounce_notice_recipient", "<x", '"<x" is no single mail address'),
    ("alert_recipient", "ops, x@", '"x@" is no address that an alarm can go to'),
    ("alert_relayhost", "smtp.example:587", "it takes an address"),
    ("alert_relayhost_sender", "a b", '"a b" is no single mail address'),
    ("authorized_submit_users", "root, nobody-of-that-name", 'this machine has no user "nobody-of-that-name"'),
    ("default_destination_concurrency_negative_feedback", "2", '"2" is neither a number from 0 to 1'),
    ("default_transport", ":[127.0.0.1]", "it names no transport"),
    ("default_verp_delimiters", "ab", '"ab" is not two characters of verp_delimiter_filter'),
    ("delay_warning_time", "6d", "is not smaller than maximal_queue_lifetime"),
    ("double_bounce_sender", "x@", '"x@" is no single mail address'),
    ("minimal_backoff_time", "5000s", "is larger than maximal_backoff_time"),
    ("myhostname", "a b", '"a b" is no host or domain name'),
    ("mynetworks", "127.0.0.0/8, 0.0.0.0/0", '"0.0.0.0/0" is everybody: whoever comes may send mail elsewhere'),
    ("proxy_interfaces", "192.0.2.1, gate", '"gate" is no IP address, and names are not looked up'),
    ("relay_transport", "smtp:[127.0.0.1]:0", 'nexthop "[127.0.0.1]:0" is neither'),
    ("relayhost", "smtp:[127.0.0.1]:25", 'nexthop "smtp:[127.0.0.1]:25" is neither'),
    ("sender_dependent_relayhost_maps", "inline:{@x.test=[y}", 'nexthop "[y" is neither'),
    ("slow_destination_rate_delay", "1x", '"1x" is no time'),
    ("smtp_bind_address", "192.0.2.1", "this machine does not have the address 192.0.2.1: mail leaves from any address"),
    ("smtp_bind_address6", "127.0.0.1", "127.0.0.1 is no IPv6 address"),
    ("smtp_destination_concurrency_limit", "many", '"many" is no number, and counts as not set'),
    ("smtp_discard_ehlo_keywords", "starttsl", '"starttsl" is none of'),
    ("smtp_helo_name", "-x", '"-x" is no host or domain name'),
    ("smtp_sasl_auth_enable", "yes", None),
    ("smtp_sasl_password_maps", "inline:{x=word-without-a-colon}", "an entry is not user:password"),
    ("smtp_tls_fingerprint_cert_match", "zz:zz", '"zz:zz" is no fingerprint'),
    ("smtp_tls_policy_maps", "inline:{x=encryptt}", '"encryptt" is no security level'),
    ("smtp_tls_secure_cert_match", "nexthopp", '"nexthopp" is neither hostname, nexthop, dot-nexthop nor a name'),
    ("smtp_tls_security_level", "secure", "no authority is trusted"),
    ("transport_maps", "inline:{x=smtp:[y}", 'nexthop "[y" is neither'),
]
# As Postfix, which does not start either: what they would do otherwise is send all mail back, or a password in clear.
REFUSED = [
    ("inet_protocols", "ipv5", '"ipv5" is none of all, ipv4, ipv6'),
    ("smtp_host_lookup", "files", '"files" is none of dns, native'),
    ("smtp_dns_support_level", "on", '"on" is none of disabled, enabled, dnssec'),
    ("smtp_sasl_security_options", "noplantext", '"noplantext" is none of noplaintext'),
    ("smtp_sasl_mechanism_filter", "!gssapi, /etc/mechanisms", '"/etc/mechanisms": it takes names of mechanisms'),
    ("smtp_tcp_port", "smpt", '"smpt" is no port'),
    ("smtp_tls_fingerprint_digest", "sha", '"sha" is no digest'),
    ("propagate_unmatched_extensions", "virtuel", '"virtuel" is none of canonical'),
]


def warnings(m):
    found = json.loads(m.command("check", "--json").stdout)
    assert found["ok"]
    return [f["text"] for f in found["findings"] if f["level"] == "warning"]


def test_what_is_taken_and_does_not_do_what_was_meant_is_told(stopped):
    assert warnings(stopped) == []
    stopped.configure(**{name: value for name, value, _ in ODD})
    said = warnings(stopped)
    for name, _, sentence in ODD:
        if sentence:
            assert [w for w in said if f"{name}: " in w or f"{name} is" in w if sentence in w], (name, said)
    assert "word-without-a-colon" not in str(said), "it may be a password"
    # The settings of one service, too, with the name of the service.
    with open(stopped.dir + "/master.cf", "a") as f:
        f.write("slow unix - - n - - smtp\n  -o slow_destination_rate_delay=2y\n  -o smtp_helo_name=a..b\n")
    own = [w for w in warnings(stopped) if "service slow: -o " in w]
    assert len(own) == 2 and any('smtp_helo_name: "a..b"' in w for w in own) and any('"2y" is no time' in w for w in own), own


def test_what_is_right_is_not_told(stopped):
    stopped.configure(**{
        "mynetworks": "!0.0.0.0/0, 203.0.113.0/24, [2001:db8::]/32",
        "alert_recipient": "postmaster, ops@elsewhere.test", "alert_relayhost": "[::1]:587", "inet_interfaces": "localhost, 127.0.0.1",
        "default_destination_concurrency_negative_feedback": "0.5 / sqrt_concurrency", "slow_destination_rate_delay": "5m",
        "relayhost": "[2001:db8::1]:25, mail.example, [mail.example], 2001:db8::2", "smtp_tls_policy_maps": "inline:{ {x = encrypt protocols=>=TLSv1.2} }",
        "smtp_sasl_mechanism_filter": "!gssapi, !external, static:all", "smtp_tls_secure_cert_match": "nexthop, .example.test",
        "transport_maps": "pcre:{ {/^(.*)$$/ smtp:[$$1]} }, inline:{ {a.test = lmtp:unix:/run/x} {b.test = :} {c.test = error:5.1.1 no [one: here} }",
        "smtp_bind_address": "127.0.0.1", "smtp_tls_fingerprint_cert_match": "AB:" * 31 + "CD", "smtp_discard_ehlo_keywords": "silent-discard, dsn"})
    assert warnings(stopped) == []


def test_the_gateway_of_a_container_is_told_to_be_anybody(stopped):
    with open("/proc/net/route") as f:
        numbers = [line.split()[2] for line in f.readlines()[1:]]
    gateways = [socket.inet_ntoa(struct.pack("=L", int(n, 16))) for n in numbers if n != "00000000"]
    if not gateways:
        pytest.skip("this machine has no gateway")
    stopped.configure(mynetworks=f"127.0.0.0/8, {gateways[0]}")
    told = any(f"mynetworks: {gateways[0]} is the gateway of this container" in w for w in warnings(stopped))
    assert told == any(map(os.path.exists, ("/.dockerenv", "/run/.containerenv")))


@pytest.mark.parametrize("name, value, sentence", REFUSED, ids=[r[0] for r in REFUSED])
def test_what_would_do_harm_is_refused(stopped, name, value, sentence):
    stopped.configure(**{name: value})
    done = stopped.command("check", check=False)
    assert done.returncode == 78 and f"error: {name}: {sentence}" in done.stdout, done.stdout


@pytest.mark.parametrize("value,said", [("mail.example.test", '"mail.example.test" is no IP address'),
                                        ("localhost, 192.0.2.77", "this machine does not have the address 192.0.2.77")])
def test_what_the_start_would_not_get_over_is_an_error(stopped, value, said):
    stopped.configure(inet_interfaces=value)
    done = stopped.command("check", check=False)
    assert done.returncode == 78 and f"inet_interfaces: {said}: the system does not start\n" in done.stdout, done.stdout


def test_what_nothing_defines_or_nobody_serves_is_told(stopped):
    stopped.configure(smtpd_client_restrictions="$mua_client_restrictions", smtp_tls_session_cache_database="btree:${data_directory}/x")
    with open(stopped.dir + "/master.cf", "a") as f:
        f.write("24465 inet n - n - - postscreen\n24466 inet n - n - - smtpd\n  -o smtpd_helo_restrictions=$mua_helo_restrictions\n")
    said = warnings(stopped)
    assert len(said) == 3, said
    assert any("smtpd_client_restrictions: $mua_client_restrictions is set nowhere: it counts as empty" in w for w in said)
    assert any("-o smtpd_helo_restrictions: $mua_helo_restrictions is set nowhere" in w for w in said)
    assert any("service 24465 (postscreen): nobody listens on port 24465: let the command be smtpd" in w for w in said)
    with open(stopped.dir + "/master.cf", "w") as f:
        f.write("# nothing\n")
    assert any("no service takes mail, or gives it to readers" in w for w in warnings(stopped))


def test_json_holds_whatever_the_file_does(stopped):
    """Bytes that are no UTF-8 must not make a finding, or a value, go away."""
    with open(stopped.dir + "/main.cf", "ab") as f:
        f.write(b"myorigin = \xff.test\n")
    assert any("myorigin: " in w and "\ufffd.test" in w for w in warnings(stopped))
    assert json.loads(stopped.command("config", "--json", "myorigin").stdout) == {"myorigin": "\ufffd.test"}


def test_passwords_that_others_may_read_are_told(stopped, tmp_path):
    passwords = tmp_path / "sasl_passwd"
    passwords.write_text("[127.0.0.1]:587 user:secret\n")
    stopped.configure(smtp_sasl_password_maps=f"texthash:{passwords}")
    passwords.chmod(0o644)
    assert warnings(stopped) == [f"{passwords} (mode 0644) holds passwords that others may read: chmod 0640 {passwords}"]
    passwords.chmod(0o600)
    assert warnings(stopped) == []


def test_destinations_whose_users_are_unknown_here_are_told(stopped):
    """A Postfix finds them in /etc/passwd."""
    stopped.configure(mydestination="$myhostname, example.test, localhost.example.test, localhost, unix.test, hash:/nonexistent")
    said = [f["text"] for f in json.loads(stopped.command("check", "--json", check=False).stdout)["findings"] if f["level"] == "warning"]
    assert len(said) == 1 and "mydestination: users of this machine get no mail at mail.example.test, unix.test: " in said[0], said
    for name in ("mail.example.test", "unix.test"):
        stopped.command("domain", "add", name)
    stopped.configure(mydestination="$myhostname, unix.test")
    assert warnings(stopped) == []


def test_tls_without_a_certificate_is_told(stopped):
    stopped.configure(smtpd_tls_cert_file="", smtpd_tls_key_file="")
    said = warnings(stopped)
    names = ["smtpd_tls_security_level", "smtpd_tls_wrappermode", "imap_tls_wrappermode", "pop3_tls_wrappermode"]
    assert len(said) == 4, said
    for name, text in zip(names, said):
        assert f": {name} demands TLS, and smtpd_tls_cert_file names no certificate: nobody is served" in text


def test_lines_of_tables_that_do_not_count_are_told(stopped, tmp_path):
    table = tmp_path / "transport"
    table.write_text("x.test smtp:[a.test]\nx.test smtp:[b.test]\nnothing-behind-it\n")
    stopped.configure(transport_maps=f"hash:{table}")
    said = warnings(stopped)
    assert f'{table}, line 2: duplicate entry: "x.test"' in said and any(w.startswith(f"{table}, line 3: ") for w in said), said


@pytest.mark.skipif(os.getuid() != 0, reason="only a system that root starts needs accounts")
def test_accounts_that_are_not_there_are_told(stopped):
    stopped.configure(mail_owner="nobody-of-that-name", store_owner="root")
    done = stopped.command("check", check=False)
    assert done.returncode == 78 and 'error: mail_owner: this machine has no account "nobody-of-that-name"' in done.stdout
    assert 'error: store_owner: "root" is root' in done.stdout


def test_a_key_that_is_none_is_named(stopped):
    with open(stopped.dir + "/tls/key.pem", "w") as f:
        f.write("no key\n")
    done = stopped.command("check", check=False)
    assert done.returncode == 78 and f"certificate {stopped.dir}/tls/cert.pem, key {stopped.dir}/tls/key.pem: " in done.stdout, done.stdout
