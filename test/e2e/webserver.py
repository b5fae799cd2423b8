"""A certificate authority and a web server of a test's own, for MTA-STS policies (RFC 8461 3.3).

    ca = Authority(tmp_path / "ca.pem")
    with PolicyServer("127.1.2.3", ca) as web:
        web.policy("example.org", "enforce", "mx.example.org", max_age=86400)
        web.answer["slow.test"] = HANG
        web.asked["example.org"]                 # how often

It serves mta-sts.DOMAIN for every domain, each with a certificate of its own. What stands in `answer` is a whole
reply (bytes), or a function of the connection."""
import datetime
import socket
import ssl
import tempfile
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    def __init__(self, path=None, name="Test Authority"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cert = self._certificate(self.name, self.key.public_key(), [(x509.BasicConstraints(True, None), True)])
        self.path = str(path) if path else None
        if path:
            with open(path, "wb") as f:
                f.write(self.cert.public_bytes(serialization.Encoding.PEM))

    def _certificate(self, subject, key, extensions):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30)))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, *names):
        """(SSLContext of a server by those names, its public key)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        cert = self._certificate(subject, key.public_key(),
                                 [(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as f:
            f.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()))
            f.write(cert.public_bytes(serialization.Encoding.PEM))
            f.flush()
            context.load_cert_chain(f.name)
        return context, key.public_key()


def reply(body, status="200 OK", kind="text/plain; charset=utf-8", more=""):
    return (f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n" + body).encode()


def HANG(connection):
    connection.recv(1)


def CLOSE(connection):
    pass


def ENDLESS(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nversion: STSv1\n")
    while True:
        connection.sendall(b"mx: mx.example.org\n" * 1000)


def ENDLESS_HEADER(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")


class PolicyServer:
    def __init__(self, address, authority, port=443):
        self.authority = authority
        self.answer = {}
        self.asked = {}
        self.contexts = {}
        self.lock = threading.Lock()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._choose
        self.socket = socket.create_server((address, port), reuse_port=False)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def stop(self):
        """From here on connections are refused."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def policy(self, domain, mode, *mx, max_age=86400, eol="\r\n"):
        lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {m}" for m in mx), f"max_age: {max_age}", ""]
        self.answer[domain] = reply(eol.join(lines))

    def certificate(self, domain, authority, *names):
        """Another one than its own."""
        self.contexts["mta-sts." + domain] = authority.issue(*names)[0]

    def _choose(self, connection, name, context):
        with self.lock:
            if name and name not in self.contexts:
                self.contexts[name] = self.authority.issue(name)[0]
        if name:
            connection.context = self.contexts[name]

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain):
        try:
            with plain, self.context.wrap_socket(plain, server_side=True) as connection:
                connection.settimeout(120)
                request = b""
                while b"\r\n\r\n" not in request:
                    more = connection.recv(4096)
                    if not more:
                        return
                    request += more
                lines = request.decode("latin-1").split("\r\n")
                host = next(line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("host:"))
                domain = host.removeprefix("mta-sts.")
                with self.lock:
                    self.asked[domain] = self.asked.get(domain, 0) + 1
                answer = self.answer.get(domain, reply("no such thing", "404 Not Found"))
                if lines[0] != "GET /.well-known/mta-sts.txt HTTP/1.1":
                    answer = reply("not that", "400 Bad Request")
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)
        except OSError:
            pass
