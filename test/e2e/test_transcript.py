"""debug_peer_list: the whole dialogue of a client in the log, without its secrets."""

import base64

from instance import Raw

SECRET = "Very-Secret-Word"


def test_dialogue_is_logged_and_secrets_are_not(stopped):
    stopped.configure(debug_peer_list="127.0.0.0/8")
    stopped.user("carol@example.test", SECRET)
    mail = stopped.start()
    with mail.submission("carol@example.test", SECRET) as s:
        s.sendmail("carol@example.test", ["bob@example.test"], "Subject: x\r\n\r\nx\r\n")
    box = mail.imap("carol@example.test", SECRET)
    box.logout()
    box = mail.imap()
    box.authenticate("PLAIN", lambda _: b"\0carol@example.test\0" + SECRET.encode())
    box.logout()
    pop = mail.pop3("carol@example.test", SECRET)
    pop.quit()
    with Raw(mail.ports["imap"]) as c:
        c.line()
        c.send(f"a LOGIN {{18+}}\r\ncarol@example.test {SECRET}\r\n")
        assert c.line().startswith("a OK")
    mail.wait_log(r"(?i)smtp: < \[127\.0\.0\.1\]: mail FROM:<carol@example\.test>")
    mail.wait_log(r"imap: > \[127\.0\.0\.1\]: (?:\w+ )?OK")
    mail.wait_log(r"pop3: < \[127\.0\.0\.1\]: USER carol")
    log = mail.log()
    assert SECRET not in log
    for user in (b"\0carol@example.test\0", b"carol@example.test\0carol@example.test\0"):
        assert base64.b64encode(user + SECRET.encode())[:30].decode() not in log
