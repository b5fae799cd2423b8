"""Aliases that are lists: members in files (:include:), owners whose the bounces are, and no copy twice."""
import os
import smtplib
import subprocess

import pytest

from crashkill import Faults
from instance import BINARY, Instance, wait_for
from sink import Sink

FAST = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s"}


def write(path, text):
    path.write_text(text)
    return path


MEMBERS = "# of the club\nalice, Bob <bob@example.test>\nx@far.test\n"
USERS = ("alice", "bob", "carol", "dave")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    top = tmp_path_factory.mktemp("lists")
    members = write(top / "members", MEMBERS)
    aliases = write(top / "aliases", f"""list: :include:{members}
owner-list: carol@example.test
both: x@far.test, y@slow.test, alice
all: list, bob
ring: :include:{members}, ring@host.example.test
owner-ring: carol
""")
    faults = Faults(top / "faults")
    with Sink("127.1.0.2") as sink, pytest.MonkeyPatch.context() as patch, Instance(top / "mail", settings={
            "relayhost": sink.nexthop, "mydestination": "host.example.test", "myorigin": "host.example.test",
            "alias_maps": f"hash:{aliases}", "virtual_alias_maps":
            "inline:{ {alice@host.example.test=alice@example.test}, {carol@host.example.test=carol@example.test}, "
            "{bob@host.example.test=bob@example.test} }", **FAST}) as m:
        patch.setenv("POSTRIDER_FAULTS", faults.dir)
        for name in USERS:
            m.user(f"{name}@example.test")
        m.members, m.sink, m.faults = members, sink, faults
        m.start()
        yield m
        faults.close()


@pytest.fixture
def lists(shared):
    """With nothing in its mailboxes, and the list as it was."""
    yield shared
    queue_is_empty(shared)
    for user in USERS:
        box = shared.imap(f"{user}@example.test")
        box.select()
        box.store("1:*", "+FLAGS", "\\Deleted")
        box.expunge()
        box.logout()
        shared.wait_messages(f"{user}@example.test", 0)
    shared.sink.messages.clear()
    shared.sink.answer.clear()
    shared.members.write_text(MEMBERS)
    shared.command("reload")


@pytest.fixture
def sink(shared):
    return shared.sink


def send(mail, rcpts, sender="s@elsewhere.test", text="Subject: hello\r\n\r\nthe text\r\n", options=(), rcpt_options=()):
    with mail.smtp() as s:
        return s.sendmail(sender, rcpts, text, options, rcpt_options)


def by_hand(mail, *args, text="Subject: by hand\n\nmore\n"):
    name = os.path.join(mail.dir, "sendmail")
    if not os.path.islink(name):
        os.symlink(BINARY, name)
    subprocess.run([name, "-C", mail.dir, *args], input=text, text=True, check=True, timeout=60)


def texts(mail, user, count):
    found = []
    for path in mail.wait_messages(f"{user}@example.test", count):
        with open(path, "rb") as f:
            found.append(f.read())
    return found


def queue_is_empty(mail):
    wait_for("the queue to be empty", lambda: "empty" in mail.command("queue", "list").stdout.lower(), 60)


def test_a_list_reaches_its_members_and_its_bounces_the_owner(lists, sink):
    sink.answer["RCPT"] = lambda line: "550 5.1.1 gone" if "x@far" in line else None
    send(lists, ["list@host.example.test"])
    (copy,) = texts(lists, "alice", 1)
    assert copy.startswith(b"Return-Path: <owner-list@host.example.test>\n")
    assert b"Delivered-To: list@host.example.test\n" in copy and copy.count(b"the text") == 1
    texts(lists, "bob", 1)
    (bounce,) = texts(lists, "carol", 1)
    assert b"x@far.test" in bounce and b"Return-Path: <>" in bounce
    queue_is_empty(lists)
    lists.wait_log(r"postrider/local\S+: \S+: to=<list@host.example.test>, relay=local, .*status=sent \(forwarded as \S+\)")
    told = lists.command("trace", "list@host.example.test").stdout
    assert "<list@host.example.test> is an alias" in told and "delivered to <bob@example.test>" in told
    # Whoever sends to it, by whatever way.
    by_hand(lists, "-f", "alice@example.test", "list", text="Subject: by hand\n\nmore\n")
    texts(lists, "bob", 2)
    assert all(m.startswith(b"Return-Path: <owner-list@host.example.test>") for m in texts(lists, "alice", 2))
    # A bounce to a list stays one: nobody is sent a bounce for it.
    send(lists, ["list@host.example.test"], sender="")
    assert any(m.startswith(b"Return-Path: <>") for m in texts(lists, "alice", 3))
    queue_is_empty(lists)
    texts(lists, "carol", 2)


