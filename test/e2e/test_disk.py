"""Full disks, whichever of them and however full: refused in time and with a reason, the rest goes on, and when there is
room again so does everything, without help."""

import os
import re
import smtplib
import threading

import pytest

from disks import MB, crash, disk                                                  # noqa: F401 (a fixture)
from instance import Instance, in_thread, wait_for
from test_crash import message, send_until_accepted, subjects

BOB = "bob@example.test"
ALICE = "alice@example.test"


def instance(tmp_path, **settings):
    m = Instance(tmp_path / "mail", settings={"message_size_limit": "1000000", **settings})
    return m


def send_until_refused(mail, names, size):
    """Returns what was answered 250, and the refusal."""
    accepted = []
    for name in names:
        try:
            mail.send(BOB, text=message(name, size))
            accepted.append(name)
        except smtplib.SMTPRecipientsRefused as e:
            return accepted, next(iter(e.recipients.values()))
        except smtplib.SMTPResponseException as e:
            return accepted, (e.smtp_code, e.smtp_error)
    raise AssertionError(f"{len(accepted)} messages were taken on a full disk")


def refused_in_time(mail):
    """By SMTP and LMTP, each recipient, before a byte of the message."""
    for service, hello in (("smtp", "EHLO x"), ("lmtp", "LHLO x")):
        with mail.raw(service) as c:
            c.reply()
            c.ask(hello)
            assert c.ask("MAIL FROM:<a@elsewhere.test> SIZE=50000").startswith("250")
            for who in (BOB, ALICE):
                answer = c.ask(f"RCPT TO:<{who}>")
                assert answer.startswith("452 4.3.1 "), answer
            assert c.ask("DATA")[:3] in ("503", "554")


def readers_go_on(mail):
    """Log-in, reading, searching, taking flags away and expunging; leaves one message less. Nothing may be added."""
    box = mail.imap(BOB)
    n = int(box.select()[1][0])
    assert box.search(None, "SUBJECT", "first")[1][0].split() == [b"1"]
    assert b"end of first" in box.fetch("1", "(BODY.PEEK[])")[1][0][1]
    assert box.store("1:*", "-FLAGS", r"(\Flagged)")[0] == "OK"
    status, why = box.append("INBOX", None, None, message("appended", 60_000).encode())
    assert status == "NO" and re.match(rb"\[(OVERQUOTA|LIMIT|UNAVAILABLE)\] \w.* \w", why[0]), why
    assert box.store(str(n), "+FLAGS", r"(\Deleted)")[0] == "OK"
    assert box.expunge()[0] == "OK"
    assert int(box.select()[1][0]) == n - 1
    box.logout()
    pop = mail.pop3(BOB)
    assert pop.stat()[0] == n - 1
    assert any(b"end of first" in line for line in pop.retr(1)[1])
    pop.quit()


# All of them by make torture.
PLACES = [("mail", "bytes"), ("spool", "inodes"), ("spool", "bytes"), ("mail", "inodes")]


@pytest.mark.parametrize("where,how", PLACES if os.environ.get("DISK_ALL") else PLACES[:3])
def test_a_full_disk_is_told_before_the_data_and_the_rest_goes_on(tmp_path, disk, where, how):
    """Spool and mail on different file systems, one of them full to the last byte or inode."""
    small = disk(tmp_path / "mail" / where, "80m" if where == "mail" else "160m",
                 options=",nr_inodes=2000" if how == "inodes" else "")
    with instance(tmp_path) as m:
        m.user(BOB)
        m.user(ALICE)
        m.start()
        names = ["first", "second", "third"]
        for name in names:
            send_until_accepted(m, name)
        m.wait_messages(BOB, 3)
        fill = small.fill if how == "bytes" else small.use_up_inodes
        fill()
        refused_in_time(m)
        readers_go_on(m)
        # And again right after a crash, while it is as full.
        fill()
        crash(m)
        m.start()
        refused_in_time(m)
        readers_go_on(m)
        small.empty()
        send_until_accepted(m, "last")
        expected = {"first": 1, "last": 1}
        assert subjects(m, BOB) == expected
        assert m.stop() == 0
        assert len(m.messages(BOB)) == len(expected)
        m.start()
        assert subjects(m, BOB) == expected


