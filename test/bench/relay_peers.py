"""The systems of the rows about mail that goes out: Postrider, and Debian's Postfix, each between smtp-source and smtp-sink.

Both run as they are shipped where it counts: Postfix flushes each queue file (its default), 100 processes of a kind, 20
deliveries at a time to one destination, 50 recipients in one; the same numbers are Postrider's defaults. What is set
for both is in settings(): who may relay, where it goes, more recipients a message than either takes by default, and
no second try while the bench looks at what was deferred."""

import glob
import os
import re
import shutil
import stat
import subprocess
import time

from peers import BINARY, POSTFIX_MASTER, greets, memory_pss, tree
from instance import Instance, free_ports, wait_for

DOMAIN = "example.test"
NEVER = "100d"


def settings(directory):
    """main.cf of both."""
    return {"relayhost": "", "transport_maps": f"texthash:{directory}/transport", "mynetworks": "127.0.0.0/8",
            "relay_domains": "", "smtpd_recipient_limit": "100000", "message_size_limit": "102400000",
            "minimal_backoff_time": "20000s", "maximal_backoff_time": "20000s", "maximal_queue_lifetime": NEVER,
            "delay_warning_time": "0h"}


class Sink:
    """smtp-sink on a port; counts messages."""

    def __init__(self, directory, port=None):
        self.port = port or free_ports(1)[0]
        self.path = os.path.join(directory, f"sink.{self.port}")
        self.out = open(self.path, "wb")
        who = ["-u", "nobody"] if os.getuid() == 0 else []
        self.process = subprocess.Popen(["smtp-sink", *who, "-c", f"127.0.0.1:{self.port}", "1000"], stdout=self.out,
                                        stderr=subprocess.DEVNULL)

    def ready(self):
        wait_for("smtp-sink", lambda: greets(self.port))
        return self

    def messages(self):
        with open(self.path, "rb") as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - 200))
            found = re.findall(rb"mesg=(\d+)", f.read())
        return int(found[-1]) if found else 0

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.out.close()
        os.unlink(self.path)


class LogCount:
    """How often a word came in a log that grows; from where it ends now."""

    def __init__(self, path, word):
        self.path, self.word, self.n, self.rest = path, word, 0, b""
        self.at = os.path.getsize(path) if os.path.exists(path) else 0

    def look(self):
        if not os.path.exists(self.path):
            return self.n
        with open(self.path, "rb") as f:
            f.seek(self.at)
            while piece := f.read(1 << 20):
                self.at += len(piece)
                lines = (self.rest + piece).split(b"\n")
                self.rest = lines.pop()
                self.n += sum(1 for line in lines if self.word in line)
        return self.n


class PostriderRelay:
    name = "postrider"

    def __init__(self, directory):
        self.directory = os.path.join(directory, "postrider-relay")
        os.makedirs(self.directory)
        os.chmod(self.directory, 0o755)
        self.instance = Instance(os.path.join(self.directory, "mail"), DOMAIN, settings=settings(self.directory))
        self.routes({})
        self.instance.init()

    def routes(self, table):
        """domain -> port; before a start."""
        with open(os.path.join(self.directory, "transport"), "w") as f:
            f.writelines(f"{domain} smtp:[127.0.0.1]:{port}\n" for domain, port in table.items())

    def start(self):
        self.instance.start()
        self.port = self.instance.ports["smtp"]
        self.log = self.instance.log_path

    def stop(self):
        self.instance.stop()

    def pids(self):
        return [self.instance.master.pid, *self.instance.children()]

    def memory(self):
        return {"master": memory_pss([self.instance.master.pid]),
                **{name: memory_pss([pid]) for pid, name in self.instance.children().items()}}

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *args):
        return [os.path.abspath(BINARY), "-c", self.instance.dir, *args]

    def tool(self, name, *args):
        """Postfix's own commands, by name."""
        path = os.path.join(self.directory, name)
        if not os.path.exists(path):
            client = os.path.abspath(BINARY) + "-client"
            os.symlink(client if os.path.exists(client) else os.path.abspath(BINARY), path)
        return [path, "-c", self.instance.dir, *args]

    def multiply(self, domains, each, send):
        """A queue of so many deferred messages for each domain."""
        count = LogCount(self.log, b"status=deferred")
        for domain in domains:
            send(self, f"user@{domain}", each)
        wait_for("all to be deferred", lambda: count.look() >= each * len(domains), timeout=3600)


MAIN = """
compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {log}
myhostname = bench.{domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
"""