def test_a_changed_list_counts_without_reload_and_a_missing_one_waits(lists, sink):
    def reply():
        with lists.smtp() as s:
            s.ehlo("client.test")
            s.mail("s@elsewhere.test")
            return s.rcpt("list@host.example.test")

    os.unlink(lists.members)
    lists.command("reload")
    assert reply()[0] == 451
    lists.wait_log("members: No such file")
    lists.members.write_text("dave@example.test\n")
    wait_for("the list to be there", lambda: reply()[0] == 250)
    send(lists, ["list@host.example.test"])
    texts(lists, "dave", 1)
    lists.members.write_text("|/bin/sh\n")
    wait_for("a command to be refused", lambda: reply()[0] == 451)
    lists.wait_log("leads to a command, which is not supported yet")


def test_a_list_within_an_alias_and_one_that_names_itself_end(lists, sink):
    text = "Subject: hello\r\n\r\n" + "0123456789\r\n" * 20000         # more than goes inline
    send(lists, ["all@host.example.test", "ring@host.example.test"], text=text)
    queue_is_empty(lists)
    returns = sorted(m.split(b"\n")[0] for m in texts(lists, "bob", 3))
    assert returns == [b"Return-Path: <owner-list@host.example.test>", b"Return-Path: <owner-ring@host.example.test>",
                       b"Return-Path: <s@elsewhere.test>"]
    assert all(m.count(b"0123456789\n") == 20000 for m in texts(lists, "alice", 2))
    assert all(m.data.endswith(b"0123456789\r\n") for m in sink.wait(2))
    assert {(m.sender, *m.rcpts) for m in sink.messages} == {
        ("owner-list@host.example.test", "x@far.test"), ("owner-ring@host.example.test", "x@far.test")}


def test_who_waits_on_an_alias_costs_nobody_a_second_copy(lists, sink):
    """From a program of this machine the alias is in the queue as itself."""
    sink.answer["RCPT"] = lambda line: "450 4.2.0 later" if "y@slow" in line else None
    by_hand(lists, "-f", "dave@example.test", "both", text="Subject: once\n\nfor three\n")
    texts(lists, "alice", 1)
    wait_for("y to be tried again", lambda: lists.log().count("to=<y@slow.test>") >= 3, 60)
    assert [m.rcpts for m in sink.messages] == [["x@far.test"]]
    sink.answer.clear()
    queue_is_empty(lists)
    assert sorted(m.rcpts for m in sink.messages) == [["x@far.test"], ["y@slow.test"]]
    assert len(texts(lists, "alice", 1)) == 1


def test_who_asks_is_told_that_an_alias_was_expanded_and_a_list_reached(lists, sink):
    send(lists, ["list@host.example.test"], sender="dave@example.test", rcpt_options=["NOTIFY=SUCCESS"])
    (told,) = texts(lists, "dave", 1)
    assert b"Action: delivered" in told and b"list@host.example.test" in told and b"alice" not in told
    by_hand(lists, "-f", "dave@example.test", "-N", "success", "both", text="Subject: told\n\nx\n")
    told = texts(lists, "dave", 2)
    assert any(b"Action: expanded" in m and b"x@far.test" not in m for m in told)
    queue_is_empty(lists)


def test_lmtp_serves_a_list_at_once(lists, sink):
    lists.members.write_text("alice\nbob\n")
    lists.command("reload")
    with smtplib.LMTP("127.0.0.1", lists.ports["lmtp"]) as s:
        s.ehlo("client.test")
        assert s.mail("s@elsewhere.test")[0] == 250
        assert s.rcpt("list@host.example.test")[0] == 250
        assert s.data("Subject: x\r\n\r\nthe text\r\n")[0] == 250
    (copy,) = texts(lists, "alice", 1)
    assert copy.startswith(b"Return-Path: <owner-list@host.example.test>\n")
    texts(lists, "bob", 1)


def test_a_relay_that_dies_between_the_two_messages_sends_the_list_once(lists, sink):
    lists.faults.arm("relay.sent")
    send(lists, ["list@host.example.test"])
    lists.faults.wait_used("relay.sent")
    queue_is_empty(lists)
    assert len(texts(lists, "alice", 1)) == len(texts(lists, "bob", 1)) == 1
    assert [m.rcpts for m in sink.messages] == [["x@far.test"]]
