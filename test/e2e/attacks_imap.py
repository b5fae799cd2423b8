"""The attacks of attacks.py that need to be logged in to IMAP."""

from attacks import VICTIM, attack, parallel


COMMANDS = {
    "parentheses in SEARCH": lambda: "SEARCH " + "(" * 30_000 + "ALL" + ")" * 30_000,
    "a tree of OR": lambda: "SEARCH " + "OR " * 10_000 + "ALL " * 10_000 + "ALL",
    "a wide OR of texts": lambda: "SEARCH " + " ".join(f"OR TEXT n{i}" for i in range(450)) + " TEXT x",
    "many texts": lambda: "SEARCH " + " ".join(f"NOT BODY n{i}" for i in range(900)),
    "parentheses in FETCH": lambda: "FETCH 1 " + "(" * 60_000,
    "a list of FETCH items": lambda: "FETCH 1 (" + "FLAGS " * 10_000 + "UID)",
    "one large message, a hundred times": lambda: "FETCH 1 (" + " ".join(["BODY.PEEK[]<0.1>"] * 100) + ")",
    "sections of a header": lambda: "FETCH 1:* (" + " ".join(f"BODY.PEEK[HEADER.FIELDS (X{i})]" for i in range(120)) + ")",
    "a set of 20,000 ranges": lambda: "UID FETCH " + ",".join(str(3 * i + 1) for i in range(9_000)) + " FLAGS",
    "everything 10,000 times": lambda: "FETCH " + ",".join(["1:*"] * 15_000) + " (UID)",
    "FETCH of four billion": lambda: "UID FETCH 1:4294967295,4294967295:1 (UID)",
    "folders 10,000 deep": lambda: "CREATE " + "/".join(["a"] * 10_000),
    "a folder name without end": lambda: "CREATE " + "a" * 60_000,
    "wildcards": lambda: 'LIST "" "' + "*%" * 5_000 + 'x"',
    "a hundred patterns": lambda: 'LIST "" (' + " ".join(['"' + "*a" * 100 + 'b"'] * 100) + ")",
    "STATUS of patterns": lambda: 'LIST "" "*" RETURN (STATUS (MESSAGES UIDNEXT UNSEEN))',
    "5,000 keywords": lambda: "STORE 1 FLAGS (" + " ".join(f"k{i}" for i in range(5000)) + ")",
    "a keyword of 60,000 bytes": lambda: "STORE 1 +FLAGS (" + "k" * 60_000 + ")",
    "10,000 zero literals": lambda: "SEARCH " + "SUBJECT {0+}\r\n " * 10_000 + "ALL",
    "STATUS items": lambda: "STATUS INBOX (" + "MESSAGES " * 7_000 + "UNSEEN)",
    "ID": lambda: "ID (" + '"k" "v" ' * 7_000 + ")",
    "quotes": lambda: 'SEARCH SUBJECT "' + "\\\\" * 30_000 + '"',
}


@attack("imap")
def commands_without_measure(field, names=tuple(COMMANDS), rounds=1):
    def one(name):
        p = field.login("imap")
        p.command("SELECT INBOX")
        text = COMMANDS[name]()
        for _ in range(rounds):
            try:
                p.command(text, "OK NO BAD")
            except (AssertionError, ConnectionError):
                break                    # BYE was said: a line too long
        p.close()
    parallel([lambda n=n: one(n) for n in names])


@attack("imap")
def literals_never_sent(field, connections=50):
    held = []
    for i in range(connections):
        p = field.open("imap")
        p.send("a LOGIN {8000}\r\n")
        assert p.line().startswith("+")
        held.append(p)
    for text in ("a LOGIN {4294967296+}\r\n", "a LOGIN {99999999999}\r\n", "a LOGIN {18446744073709551615+}\r\n", "a LOGIN {65537+}\r\n"):
        p = field.open("imap")
        p.send(text)
        line = p.line()
        assert "BYE" in line or " NO " in line or " BAD " in line, line
        p.close()
    for i in range(10):
        p = field.login("imap")
        p.send("a APPEND INBOX {9000000}\r\n")
        assert p.line().startswith("+")
        p.send(b"x" * 60_000)
        held.append(p)
        q = field.login("imap")
        q.send("a APPEND INBOX {4294967296+}\r\n")
        q.pour(b"x" * 1_000_000)
        held.append(q)
        r = field.login("imap")
        for _ in range(3):
            r.send(b"a SEARCH SUBJECT {60000}\r\n")
            assert r.line().startswith("+")
            r.send(b"x" * 60_000)
        held.append(r)
    for p in held:
        p.close()


