"""What senders and the postmaster are told: templates, one report a message, copies, transcripts, and no loops."""
import base64
import email
import email.policy
import os
import re
import signal

from instance import Instance, Raw, wait_for
from smtpserver import HANG, Hostile
from test_relay import FAST, queue_is_empty, relay, send, sink                     # noqa: F401 (fixtures)

ALICE = "alice@example.test"
TEMPLATES = """# Ours.
failure_template = <<EOF
Charset: utf-8
From: post@example.test (Die Post, Zustellung)
Subject: Unzustellbar: zur\u00fcck an den Absender
Postmaster-Subject: Kopie: unzustellbar

Hier ist $myhostname. Es kostet 5$$.
Nicht zugestellt nach $maximal_queue_lifetime_days Tagen.
EOF

delay_template = <<END
Subject: Late

It waits for ${delay_warning_time_seconds} s.
END
"""


def read(path):
    with open(path, "rb") as f:
        return email.message_from_binary_file(f, policy=email.policy.default)


def of(mail, user):
    """His messages, oldest first."""
    return [read(p) for p in sorted(mail.messages(user), key=os.path.getmtime)]


def one(mail, user, condition):
    """The one message of his for which that is true."""
    def look():
        try:
            found = [m for m in of(mail, user) if condition(m)]
        except FileNotFoundError:                                                   # on its way from new/ to cur/
            return None
        assert len(found) < 2, [m["Subject"] for m in found]
        return found[0] if found else None
    return wait_for(f"a message for {user}", look, 60)


def parts(report):
    """(text, status as text, original)"""
    text, status, original = report.iter_parts()
    return text, str(status), original


def test_templates(tmp_path, sink):                                                # noqa: F811
    path = tmp_path / "bounce.cf"
    path.write_text(TEMPLATES)
    sink.answer["RCPT"] = lambda line: ("550 5.1.1 no" if "<gone" in line else "450 4.2.0 later" if "<late" in line else None)
    sink.extensions.append("SMTPUTF8")
    with Instance(tmp_path / "mail", settings={"relayhost": sink.nexthop, "bounce_template_file": path,
                                               "delay_warning_time": "1s", **FAST}) as m:
        m.user(ALICE)
        shown = m.command("config", "-b", str(path)).stdout
        assert "Es kostet 5$.\nNicht zugestellt nach 5 Tagen.\n" in shown and "It waits for 1 s." in shown
        assert m.command("config", "-b").stdout == shown and "success_template = <<EOF\n" in shown
        assert "5$$.\nNicht zugestellt nach $maximal" in m.command("config", "-t").stdout
        m.start()
        send(m, ALICE, ["gone@far.test"])
        report = one(m, ALICE, lambda r: "Unzustellbar" in r["Subject"])
        assert report["Subject"] == "Unzustellbar: zur\u00fcck an den Absender" and "utf-8" in str(report.get_payload(0)["Content-Type"])
        assert report["From"].addresses[0].addr_spec == "post@example.test"
        text, status, original = parts(report)
        assert "Hier ist mail.example.test. Es kostet 5$.\n" in text.get_content() and "Final-Recipient: rfc822; gone@far.test" in status
        raw = next(open(p, "rb").read() for p in m.messages(ALICE))
        header = raw.split(b"\n\n")[0]
        assert header.isascii() and b"=?UTF-8?" in header
        # To a sender who knows SMTPUTF8: RFC 6533.
        with m.smtp() as s:
            s.ehlo("client.test")
            s.mail(ALICE, ["SMTPUTF8", "BODY=8BITMIME"])
            s.send("RCPT TO:<gone-j\u00f6rg@far.test>\r\n".encode())
            assert s.getreply()[0] == 250
            s.data("Subject: Gr\u00fc\u00dfe\r\n\r\nx\r\n".encode())
        report = one(m, ALICE, lambda r: "Grüße" in r.as_string() or "global" in str(r["Content-Type"]))
        assert report.get_param("report-type") == "global-delivery-status"
        text, status, original = report.iter_parts()
        assert "<gone-j\u00f6rg@far.test>: failed" in text.get_content() and "Hier ist" in text.get_content()
        assert status.get_content_type() == "message/global-delivery-status"
        assert original.get_content_type() in ("message/global", "message/global-headers")
        send(m, ALICE, ["late@far.test"])
        report = one(m, ALICE, lambda r: r["Subject"] == "Late")
        assert "It waits for 1 s." in parts(report)[0].get_content()
        # A file that cannot be used is told with its line, and refused whole.
        path.write_text(TEMPLATES + "delay_template = <<EOF\n")
        refused = m.command("check", check=False)
        assert refused.returncode == 78 and f"{path}, line 17: delay_template stands there twice" in refused.stdout
        assert m.command("reload", check=False).returncode != 0
        path.write_text(TEMPLATES.replace("5$$", "$price"))
        refused = m.command("config", "-b", str(path), check=False)
        assert refused.returncode == 65 and f"{path}, line 8: there is no parameter $price" in refused.stderr
        m.configure(notify_classes="bounce, resurce")
        path.write_text(TEMPLATES)
        assert '"resurce" is none of' in m.command("check", check=False).stdout