class PostfixRelay:
    name = "postfix"

    def __init__(self, directory):
        self.directory = os.path.join(directory, "postfix-relay")
        self.etc = os.path.join(self.directory, "etc")
        self.spool = os.path.join(self.directory, "spool")
        self.log = f"/var/log/postrider-bench-relay-{os.getpid()}.log"
        self.process = None
        for name in ("spool", "data", "etc"):
            os.makedirs(os.path.join(self.directory, name))
        os.chmod(self.directory, 0o755)
        shutil.chown(os.path.join(self.directory, "data"), "postfix", "postfix")
        self.port = free_ports(1)[0]
        with open(os.path.join(self.etc, "main.cf"), "w") as f:
            f.write(MAIN.format(dir=self.directory, domain=DOMAIN, log=self.log))
            f.writelines(f"{k} = {v}\n" for k, v in settings(self.directory).items())
        with open(os.path.join(self.etc, "master.cf"), "w") as f:
            f.write(POSTFIX_MASTER.format(port=self.port))
        self.routes({})

    def routes(self, table):
        with open(os.path.join(self.directory, "transport"), "w") as f:
            f.writelines(f"{domain} smtp:[127.0.0.1]:{port}\n" for domain, port in table.items())
        # So that its fast-flush service has them (postqueue -s).
        subprocess.run(["postconf", "-c", self.etc, "-e", "fast_flush_domains = " + ", ".join(table)], check=True)

    def start(self):
        if os.getuid() != 0:
            raise SystemExit("The comparison with Postfix must be run as root: it starts as root.")
        self.process = subprocess.Popen(["postfix", "-c", self.etc, "start-fg"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("postfix", lambda: greets(self.port))

    def stop(self):
        if self.process:
            subprocess.run(["postfix", "-c", self.etc, "stop"], capture_output=True)
            if self.process.poll() is None:
                self.process.terminate()
            self.process.wait(60)
            self.process = None

    def pids(self):
        return tree({self.process.pid})

    def memory(self):
        return {"all": memory_pss(self.pids())}

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        if os.path.exists(self.log):
            os.unlink(self.log)

    def tool(self, name, *args):
        return [name, "-c", self.etc, *args]

    def multiply(self, domains, each, send):
        """Postfix makes one message for each domain, tries and defers it. The rest are copies of these files under names
        as it gives them (a number and the inode), with their lines in the logs of the defer and flush services:
        byte for byte the queue that it would have made itself, in minutes instead of hours."""
        count = LogCount(self.log, b"status=deferred")
        for domain in domains:
            send(self, f"user@{domain}", 1)
        wait_for("Postfix to defer one for each", lambda: count.look() >= len(domains), timeout=600)
        time.sleep(2)                    # its qmgr says nowhere that the file was moved
        self.stop()
        made = glob.glob(f"{self.spool}/deferred/?/*")
        if len(made) != len(domains):
            raise SystemExit(f"Postfix deferred {len(made)} of {len(domains)} messages")
        for path in made:
            self._copies(path, each - 1)
        self.start()

    def _copies(self, path, n):
        name = os.path.basename(path)
        with open(path, "rb") as f:
            message = f.read()
        with open(f"{self.spool}/defer/{name[0]}/{name}", "rb") as f:
            reason = f.read()
        site = next(p for p in glob.glob(f"{self.spool}/flush/*") if name.encode() in open(p, "rb").read())
        like, noted = os.stat(path), os.stat(f"{self.spool}/defer/{name[0]}/{name}")
        names = [self._copy(message, like, reason, noted, i) for i in range(n)]
        with open(site, "ab") as f:
            f.write(b"".join(x.encode() + b"\n" for x in names))

    def _copy(self, message, like, reason, noted, i):
        new = f"{self.spool}/deferred/bench"
        write_like(new, message, like)
        name = "%05X%X" % (i * 7919 % 1000000, os.stat(new).st_ino)
        for queue in ("deferred", "defer"):
            if not os.path.isdir(f"{self.spool}/{queue}/{name[0]}"):
                os.mkdir(f"{self.spool}/{queue}/{name[0]}", 0o700)
                shutil.chown(f"{self.spool}/{queue}/{name[0]}", "postfix")
        os.rename(new, f"{self.spool}/deferred/{name[0]}/{name}")
        write_like(f"{self.spool}/defer/{name[0]}/{name}", reason, noted)
        return name


def write_like(path, data, like):
    with open(path, "wb") as f:
        f.write(data)
        os.fchown(f.fileno(), like.st_uid, like.st_gid)
        os.fchmod(f.fileno(), stat.S_IMODE(like.st_mode))
    os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))
