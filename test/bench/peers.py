"""The systems that the benchmark compares: Postrider, and Debian's Postfix with Dovecot's LMTP.

Each runs in a directory of its own on kernel-chosen loopback ports and is stopped by its pid. Both write
Maildirs on the same file system, sync as they do by default, and log to a file."""

import imaplib
import os
import pwd
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))
from instance import BINARY, Instance, free_ports, wait_for          # noqa: E402, F401

DOMAIN = "example.test"


def count_files(directory):
    n = 0
    for name in ("new", "cur"):
        try:
            n += len(os.listdir(os.path.join(directory, name)))
        except FileNotFoundError:
            pass
    return n


def greets(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as s:
            return s.recv(100)[:3] == b"220"
    except OSError:
        return False


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
        return True
    except OSError:
        return False


def tree(roots):
    """These processes and all that come from them."""
    found = set(roots)
    while True:
        more = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                ppid = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if ppid in found and int(pid) not in found:
                more.add(int(pid))
        if not more:
            return sorted(found)
        found |= more


class Postrider:
    name = "postrider"

    def __init__(self, directory):
        self.instance = Instance(os.path.join(directory, "postrider"), DOMAIN, settings={
            "message_size_limit": "102400000", "imap_client_connection_count_limit": "0"})

    def start(self, smtp=True):
        self.instance.init()
        # A hash that costs nothing: a thousand log-ins are to measure sessions, not yescrypt.
        self.instance.command("user", "add", f"bob@{DOMAIN}", "--password-hash", "{PLAIN}secret")
        self.instance.start()
        self._take_ports()

    def take_maildir(self, address, fill):
        """Makes the account; fill(path, (uid, gid)) puts files into its Maildir while nothing runs."""
        if not os.path.exists(os.path.join(self.instance.dir, "main.cf")):
            self.instance.init()
        self.instance.command("user", "add", address, "--password-hash", "{PLAIN}secret")
        self.instance.start()
        with imaplib.IMAP4("127.0.0.1", self.instance.ports["imap"]) as m:
            m.login(address, "secret")
            m.select("INBOX")
        self.instance.stop()
        path = self.instance.maildir(address)
        owner = os.stat(os.path.join(path, "cur"))
        fill(path, (owner.st_uid, owner.st_gid))

    def start_imap(self):
        self.instance.start()
        self._take_ports()

    def _take_ports(self):
        self.port, self.imap, self.imaps = (self.instance.ports[n] for n in ("smtp", "imap", "imaps"))

    def delivered(self):
        try:
            return count_files(self.instance.maildir(f"bob@{DOMAIN}"))
        except AssertionError:
            return 0

    def pids(self):
        return [self.instance.master.pid, *self.instance.children()]

    def processes(self):
        """Name and pid of each."""
        return [("master", self.instance.master.pid), *((n, p) for p, n in self.instance.children().items())]

    def stop(self):
        self.instance.stop()


DOVECOT = """
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
protocols = imap lmtp
default_client_limit = 10000
mail_max_userip_connections = 0
listen = 127.0.0.1
ssl = yes
ssl_cert = <{dir}/cert.pem
ssl_key = <{dir}/key.pem
disable_plaintext_auth = no
default_login_user = dovenull
default_internal_user = dovecot
mail_location = maildir:{dir}/mail/%n
mail_uid = {user}
mail_gid = {user}
first_valid_uid = 1
auth_username_format = %n
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={user} gid={user} home={dir}/home/%n allow_all_users=yes
}}
service lmtp {{
  unix_listener {dir}/lmtp {{
    mode = 0666
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
  service_count = 0
  client_limit = 10000
}}
service imap {{
  process_limit = 10000
}}
"""

POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = /var/log/postrider-bench-postfix.log
myhostname = bench.{domain}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = static:yes
virtual_transport = lmtp:unix:{dovecot}/lmtp
alias_maps =
smtpd_recipient_restrictions = permit_mynetworks, reject
message_size_limit = 102400000
default_process_limit = 200
"""

POSTFIX_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class PostfixDovecot:
    name = "postfix+dovecot"

    def __init__(self, directory):
        self.postfix = os.path.join(directory, "postfix")
        self.dovecot = os.path.join(directory, "dovecot")
        self.processes = []

    def start(self, smtp=True):
        if os.getuid() != 0:
            raise SystemExit("The comparison with Postfix and Dovecot must be run as root: they start as root.")
        self._init_dovecot()
        self._start_dovecot()
        if smtp:
            self._start_postfix()

    def take_maildir(self, address, fill):
        self._init_dovecot()
        path = os.path.join(self.dovecot, "mail", address.split("@")[0])
        user = pwd.getpwnam("nobody")
        for name in ("", "cur", "new", "tmp"):
            os.makedirs(os.path.join(path, name))
            os.chown(os.path.join(path, name), user.pw_uid, user.pw_gid)
        fill(path, (user.pw_uid, user.pw_gid))

    def start_imap(self):
        if os.path.exists(f"{self.dovecot}/lmtp"):
            os.unlink(f"{self.dovecot}/lmtp")
        self._start_dovecot()

    def _init_dovecot(self):
        if os.path.exists(os.path.join(self.dovecot, "dovecot.conf")):
            return
        self.port, self.imap, self.imaps = free_ports(3)
        os.makedirs(os.path.join(self.dovecot, "mail"))
        user = pwd.getpwnam("nobody")
        for name in ("mail", "home"):
            path = os.path.join(self.dovecot, name)
            os.makedirs(path, exist_ok=True)
            os.chown(path, user.pw_uid, user.pw_gid)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bench",
                        "-keyout", f"{self.dovecot}/key.pem", "-out", f"{self.dovecot}/cert.pem"], check=True, capture_output=True)
        conf = os.path.join(self.dovecot, "dovecot.conf")
        with open(conf, "w") as f:
            f.write(DOVECOT.format(dir=self.dovecot, user=user.pw_uid, imap=self.imap, imaps=self.imaps))

    def _start_dovecot(self):
        conf = os.path.join(self.dovecot, "dovecot.conf")
        self.processes.append(subprocess.Popen(["dovecot", "-F", "-c", conf]))
        wait_for("dovecot", lambda: os.path.exists(f"{self.dovecot}/lmtp") and listens(self.imap) and listens(self.imaps))

    def _start_postfix(self):
        for name in ("spool", "data", "etc"):
            os.makedirs(os.path.join(self.postfix, name))
        shutil.chown(os.path.join(self.postfix, "data"), "postfix", "postfix")
        etc = os.path.join(self.postfix, "etc")
        with open(os.path.join(etc, "main.cf"), "w") as f:
            f.write(POSTFIX_MAIN.format(dir=self.postfix, domain=DOMAIN, dovecot=self.dovecot))
        with open(os.path.join(etc, "master.cf"), "w") as f:
            f.write(POSTFIX_MASTER.format(port=self.port))
        self.processes.append(subprocess.Popen(["postfix", "-c", etc, "start-fg"], stdout=subprocess.DEVNULL,
                                               stderr=subprocess.DEVNULL))
        wait_for("postfix", lambda: greets(self.port))

    def delivered(self):
        return count_files(os.path.join(self.dovecot, "mail", "bob"))

    def pids(self):
        return tree({p.pid for p in self.processes})

    def stop(self):
        if os.path.exists(os.path.join(self.postfix, "etc")):
            subprocess.run(["postfix", "-c", os.path.join(self.postfix, "etc"), "stop"], capture_output=True)
        for p in reversed(self.processes):
            if p.poll() is None:
                p.terminate()
            p.wait(30)
        self.processes = []


def memory_pss(pids):
    """Sum of the proportional set sizes, in bytes."""
    total = 0
    for pid in pids:
        try:
            for line in open(f"/proc/{pid}/smaps_rollup"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total
