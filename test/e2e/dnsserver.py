"""A DNS server of a test's own: its records, its faults, its keys.

    with DnsServer() as dns, Instance(tmp_path / "mail", settings=dns.settings()) as mail:
        dns.set("example.org", "MX", "10 mx.example.org.")
        dns.set("mx.example.org", "A", "127.0.0.1")
        dns.behave("slow.example", "timeout")
        ...
        dns.set("mx.example.org", "A", "127.0.0.2")     # seen at once: records have TTL 0 unless said otherwise

It answers like a recursive server that knows everything there is: what was not set does not exist. CNAMEs are
followed. `asked(name)` tells what was asked. Signed zones: `anchor = dns.sign("signed.test")` and, at the
instance, settings=dns.settings(trust=tmp_path / "anchor") after that. UDP and TCP on the same port of 127.0.0.1."""

import socket
import struct
import threading
import time

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from cryptography.hazmat.primitives.asymmetric import ec

IN = dns.rdataclass.IN
TYPE = dns.rdatatype
DAY = 86400


def name_of(text):
    return dns.name.from_text(text).canonicalize() if isinstance(text, str) else text.canonicalize()


class Zone:
    def __init__(self, origin):
        self.origin = origin
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.dnskey = dns.dnssec.make_dnskey(self.key.public_key(), "ECDSAP256SHA256", flags=257)