@attack("imap")
def idle_with_endless_input(field, size=2 << 20):
    p = field.login("imap")
    p.command("SELECT INBOX")
    p.send("a IDLE\r\n")
    assert p.line().startswith("+")
    p.pour(b"x" * size)
    got = p.rest_after_quit()
    assert b"BYE" in got or got == b"", got[:200]
    p.close()


@attack("imap")
def thousands_of_names(field, count=3000):
    """Folders, subscriptions, keywords by one user; then lists of them from several connections that do not read."""
    p = field.login("imap")
    def many(line, n):
        p.send("".join(f"m{i} {line(i)}\r\n" for i in range(n)))
        for i in range(n):
            p.tagged(f"m{i}", "OK NO BAD")
    many(lambda i: f"CREATE many/{'x' * 100}{i}", count)
    many(lambda i: f"SUBSCRIBE none/{'y' * 100}{i}", count)
    p.command("SELECT INBOX")
    many(lambda i: f"STORE 1 +FLAGS (word{i})", 200)
    readers = []
    for _ in range(10):
        r = field.login("imap", receive=4096)
        r.send('a LIST "" "*" RETURN (STATUS (MESSAGES))\r\n' * 50 + 'b LSUB "" "*"\r\n' * 50)
        readers.append(r)
    p.command('LIST "" "*"')
    p.command("DELETE many", "OK NO")
    for r in readers:
        r.close()
    p.close()


@attack("imap")
def whole_mailbox_again_and_again(field, rounds=5, sessions=4):
    """STORE and COPY of everything, by several sessions at a time that all have to be told."""
    def one(k):
        p = field.login("imap")
        p.command("CREATE Copies", "OK NO")
        p.command("SELECT INBOX")
        for i in range(rounds):
            p.command(f"STORE 1:* {'+-'[i % 2]}FLAGS.SILENT (\\Flagged k{k})", "OK NO")
            p.command("FETCH 1:* (FLAGS)")
        if k == 0:
            p.command("COPY 1:* Copies", "OK NO")
        p.close()
    parallel([lambda k=k: one(k) for k in range(sessions)])


@attack("imap")
def large_fetches_not_read(field, sessions=20, megabytes=9):
    """Everybody asks for a large message many times over and reads nothing: neither threads nor memory are held."""
    p = field.login("imap")
    p.command("CREATE Large", "OK NO")
    body = b"Subject: large\r\n\r\n" + (b"0123456789abcdef" * 4 + b"\r\n") * (megabytes * 1_000_000 // 66)
    p.send(b"a APPEND Large {%d}\r\n" % len(body))
    assert p.line().startswith("+")
    p.send(body + b"\r\n")
    p.tagged("a")
    p.command("SELECT Large")
    p.command("SEARCH " + " ".join(f"NOT TEXT never{i}" for i in range(95)))
    p.command("FETCH 1 (" + " ".join(f"BODY.PEEK[]<{megabytes * 70_000 * i}.10>" for i in range(12)) + ")")
    p.close()
    held = []
    for i in range(sessions):
        r = field.login("imap" if i % 2 else "imaps", receive=4096)
        r.command("SELECT Large")
        r.send(b"a FETCH 1 (" + b" ".join([b"BODY.PEEK[]"] * 100) + b")\r\n" + b"b UID FETCH 1:* (BODY.PEEK[])\r\n" * 100)
        held.append(r)
    for r in held:
        r.file.readline()
    field.mail.send(VICTIM)
    for r in held:
        r.close()