CLASSES = {"notify_classes": "bounce, delay, policy, protocol, resource, software, data",
           "bounce_notice_recipient": "bounces", "2bounce_notice_recipient": "doubles@example.test",
           "delay_notice_recipient": "delays", "error_notice_recipient": "errors"}
WATCHERS = [f"{who}@example.test" for who in ("bounces", "doubles", "delays", "errors")]


def with_watchers(path, **settings):
    m = Instance(path, settings={"myorigin": "example.test", **CLASSES, **FAST, **settings})
    m.init()
    m.user(ALICE)
    for who in WATCHERS:
        m.user(who)
    return m


def test_copies_for_the_postmaster(tmp_path, sink):                                # noqa: F811
    """Of bounces and delays with the header only; of what nobody else can be told, all."""
    sink.answer["RCPT"] = lambda line: ("550 5.1.1 no" if "<gone" in line else "450 4.2.0 later" if "<late" in line else None)
    with with_watchers(tmp_path / "mail", relayhost=sink.nexthop, delay_warning_time="1s", bounce_queue_lifetime="0d") as m:
        m.start()
        send(m, ALICE, ["gone@far.test", "late@far.test"])
        copy = one(m, WATCHERS[0], lambda r: True)
        assert copy["Subject"] == "Postmaster Copy: Undelivered Mail" and copy["Return-Path"] == "<double-bounce@example.test>"
        assert copy["To"] == "bounces@example.test"
        _, status, original = parts(copy)
        assert original.get_content_type() == "text/rfc822-headers" and "gone@far.test" in status
        assert "Subject: hello" in str(original) and "the text" not in str(copy)
        assert "the text" in str(one(m, ALICE, lambda r: "Undelivered" in r["Subject"]))
        copy = one(m, WATCHERS[2], lambda r: True)
        assert copy["Subject"] == "Postmaster Warning: Delayed Mail" and "Action: delayed" in str(copy) and "the text" not in str(copy)
        # bounce implies 2bounce: what has no sender, whole; also when it waited too long.
        send(m, "", ["gone@far.test"])
        double = one(m, WATCHERS[1], lambda r: True)
        assert double["Return-Path"] == "<double-bounce@example.test>" and "the text" in str(double)
        send(m, "", ["late@far.test"])
        wait_for("another", lambda: len(m.messages(WATCHERS[1])) == 2, 60)
        m.wait_log(r"to=<late@far.test>.*status=bounced \(delivery time expired")
        # Of trouble with notices nobody is told.
        send(m, "double-bounce@example.test", ["gone@far.test"])
        m.wait_log("undeliverable notification dropped")
        # Who asks whether their sender exists hears yes; what is sent there nobody gets.
        send(m, "", ["double-bounce@example.test"])
        m.wait_log(r"to=<double-bounce@example.test>, relay=none,.*status=sent \(silently discarded\)")
        m.command("queue", "delete", "--recipient", "late@far.test")
        queue_is_empty(m)
        assert [len(m.messages(who)) for who in WATCHERS] == [1, 2, 1, 0]


