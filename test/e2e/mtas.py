"""Debian's other mail systems as peers: Postfix, Exim and smtp-sink, each with configuration, queue and port of its own.

Nothing of the system's own services is touched: Postfix runs from a private configuration directory; Exim is Debian's
program, unpacked by contrib/install-deps beside the system (its package and Postfix's exclude each other), and finds the
account that it asks for in a passwd file that only its own mount namespace has."""
import glob
import os
import pwd
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "bench"))
from instance import wait_for                                      # noqa: E402
from peers import POSTFIX_MASTER                                    # noqa: E402

EXIM = "/usr/local/lib/postrider-test/exim4-daemon-light/usr/sbin/exim4"
SIZE_LIMIT = 100000


class Mta:
    """domain, port, process; messages() are those it delivered, whole, as bytes."""

    def __init__(self, directory, tls=None):
        self.dir = os.path.join(directory, self.domain)
        self.tls = tls
        # No client has this address, so none can be lent the port before it is listened on.
        with socket.socket() as s:
            s.bind((self.address, 0))
            self.port = s.getsockname()[1]
        self.nexthop = f"[{self.address}]:{self.port}"
        self.process = None
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o755)

    def run(self, *argv):
        self.output = open(os.path.join(self.dir, "output"), "ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output)

    def wait_ready(self):
        wait_for(f"{self.domain} to greet", self.greets, 60)

    def greets(self):
        assert self.process.poll() is None, open(os.path.join(self.dir, "output"), errors="replace").read()
        try:
            with socket.create_connection((self.address, self.port), timeout=5) as s:
                return s.recv(100)[:3] == b"220"
        except OSError:
            return False

    def messages(self):
        texts = []
        for path in glob.glob(self.pattern):
            with open(path, "rb") as f:
                texts.append(f.read())
        return texts

    def wait_message(self, text):
        """The message in which the text stands."""
        return wait_for(f"{text} at {self.domain}", lambda: next((m for m in self.messages() if text in m), None), 60)

    def stop(self):
        if self.process:
            if self.process.poll() is None:
                self.process.terminate()
            self.process.wait(60)
            self.output.close()


POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
myhostname = mx.postfix.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_dns_support_level = disabled
smtp_host_lookup = native
alias_maps =
virtual_mailbox_domains = postfix.test
virtual_mailbox_maps = inline:{{ bob@postfix.test=box/ jürgen@postfix.test=box/ }}
virtual_mailbox_base = {dir}/mail
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
transport_maps = inline:{{ example.test=smtp:[127.0.0.1]:{back} }}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtp_tls_security_level = may
smtputf8_enable = yes
message_size_limit = {size}
"""


class Postfix(Mta):
    domain, address = "postfix.test", "127.7.0.1"

    def start(self, back, more=""):
        for name in ("spool", "data", "etc", "mail"):
            os.makedirs(os.path.join(self.dir, name))
        owner = pwd.getpwnam("nobody")
        shutil.chown(os.path.join(self.dir, "data"), "postfix", "postfix")
        os.chown(os.path.join(self.dir, "mail"), owner.pw_uid, owner.pw_gid)
        etc = os.path.join(self.dir, "etc")
        with open(os.path.join(etc, "main.cf"), "w") as f:
            f.write(POSTFIX_MAIN.format(dir=self.dir, back=back, cert=self.tls[0], key=self.tls[1], size=SIZE_LIMIT,
                                        uid=owner.pw_uid, gid=owner.pw_gid) + more)
        with open(os.path.join(etc, "master.cf"), "w") as f:
            f.write(POSTFIX_MASTER.format(port=self.port).replace("127.0.0.1", self.address) +
                    "tlsmgr unix - - n 1000? 1 tlsmgr\n")
        self.pattern = os.path.join(self.dir, "mail", "box", "new", "*")
        self.run("postfix", "-c", etc, "start-fg")

    def stop(self):
        subprocess.run(["postfix", "-c", os.path.join(self.dir, "etc"), "stop"], capture_output=True)
        super().stop()


EXIM_CONF = """
primary_hostname = mx.exim.test
exim_path = {exim}
exim_user = mail
exim_group = mail
spool_directory = {dir}/spool
log_file_path = {dir}/log/%slog
pid_file_path = {dir}/pid
daemon_smtp_ports = {port}
local_interfaces = {address}
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {dir}/key.pem
message_size_limit = {size}
smtp_accept_queue_per_connection = 0
dsn_advertise_hosts = *
host_lookup =
keep_environment =
domainlist local_domains = exim.test
acl_smtp_rcpt = check
acl_smtp_data = accept
begin acl
check:
  accept  domains = +local_domains
          endpass
          message = nobody of that name
          verify = recipient
  accept  domains = example.test
  deny    message = relay not permitted
begin routers
box:
  driver = accept
  domains = +local_domains
  local_parts = bob : jürgen
  transport = box
back:
  driver = manualroute
  domains = example.test
  transport = back
  route_list = * 127.0.0.1
  self = send
begin transports
box:
  driver = appendfile
  directory = {dir}/mail
  maildir_format
  create_directory
  delivery_date_add
  user = mail
back:
  driver = smtp
  port = {back}
  allow_localhost
begin retry
* * F,1h,1m
"""


class Exim(Mta):
    domain, address = "exim.test", "127.7.0.2"

    def start(self, back):
        owner = pwd.getpwnam("mail")
        for name in ("spool", "log", "mail"):
            os.makedirs(os.path.join(self.dir, name))
            os.chown(os.path.join(self.dir, name), owner.pw_uid, owner.pw_gid)
        shutil.copy(self.tls[1], os.path.join(self.dir, "key.pem"))
        os.chown(os.path.join(self.dir, "key.pem"), owner.pw_uid, owner.pw_gid)
        conf = os.path.join(self.dir, "exim.conf")
        with open(conf, "w") as f:
            f.write(EXIM_CONF.format(exim=EXIM, dir=self.dir, address=self.address, port=self.port, back=back, cert=self.tls[0], size=SIZE_LIMIT))
        script = []
        for name, line in (("passwd", f"Debian-exim:x:{owner.pw_uid}:{owner.pw_gid}::/nonexistent:/usr/sbin/nologin\n"),
                           ("group", f"Debian-exim:x:{owner.pw_gid}:\n")):
            with open(f"/etc/{name}") as f, open(os.path.join(self.dir, name), "w") as to:
                to.write(f.read() + line)
            script.append(f"mount --bind {self.dir}/{name} /etc/{name}")
        script.append(f"exec {EXIM} -C {conf} -bdf")
        self.pattern = os.path.join(self.dir, "mail", "new", "*")
        self.run("unshare", "-m", "sh", "-c", " && ".join(script))


class SmtpSink(Mta):
    """Takes all, says neither 8BITMIME nor SMTPUTF8 nor DSN."""
    domain, address = "sink.test", "127.7.0.3"

    def start(self, back):
        self.pattern = os.path.join(self.dir, "dump", "*")
        os.makedirs(os.path.join(self.dir, "dump"))
        shutil.chown(os.path.join(self.dir, "dump"), "nobody")
        self.run("smtp-sink", "-u", "nobody", "-8", "-N", "-d", os.path.join(self.dir, "dump", "m."), f"{self.address}:{self.port}", "100")