def test_the_ballast_is_given_up_and_comes_back(tmp_path, disk):
    spool = disk(tmp_path / "mail" / "spool", "160m")
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        send_until_accepted(m, "first")
        ballast = os.path.join(m.dir, "spool", "store", "ballast")
        wait_for("ballast", lambda: os.path.exists(ballast) and os.path.getsize(ballast) == 4 * MB)
        spool.fill()
        assert spool.free() == 0
        # More than the pages that the index has free.
        box = m.imap(BOB)
        box.select()
        for i in range(20):
            assert box.store("1", "+FLAGS", f"(k{i})")[0] == "OK"
            box.create(f"folder{i}")
        m.wait_log("gave up the ballast file")
        assert not os.path.exists(ballast)
        assert box.store("1", "+FLAGS", r"(\Deleted)")[0] == "OK" and box.expunge()[0] == "OK"
        spool.empty()
        box.logout()
        send_until_accepted(m, "second")
        wait_for("ballast again", lambda: os.path.exists(ballast) and os.path.getsize(ballast) == 4 * MB)
        assert subjects(m, BOB) == {"second": 1}


def test_a_start_without_any_room_serves_reading_until_there_is_some(tmp_path, disk):
    """Not even the index can be written: what the journal has is served, and nobody needs to help."""
    spool = disk(tmp_path / "mail" / "spool", "160m")
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        send_until_accepted(m, "first")
        for i in range(30):
            m.send(BOB, text=message(f"n{i}"))
        crash(m)
        ballast = os.path.join(m.dir, "spool", "store", "ballast")
        if os.path.exists(ballast):
            os.unlink(ballast)
        spool.fill()
        m.start()
        m.wait_log("recovery could not finish, serving reads only")
        expected = {"first": 1, **{f"n{i}": 1 for i in range(30)}}
        assert subjects(m, BOB) == expected
        spool.empty()
        m.wait_log("trying to recover again: starting anew")
        send_until_accepted(m, "last")
        wait_for("all of it", lambda: m.command("queue", "flush") and subjects(m, BOB) == {**expected, "last": 1})
        assert m.stop() == 0


def test_accounts_on_a_full_disk_can_still_log_in(tmp_path, disk):
    small = disk(tmp_path / "mail" / "directory", "4m")
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        send_until_accepted(m, "first")
        small.fill()
        for _ in range(3):
            box = m.imap(BOB)
            box.select()
            assert box.search(None, "ALL")[1][0].split()
            box.logout()
        with m.submission(BOB) as s:
            s.sendmail(BOB, [BOB], message("from bob"))
        send_until_accepted(m, "second")
        # What needs room says so and changes nothing.
        done = [m.command("user", "add", f"u{i}@example.test", "--password-stdin", input="secret\n", check=False)
                for i in range(40)]
        assert any(d.returncode != 0 and re.search("full|space", d.stdout + d.stderr) for d in done), done[-1]
        crash(m)
        m.start()
        assert subjects(m, BOB) == {"first": 1, "from bob": 1, "second": 1}
        small.empty()
        m.user("late@example.test")
        m.imap("late@example.test").logout()


def test_a_log_on_a_full_disk_holds_nobody_up(tmp_path, disk):
    small = disk(tmp_path / "mail" / "log", "1m")
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        send_until_accepted(m, "first")
        small.fill()
        for i in range(20):
            m.send(BOB, text=message(f"n{i}"))
        assert m.count(BOB) == 21
        m.command("status")
        m.command("reload")
        small.empty()
        m.send(BOB, text=message("seen"), sender="seen@elsewhere.test")
        m.wait_log("from=<seen@elsewhere.test>")
        assert m.stop() == 0