def raw_session(m, *commands, service="smtp"):
    with Raw(m.ports[service]) as c:
        c.reply()
        answers = [c.ask(command) for command in commands]
        c.ask("QUIT")
        return answers


def test_transcripts_for_the_postmaster(tmp_path, sink):                           # noqa: F811
    """policy, protocol and bounce: the session's dialogue, without log-ins; so many, and no more."""
    secret = base64.b64encode(b"\0alice@example.test\0secret").decode()
    with with_watchers(tmp_path / "mail", relayhost=sink.nexthop, mynetworks="192.0.2.0/24", notice_hourly_limit="3",
                       smtpd_tls_auth_only="no") as m:
        m.start()
        raw_session(m, "EHLO client.test", "MAIL FROM:<x@far.test>", "RCPT TO:<y@other.test>")
        notice = one(m, WATCHERS[3], lambda r: True)
        assert notice["Subject"].startswith("Postrider: SMTP server: errors from ") and notice["Auto-Submitted"] == "auto-generated"
        assert notice["Return-Path"] == "<double-bounce@example.test>" and notice["To"] == "errors@example.test"
        text = notice.get_content()
        assert "In:  RCPT TO:<y@other.test>\nOut: 554 5.7.1 " in text and "Out: 220 " in text and '"policy"' in text
        # Unknown users are of class bounce.
        raw_session(m, "EHLO client.test", "MAIL FROM:<x@far.test>", "RCPT TO:<nobody@example.test>")
        assert "RCPT TO:<nobody@example.test>\nOut: 550 5.1.1 " in one(m, WATCHERS[0], lambda r: True).get_content()
        # The lines of a log-in, of one in a form of its own, and what follows on one that was refused; nor the message.
        raw_session(m, "EHLO client.test", f" auth\tplain {secret}", "BOGUS one", service="submission")
        raw_session(m, "HELO client.test", "AUTH LOGIN", base64.b64encode(ALICE.encode()).decode(),
                    base64.b64encode(b"secret").decode(), "BOGUS two", service="smtp")
        raw_session(m, "AUTH LOGIN", base64.b64encode(ALICE.encode()).decode(), base64.b64encode(b"secret").decode(),
                    "MAIL FROM:<>", "RCPT TO:<bounces@example.test>", "DATA", "Subject: my words\r\n\r\nmine\r\n.", "DATA")
        wait_for("three of class protocol", lambda: len(m.messages(WATCHERS[3])) == 4, 60)
        texts = [n.get_content() for n in of(m, WATCHERS[3])]
        every = "".join(texts)
        for word in (secret, "c2VjcmV0", base64.b64encode(ALICE.encode()).decode(), "my words", "mine", "VXNlcm5hbWU6"):
            assert word not in every, word
        assert "In:  [hidden]\nOut: 502 5.5.2 " in every and "In:  MAIL FROM:<>\n" in every and '"protocol"' in every
        # No more than that; the next one would say so.
        raw_session(m, "BOGUS four")
        raw_session(m, "EHLO client.test", "MAIL FROM:<x@far.test>", "RCPT TO:<y@other.test>")
        wait_for("the other class", lambda: len(m.messages(WATCHERS[3])) == 5, 60)
        assert "BOGUS four" not in "".join(n.get_content() for n in of(m, WATCHERS[3]))