class DnsServer:
    # What behave() takes: of a name, or "*" for all.
    BEHAVIOURS = {"timeout", "delay", "servfail", "refused", "nxdomain", "nodata", "truncate", "truncate-always", "wrong-id",
                  "wrong-address", "wrong-question", "garbage", "short", "loop", "strip", "bogus", "expired", "future",
                  # Forged answers that say FORGED arrive before the true one; records of other names come with it.
                  "forged-id", "forged-source", "forged-question", "extra"}
    FORGED = "127.6.6.6"

    def __init__(self, ttl=0):
        self.ttl = ttl
        self.records = {}          # (name, type) -> rrset
        self.behaviours = {}       # name or "*" -> word
        self.delays = {}           # name -> seconds
        self.zones = {}            # origin -> Zone
        self.queries = []          # (name text without final dot, type text, "udp" or "tcp")
        self.lock = threading.RLock()
        self.ended = threading.Event()

    # ---- what it says ----
    def set(self, name, rtype, *values, ttl=None):
        """These records of that name and type, instead of what there was."""
        owner, kind = name_of(name), TYPE.from_text(rtype)
        with self.lock:
            self.records.pop((owner, kind), None)
            if values:
                rdatas = [dns.rdata.from_text(IN, kind, v) for v in values]
                self.records[owner, kind] = dns.rrset.from_rdata_list(owner, self.ttl if ttl is None else ttl, rdatas)

    def remove(self, name):
        with self.lock:
            for key in [k for k in self.records if k[0] == name_of(name)]:
                del self.records[key]

    def host(self, name, *addresses, reverse=True):
        """A and AAAA records, and the PTR of each."""
        for rtype, mine in (("A", [a for a in addresses if ":" not in a]), ("AAAA", [a for a in addresses if ":" in a])):
            self.set(name, rtype, *mine)
        for a in addresses if reverse else ():
            self.ptr(a, name)

    def ptr(self, address, *names):
        import dns.reversename
        self.set(dns.reversename.from_address(address), "PTR", *(n.rstrip(".") + "." for n in names))

    def behave(self, name, word, delay=None):
        """How questions for that name ("*": any) are answered from now on; None: as they should be."""
        assert word is None or word in self.BEHAVIOURS, word
        key = "*" if name == "*" else name_of(name)
        with self.lock:
            self.behaviours.pop(key, None)
            self.delays.pop(key, None)
            if word:
                self.behaviours[key] = word
            if delay:
                self.delays[key] = delay

    def sign(self, origin):
        """Answers below are signed from now on. Returns the trust anchor."""
        zone = Zone(name_of(origin))
        with self.lock:
            self.zones[zone.origin] = zone
            self.records[zone.origin, TYPE.DNSKEY] = dns.rrset.from_rdata(zone.origin, 300, zone.dnskey)
        return f"{zone.origin} IN DNSKEY {zone.dnskey.to_text()}"

    def asked(self, name, rtype=None):
        with self.lock:
            return [q for q in self.queries if q[0] == name.rstrip(".").lower() and rtype in (None, q[1])]

    @property
    def address(self):
        return f"127.0.0.1@{self.port}"

    def settings(self, trust=None, **more):
        """For Instance. trust: a file that the anchors of all signed zones are written to."""
        if trust:
            with open(trust, "w") as f:
                for zone in self.zones.values():
                    f.write(f"{zone.origin} IN DNSKEY {zone.dnskey.to_text()}\n")
        return {"dns_servers": self.address, "dns_trust_anchor_file": str(trust) if trust else "", **more}

    # ---- life ----
    def start(self):
        for _ in range(50):
            self.tcp = socket.create_server(("127.0.0.1", 0))
            self.port = self.tcp.getsockname()[1]
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self.udp.bind(("127.0.0.1", self.port))
                break
            except OSError:            # somebody else has that UDP port
                self.tcp.close()
                self.udp.close()
        self.other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)     # who forges
        self.other.bind(("127.0.0.1", 0))
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self._serve_udp, self._serve_tcp)]
        for t in self.threads:
            t.start()
        return self

    def stop(self):
        """Nobody answers any more; questions are refused by the kernel."""
        self.ended.set()
        self.udp.close()
        self.other.close()
        try:
            self.tcp.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.tcp.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # ---- answers ----
    def _behaviour(self, name):
        with self.lock:
            key = name if name in self.behaviours or name in self.delays else "*"
            return self.behaviours.get(key), self.delays.get(key)

    def _zone(self, name):
        return next((z for o, z in sorted(self.zones.items(), key=lambda i: -len(i[0])) if name.is_subdomain(o)), None)

    def _exists(self, name):
        return any(owner.is_subdomain(name) for owner, _ in self.records)

    def _signature(self, rrset, zone, word):
        now = time.time()
        begin, end = now - DAY, now + DAY
        if word == "expired":
            begin, end = now - 3 * DAY, now - 2 * DAY
        elif word == "future":
            begin, end = now + 2 * DAY, now + 3 * DAY
        sig = dns.dnssec.sign(rrset, zone.key, zone.origin, zone.dnskey, inception=begin, expiration=end)
        if word == "bogus":
            sig = sig.replace(signature=bytes([sig.signature[0] ^ 1]) + sig.signature[1:])
        return dns.rrset.from_rdata(rrset.name, rrset.ttl, sig)

    def _put(self, section, rrset, query, word):
        section.append(rrset)
        zone = self._zone(rrset.name)
        if zone and query.want_dnssec and word != "strip":
            section.append(self._signature(rrset, zone, word))

    def _denial(self, name, answer, query, word):
        """SOA, and the NSEC chain's proofs (RFC 4035 3.1.3)."""
        zone = self._zone(name)
        origin = zone.origin if zone else name.split(2)[1] if len(name) > 1 else name
        soa = dns.rdata.from_text(IN, TYPE.SOA, "ns. hostmaster. 1 60 60 60 0")
        self._put(answer.authority, dns.rrset.from_rdata(origin, 0, soa), query, word)
        if not zone or not query.want_dnssec or word == "strip":
            return
        owners = sorted({zone.origin} | {n for n, _ in self.records if n.is_subdomain(zone.origin)})
        told = set()
        for covered in (name, dns.name.Name((b"*",) + self._encloser(name, zone).labels)):
            owner = max(n for n in owners if n <= covered)
            if owner not in told:
                told.add(owner)
                following = owners[(owners.index(owner) + 1) % len(owners)]
                kinds = sorted({k for n, k in self.records if n == owner} | {TYPE.RRSIG, TYPE.NSEC} |
                               ({TYPE.SOA} if owner == zone.origin else set()))
                nsec = dns.rdata.from_text(IN, TYPE.NSEC, f"{following} " + " ".join(map(TYPE.to_text, kinds)))
                self._put(answer.authority, dns.rrset.from_rdata(owner, 0, nsec), query, word)

    def _encloser(self, name, zone):
        while name != zone.origin and not self._exists(name):
            name = name.parent()
        return name

    def _fill(self, answer, query, name, rtype, word):
        for _ in range(30):
            found = self.records.get((name, rtype))
            alias = self.records.get((name, TYPE.CNAME))
            if found:
                self._put(answer.answer, found, query, word)
                return
            if not alias or rtype == TYPE.CNAME:
                break
            self._put(answer.answer, alias, query, word)
            name = name_of(alias[0].target)
        else:
            return                     # a loop of CNAMEs: as many as a server would write
        if not self._exists(name):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._denial(name, answer, query, word)

    def _answer(self, query, word):
        answer = dns.message.make_response(query, recursion_available=True)
        name, rtype = name_of(query.question[0].name), query.question[0].rdtype
        if query.edns >= 0:
            answer.use_edns(0, dns.flags.DO if query.want_dnssec else 0, 1232)
        rcode = {"servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED, "nxdomain": dns.rcode.NXDOMAIN}.get(word)
        if rcode is not None:
            answer.set_rcode(rcode)
        elif word == "loop":
            other = name_of("loop." + name.to_text())
            for a, b in ((name, other), (other, name)):
                answer.answer.append(dns.rrset.from_text(a, 0, IN, TYPE.CNAME, b.to_text()))
        elif word != "nodata":
            self._fill(answer, query, name, rtype, word)
        if word == "extra":
            for section in (answer.answer, answer.authority, answer.additional):
                section.append(dns.rrset.from_text("victim." + name.to_text(), 600, IN, TYPE.A, self.FORGED))
        return answer

    def _forgeries(self, query, word):
        """What somebody sends who has seen the question, or guesses it: (bytes, who sends)."""
        answer = dns.message.make_response(query, recursion_available=True)
        name, rtype = query.question[0].name, query.question[0].rdtype
        lie = f"0 forged.{name}" if rtype == TYPE.MX else self.FORGED
        answer.answer.append(dns.rrset.from_text(name, 600, IN, rtype if rtype in (TYPE.MX, TYPE.A) else TYPE.A, lie))
        data = answer.to_wire()
        if word == "forged-id":
            return [(struct.pack("!H", query.id ^ i) + data[2:], self.udp) for i in (1, 256, 0x5555)]
        if word == "forged-question":
            return [(data[:13] + b"z" + data[14:], self.udp)]
        return [(data, self.other)] * 3

    def _reply(self, wire, transport):
        """(seconds to wait, bytes to send, who sends, what is sent before it) of a reply; none: silence."""
        query = dns.message.from_wire(wire)
        query.want_dnssec = query.edns >= 0 and bool(query.ednsflags & dns.flags.DO)
        name = name_of(query.question[0].name)
        word, delay = self._behaviour(name)
        with self.lock:
            self.queries.append((name.to_text(omit_final_dot=True), TYPE.to_text(query.question[0].rdtype), transport))
            if word == "timeout":
                return None
            answer = self._answer(query, word)
        data = answer.to_wire(max_size=65535)
        limit = max(query.payload, 512) if query.edns >= 0 else 512
        if transport == "udp" and (len(data) > limit or word in ("truncate", "truncate-always")):
            empty = dns.message.make_response(query, recursion_available=True)
            empty.flags |= dns.flags.TC
            data = empty.to_wire()
        if transport == "tcp" and word == "truncate-always":
            return None
        if word == "wrong-id":
            data = struct.pack("!H", query.id ^ 0x5555) + data[2:]
        elif word == "wrong-question":
            data = data[:13] + b"z" + data[14:]
        elif word == "garbage":
            data = data[:2] + b"\xff" * 40
        elif word == "short":
            data = data[:len(data) // 2]
        before = self._forgeries(query, word) if transport == "udp" and word and word.startswith("forged-") else ()
        return delay or 0, data, self.other if word == "wrong-address" else self.udp, before

    # ---- sockets ----
    def _send(self, sender, data, where):
        try:
            sender.sendto(data, where)
        except OSError:
            if not self.ended.is_set():
                raise

    def _serve_udp(self):
        while not self.ended.is_set():
            try:
                wire, where = self.udp.recvfrom(65535)
            except OSError:
                return
            try:
                reply = self._reply(wire, "udp")
            except dns.exception.DNSException:
                continue
            if reply and reply[0]:
                threading.Timer(reply[0], self._send, (reply[2], reply[1], where)).start()
            elif reply:
                for data, sender in reply[3]:
                    self._send(sender, data, where)
                self._send(reply[2], reply[1], where)

    def _serve_tcp(self):
        while not self.ended.is_set():
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_connection, args=(connection,), daemon=True).start()

    def _serve_connection(self, connection):
        with connection, connection.makefile("rwb") as f:
            connection.settimeout(60)
            try:
                while len(head := f.read(2)) == 2:
                    reply = self._reply(f.read(struct.unpack("!H", head)[0]), "tcp")
                    if reply is None:
                        return
                    time.sleep(reply[0])
                    f.write(struct.pack("!H", len(reply[1])) + reply[1])
                    f.flush()
            except (OSError, dns.exception.DNSException):
                return