@pytest.mark.skipif(not os.environ.get("DISK_ALL"), reason="a minute of waiting for deadlines: make torture runs it")
def test_the_queue_refuses_too_and_delivers_when_there_is_room(tmp_path, disk):
    """Nobody but the queue takes mail while the store is away."""
    spool = disk(tmp_path / "mail" / "spool", "200m")
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        send_until_accepted(m, "first")
        m.stop()
        m.start()
        os.kill(m.pid_of("store"), 19)
        try:
            with m.smtp() as s:
                s.sendmail("a@elsewhere.test", [BOB], message("queued"))
            spool.fill()
            with m.smtp() as s, pytest.raises((smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused)) as e:
                s.sendmail("a@elsewhere.test", [BOB], message("refused"))
            assert re.search(r"45[12].*4\.3\.\d", str(e.value)), e.value
        finally:
            os.kill(m.pid_of("store"), 18)
        spool.empty()
        m.command("queue", "flush")
        wait_for("what was queued", lambda: subjects(m, BOB) == {"first": 1, "queued": 1})


def test_the_reserve_follows_message_size_limit(tmp_path, disk):
    """Room is kept for one message of the greatest size: of that which a reload brought."""
    mails = disk(tmp_path / "mail" / "mail", "60m")
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        send_until_accepted(m, "first")
        mails.fill(20 * MB)
        m.send(BOB, text=message("second"))
        m.configure(message_size_limit="30000000")
        m.command("reload")
        wait_for("the new reserve", lambda: refused(m))
        m.configure(message_size_limit="1000000")
        m.command("reload")
        wait_for("the old reserve", lambda: not refused(m))
        m.configure(queue_minfree="30000000")
        m.command("reload")
        wait_for("what queue_minfree says", lambda: refused(m))


def refused(mail):
    with mail.raw("smtp") as c:
        answers = [c.reply(), *map(c.ask, ("EHLO x", "MAIL FROM:<a@elsewhere.test>"))]
        answer = c.ask(f"RCPT TO:<{BOB}>")
        assert answer.startswith(("250", "452 4.3.1")), answers + [answer]
        c.ask("QUIT")       # seen to have gone before the next comes: there is a limit an address
        return answer.startswith("452")


# ---- quota of a mailbox ----

@pytest.mark.parametrize("code,setting", [("452 4.2.2", {}), ("552 5.2.2", {"mailbox_quota_full_tempfail": "no"})])
def test_over_quota_is_told_at_rcpt(tmp_path, code, setting):
    with instance(tmp_path, **setting) as m:
        m.user(BOB, "secret", "--quota", "100K")
        m.start()
        m.send(BOB, text=message("n", 99_000))
        with m.raw("smtp") as c:
            c.reply()
            c.ask("EHLO x")
            assert c.ask("MAIL FROM:<a@elsewhere.test> SIZE=5000").startswith("250")
            answer = c.ask(f"RCPT TO:<{BOB}>")
            assert answer.startswith(code + " "), answer
        # Said nothing of its size: told after the data, LMTP each recipient.
        for service, hello in (("smtp", "EHLO x"), ("lmtp", "LHLO x")):
            with m.raw(service) as c:
                c.reply()
                c.ask(hello)
                c.ask("MAIL FROM:<a@elsewhere.test>")
                assert c.ask(f"RCPT TO:<{BOB}>").startswith("250")
                c.ask("DATA")
                c.send(message("more", 5000) + ".\r\n")
                answer = c.reply()
                assert answer.startswith(code + " "), answer
        assert m.count(BOB) == 1


def test_two_deliveries_at_the_edge_of_the_quota_fit_once(tmp_path):
    """Room for one: whoever comes first has it, the other is told; never both, never none."""
    with instance(tmp_path) as m:
        m.user(BOB, "secret", "--quota", "100K")
        m.start()
        for round_ in range(3):
            m.send(BOB, text=message("base", 60_000))
            barrier = threading.Barrier(2)

            def one(name):
                barrier.wait()
                try:
                    m.send(BOB, text=message(name, 25_000))
                    return True
                except smtplib.SMTPResponseException as e:
                    assert (e.smtp_code, e.smtp_error[:5]) == (452, b"4.2.2"), e
                except smtplib.SMTPRecipientsRefused as e:
                    assert all(c == 452 for c, _ in e.recipients.values()), e
                return False
            tasks = [in_thread(one, f"edge {i}") for i in range(2)]
            taken = [t.result() for t in tasks]
            assert sorted(taken) == [False, True]
            box = m.imap(BOB)
            box.select()
            assert int(box.select()[1][0]) == 2
            box.store("1:*", "+FLAGS", r"(\Deleted)")
            box.expunge()
            box.logout()