def test_other_servers_that_break_the_protocol(tmp_path):
    """Their dialogue is told, too, and the password for them is not in it; a notice that cannot be delivered is the end."""
    steps = {"RCPT": "500 5.5.2 what is RCPT?", "AUTH": "235 2.7.0 welcome"}
    with Hostile(steps, extensions=("PIPELINING", "AUTH PLAIN")) as server:
        table = tmp_path / "passwords"
        table.write_text(f"{server.nexthop} me:open-sesame\n")
        with with_watchers(tmp_path / "mail", relayhost=server.nexthop, smtp_sasl_auth_enable="yes",
                           smtp_sasl_password_maps=f"texthash:{table}", smtp_sasl_security_options="noanonymous",
                           smtp_tls_security_level="none") as m:
            m.start()
            send(m, ALICE, ["x@far.test"])
            text = one(m, WATCHERS[3], lambda r: "SMTP client" in r["Subject"]).get_content()
            assert "Out: RCPT TO:<x@far.test>\n" in text and "In:  500 5.5.2 what is RCPT?\n" in text and "In:  235 2.7.0" in text
            assert "Out: AUTH [hidden]\n" in text and base64.b64encode(b"\0me\0open-sesame").decode() not in text
            queue_is_empty(m)
            before = [len(m.messages(who)) for who in WATCHERS]
            # To the postmaster elsewhere, where the same happens: dropped, and nothing more is made.
            m.configure(error_notice_recipient="errors@far.test", bounce_notice_recipient="bounces@far.test")
            m.command("reload")
            send(m, ALICE, ["x@far.test"])
            for who in ("errors", "bounces"):
                m.wait_log(f"to=<{who}@far.test>.*status=bounced", 60)
            queue_is_empty(m)
            assert [len(m.messages(who)) for who in WATCHERS] == before
            assert len(re.findall("postmaster protocol notification", m.log())) == 2


def test_trouble_of_our_own(tmp_path):
    """With the classes that are told by default, of which a tenth of notice_hourly_limit is told: of the attempts one."""
    with Instance(tmp_path / "mail", settings={"transport_maps": "inline:{ far.test=uucp:x }", "myorigin": "example.test",
                                               "notify_classes": None, "notice_hourly_limit": "10", **FAST}) as m:
        m.user(ALICE)
        m.user("postmaster@example.test")
        m.start()
        send(m, ALICE, ["x@far.test"])
        text = one(m, "postmaster@example.test", lambda r: "(software)" in r["Subject"]).get_content()
        assert "<x@far.test>: waits\n    mail transport unavailable" in text and '"software"' in text
        # Bounces do not come with a notice.
        send(m, "", ["y@far.test"])
        m.wait_log(r"to=<y@far.test>.*status=deferred")
        m.wait_log(r"(?s)(to=<x@far.test>[^\n]*status=deferred.*){3}")
        assert "y@far.test" not in "".join(str(n) for n in of(m, "postmaster@example.test"))
        assert len(m.messages("postmaster@example.test")) == 1


def test_what_a_report_holds(relay, sink):                                          # noqa: F811
    """RET, NOTIFY of each recipient, ORCPT, and the size that a bounce may have: one report a message and kind."""
    sink.answer["RCPT"] = lambda line: "550 5.1.1 no" if "<gone" in line else None
    with relay.smtp() as s:
        s.ehlo("client.test")
        s.mail(ALICE, ["RET=FULL", "ENVID=e+2B1"])
        for who, options in (("gone1", []), ("gone2", ["NOTIFY=FAILURE,DELAY"]), ("gone3", ["NOTIFY=SUCCESS"]),
                             ("gone4", ["NOTIFY=NEVER"]), ("gone5", ["NOTIFY=DELAY"]), ("x", ["NOTIFY=FAILURE"]),
                             ("y", ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;why+2B@other.test"]), ("z", ["NOTIFY=SUCCESS"])):
            s.rcpt(f"{who}@far.test", options)
        s.data("Subject: mixed\r\n\r\n" + "".join(f"line {i}\r\n" for i in range(50)))
    failed = one(relay, ALICE, lambda r: "Undelivered" in r["Subject"])
    _, status, original = parts(failed)
    assert re.findall("Final-Recipient: rfc822; (.*)@", status) == ["gone1", "gone2"] and "Original-Envelope-Id: e+1" in status
    assert original.get_content_type() == "message/rfc822" and "line 49" in str(original)
    good = parts(one(relay, ALICE, lambda r: "Successful" in r["Subject"]))
    assert re.findall("Final-Recipient: rfc822; (.*)@", good[1]) == ["y", "z"] and "Original-Recipient: rfc822; why+@other.test" in good[1]
    assert good[2].get_content_type() == "text/rfc822-headers"
    # One byte too large for bounce_size_limit: the header only, whatever RET says.
    relay.configure(bounce_size_limit="5000")
    relay.command("reload")
    text = "Subject: {}\r\n\r\n".format("size-{}") + "x" * 70 + "\r\n"
    for name, count in (("under", 40), ("over", 80)):
        with relay.smtp() as s:
            s.sendmail(ALICE, ["gone@far.test"], text.format(name) + ("y" * 70 + "\r\n") * count, ["RET=FULL"])
    under = one(relay, ALICE, lambda r: "size-under" in str(r))
    over = one(relay, ALICE, lambda r: "size-over" in str(r))
    assert parts(under)[2].get_content_type() == "message/rfc822" and "yyy" in str(under)
    assert parts(over)[2].get_content_type() == "text/rfc822-headers" and "yyy" not in str(over)
    assert len(relay.messages(ALICE)) == 4
    queue_is_empty(relay)


def lmtp_of(server):
    return {"transport_maps": f"inline:{{ far.test=lmtp:{server.nexthop} }}", "lmtp_data_done_timeout": "300s",
            "lmtp_destination_recipient_limit": "50"}


def waiting(m):
    return set(re.findall(r"\b(\w+)@far\.test", m.command("queue", "list").stdout))


def test_lmtp_recipients_are_noted_as_they_are_answered(tmp_path):
    """The server takes the message for two of three, and then relay is killed; a third of it asks for a report."""
    with Hostile({"END": lambda rcpt: HANG if rcpt.startswith("c@") else None}, lmtp=True, extensions=("PIPELINING",)) as server:
        with Instance(tmp_path / "mail", settings={**lmtp_of(server), **FAST}) as m:
            m.user(ALICE)
            m.start()
            with m.smtp() as s:
                s.ehlo("client.test")
                s.mail(ALICE)
                for who, options in (("a", []), ("b", ["NOTIFY=SUCCESS"]), ("c", ["NOTIFY=SUCCESS"])):
                    s.rcpt(f"{who}@far.test", options)
                s.data("Subject: three\r\n\r\nx\r\n")
            wait_for("two to be struck off", lambda: waiting(m) == {"c"}, 60)
            m.wait_log("to=<b@far.test>.*status=sent")
            os.kill(m.pid_of("relay"), signal.SIGKILL)
            wait_for("it to be tried again", lambda: server.hanging == 2, 60)
            assert [t.rcpts for t in server.taken] == [["a@far.test", "b@far.test", "c@far.test"], ["c@far.test"]]
            server.behave()
            queue_is_empty(m)
            # One report when all were tried, another when the last one was taken.
            m.wait_messages(ALICE, 2)
            assert sorted(re.findall("Final-Recipient: rfc822; (.*)@", "".join(str(r) for r in of(m, ALICE)))) == ["b", "c"]
            assert [len(re.findall(rf"to=<{who}@far.test>.*status=sent", m.log())) for who in "abc"] == [1, 1, 1]


def test_lmtp_server_that_dies_between_answers(tmp_path):
    """Who was answered does not get it again; who was not, does."""
    died = []
    with Hostile({"END": lambda rcpt: "close" if rcpt.startswith("b@") and not died.append(1) and len(died) == 1 else None},
                 lmtp=True) as server:
        with Instance(tmp_path / "mail", settings={**lmtp_of(server), **FAST}) as m:
            m.user(ALICE)
            m.start()
            send(m, ALICE, ["a@far.test", "b@far.test", "c@far.test"])
            wait_for("all to have it", lambda: len(server.taken) == 2 and len(server.accepted) == 1, 60)
            queue_is_empty(m)
            assert [sorted(t.rcpts) for t in server.taken] == [[f"{w}@far.test" for w in "abc"], [f"{w}@far.test" for w in "bc"]]
