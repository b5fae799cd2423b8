"""First inputs for the fuzz targets of what is read back from a disk or from another process: small valid ones, and each
with one thing in it changed."""
from struct import pack

PAGE = 4096
NOWHERE = 2 ** 64 - 1


def patched(whole, *changes):
    """The bytes with (offset, bytes) changed."""
    out = bytearray(whole)
    for at, data in changes:
        out[at:at + len(data)] = data
    return bytes(out)


# ---- LMDB: see src/journal/index_check.c ----

def table(depth, branches, leaves, overflows, entries, root, first=0, flags=0):
    return pack("<IHHQQQQQ", first, flags, depth, branches, leaves, overflows, entries, root)


def meta(number, transaction, free, main, last):
    return (pack("<QHHHH", number, 0, 8, 0, 0) + pack("<IIQQ", 0xBEEFC0DE, 1, 0, 1 << 20) + free + main +
            pack("<QQ", last, transaction)).ljust(PAGE, b"\0")


def page(number, flags, nodes):
    at, offsets, body = PAGE, b"", b""
    for node in nodes:
        node += bytes(len(node) & 1)
        at -= len(node)
        offsets += pack("<H", at)
        body = node + body
    head = pack("<QHHHH", number, 0, flags, 16 + 2 * len(nodes), at) + offsets
    return head + bytes(at - len(head)) + body


def leaf_node(key, data, flags=0, length=None):
    length = len(data) if length is None else length
    return pack("<HHHH", length & 0xffff, length >> 16, flags, len(key)) + key + data


def branch_node(key, below):
    return pack("<IHH", below, 0, len(key)) + key


def leaf(number, *items):
    return page(number, 2, [leaf_node(*item) for item in items])


def branch(number, *items):
    return page(number, 1, [branch_node(*item) for item in items])


def index(main=None, free=None, leaves=None, pages=(), tables=None, freed=pack("<QQ", 1, 10), free_key=pack("<Q", 3)):
    """Two tables, of a branch with two leaves, and of a leaf with a value on two pages of its own; and a free page."""
    free = free or dict(depth=1, branches=0, leaves=1, overflows=0, entries=1, root=9)
    main = main or dict(depth=1, branches=0, leaves=1, overflows=0, entries=2, root=2)
    tables = tables or [(b"a", table(2, 1, 2, 0, 4, 3), 2), (b"b", table(1, 0, 1, 2, 2, 6), 2)]
    all_pages = {
        2: leaf(2, *tables),
        3: branch(3, (b"", 4), (b"m", 5)),
        4: leaf(4, (b"c", b"1"), (b"d", b"22")),
        5: leaf(5, (b"m", b"333"), (b"n", b"")),
        6: leaf(6, (b"k", pack("<Q", 7), 1, 5000), (b"l", b"x")),
        7: pack("<QHHI", 7, 0, 4, 2).ljust(16, b"\0") + b"v" * 5000,
        8: None,
        9: leaf(9, (free_key, freed)),
        10: bytes(PAGE),
    }
    all_pages.update(pages)
    tables_of = (table(first=PAGE, flags=8, **free), table(**main))
    out = meta(0, 1, *tables_of, 10) + meta(1, 2, *tables_of, 10)
    for number in range(2, 11):
        if all_pages[number] is not None:
            out += all_pages[number]
        if len(out) < (number + 1) * PAGE:
            out = out.ljust((number + 1) * PAGE, b"\0")
    return out


def indexes():
    whole = index()
    small = dict(depth=0, branches=0, leaves=0, overflows=0, entries=0, root=NOWHERE)
    word, half = (lambda at, n: (at, pack("<I", n))), (lambda at, n: (at, pack("<H", n)))
    both = lambda *changes: patched(whole, *[(at + p, data) for at, data in changes for p in (0, PAGE)])  # noqa: E731
    found = [
        whole, b"", whole[:100], whole[:PAGE], whole[:PAGE * 2], whole[:-PAGE],
        (meta(0, 1, table(0, 0, 0, 0, 0, NOWHERE, PAGE, 8), table(**small), 1) * 2)[:PAGE] +
        meta(1, 2, table(0, 0, 0, 0, 0, NOWHERE, PAGE, 8), table(**small), 1),
        both(word(16, 5)), both(word(20, 2)), both(word(40, 8192)), both(half(44, 0x4008)), both(half(44, 4)), both(half(92, 4)),
        both((136, pack("<Q", 11))), both((136, pack("<Q", 1 << 50))), patched(whole, (144, pack("<Q", 9)), (88 + 40, pack("<Q", 3))),
        index(main=dict(small, entries=3)), index(main=dict(small, root=2, entries=2)), index(main=dict(small, depth=17, root=2)),
        index(main=dict(depth=1, branches=0, leaves=1, overflows=0, entries=3, root=2)),
        index(main=dict(depth=1, branches=0, leaves=1, overflows=0, entries=2, root=1)),
        index(main=dict(depth=1, branches=0, leaves=1, overflows=0, entries=2, root=11)),
        index(main=dict(depth=2, branches=0, leaves=1, overflows=0, entries=2, root=2)),
        index(tables=[(b"a", table(2, 1, 2, 0, 4, 3), 0)]), index(tables=[(b"a", b"short", 2)]),
        index(tables=[(b"a", table(2, 1, 2, 0, 4, 3), 6)]),
        index(tables=[(b"b", table(2, 1, 2, 0, 4, 3), 2), (b"a", table(1, 0, 1, 2, 2, 6), 2)]),
        index(tables=[(b"a", table(2, 1, 2, 0, 4, 3), 2), (b"b", table(2, 1, 2, 0, 4, 3), 2)]),
        index(tables=[(b"a", table(1, 1, 2, 0, 4, 3), 2), (b"b", table(1, 0, 1, 2, 2, 6), 2)]),
        index(tables=[(b"a", table(2, 1, 3, 0, 4, 3), 2), (b"b", table(1, 0, 1, 2, 2, 6), 2)]),
        index(pages={3: branch(3, (b"", 4))}), index(pages={3: branch(3, (b"", 4), (b"m", 4))}),
        index(pages={3: branch(3, (b"", 4), (b"m", 99))}), index(pages={3: branch(3, (b"", 4), (b"z", 5))}),
        index(pages={3: branch(3, (b"", 4), (b"m", 5), (b"k", 10))}), index(pages={3: branch(3, (b"", 4), (b"b", 5))}),
        index(pages={4: leaf(4, (b"d", b"1"), (b"c", b"22"))}), index(pages={4: leaf(4, (b"c", b"X"))}),
        index(pages={5: leaf(5, (b"a", b"1"), (b"n", b"22"))}), index(pages={6: leaf(6, (b"k", b"12345678", 1, 5000), (b"l", b"x"))}),
        index(pages={6: leaf(6, (b"k", pack("<Q", 7), 1, 65 << 20), (b"l", b"x"))}),
        index(pages={6: leaf(6, (b"k", pack("<Q", 7), 1, 9000), (b"l", b"x"))}),
        index(pages={7: pack("<QHHI", 7, 0, 4, 3).ljust(PAGE, b"\0")}), index(pages={7: pack("<QHHI", 7, 0, 2, 2).ljust(PAGE, b"\0")}),
        index(freed=pack("<QQ", 2, 10)), index(freed=b"\0"), index(freed=pack("<QQQ", 2, 10, 10)), index(freed=pack("<QQ", 1, 9)),
        index(freed=pack("<QQ", 1, 1 << 60)), index(free_key=b"1234"),
    ]
    for at, number in ((10, 1), (12, 15), (12, 16), (12, 4097), (14, 17), (14, 4100), (16, 10), (16, 4095), (18, 4094)):
        found.append(patched(whole, half(4 * PAGE + at, number)))
    four = whole.index(leaf_node(b"c", b"1"), 4 * PAGE)
    for at, number in ((0, 60000), (2, 1), (4, 4), (4, 1), (6, 9), (6, 5000)):
        found.append(patched(whole, half(four + at, number)))
    return [b"\0" + data for data in found] + [b"\1" + whole]


# ---- segments of the journal: see src/journal/record.c ----

CASTAGNOLI = [0] * 256
for _i in range(256):
    _c = _i
    for _ in range(8):
        _c = _c >> 1 ^ (0x82F63B78 if _c & 1 else 0)
    CASTAGNOLI[_i] = _c


def crc32c(crc, data):
    crc ^= 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ CASTAGNOLI[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


SALT = 7


def segment_header(version, first_lsn=9, crc=0):
    if version == 1:
        head = pack("<IIQQI", 0x4a525450, 1, SALT, first_lsn, crc)
    else:
        head = pack("<IIQQIIQQ", 0x4a525450, version, SALT, first_lsn, crc, 0, 3, 5)
    return (head + pack("<I", crc32c(0, head))).ljust(PAGE, b"\0")


def record(version, crc, lsn, batch, payload, kind=1):
    if version == 1:
        head = pack("<IIQI", 0x52525450, len(payload), lsn, kind)
        now = crc32c(crc32c(crc32c(crc, pack("<Q", SALT)), head), payload)
    else:
        head = pack("<IIQIIQ", 0x53525450, len(payload), lsn, kind, crc, batch)
        now = crc32c(crc32c(crc32c(0, pack("<Q", SALT)), head), payload)
    return head + pack("<I", now) + payload, now


COMMIT = pack("<I", 2) + b"\0\1\0\3\0\0\0kval" + b"\1\2\0\0\0\0\0kk" + b"extra"


def segment(version, batches=((b"one", COMMIT), (b"three",)), gap=False):
    out, crc, lsn = segment_header(version), 0, 9
    for number, batch in enumerate(batches):
        first = lsn
        for payload in batch:
            data, crc = record(version, crc, lsn, first, payload)
            if not (gap and number == 0):
                out += data
            lsn += 1
        out = out.ljust(-len(out) % PAGE + len(out), b"\0")
    return out


def segments():
    whole, old = segment(2), segment(1)
    newer = bytearray(segment_header(2))
    newer[4] = 3
    return [whole, old, whole[:-PAGE + 10], segment(2, gap=True), segment(1, gap=True), segment_header(2, 0), segment_header(3), bytes(newer) + bytes(9),
            segment_header(3)[:4] + pack("<I", 3) + bytes(40) + b"\1" * 500, segment_header(200), bytes(PAGE * 2), bytes(PAGE) + whole[PAGE:],
            whole[:60], patched(whole, (9, b"!")), patched(whole, (PAGE + 40, b"!")), patched(whole, (PAGE * 2 + 5, b"\xff\xff")),
            whole[:PAGE] + bytes(100) + whole[PAGE:], patched(whole, (PAGE + 8, b"\1")),
            segment(2, ((b"a", b"b", b"PTRS" * 30), (COMMIT, COMMIT), (b"",)))] + [b"\1" + c for c in (COMMIT, COMMIT[:9], b"\1\0\0\0\2", b"\1\0\0\0\0\0\0")]


# ---- what the queue keeps: see src/queue/{message,part,contents}.c ----

QUEUE_ID = b"4W9bcd1234zBCD"


def text(data):
    return pack("<I", len(data)) + data


def recipient(number, address, account=0, why=b""):
    return pack("<I", number) + text(address) + text(address.upper()) + text(b"rfc822;" + address) + pack("<IQI", 6, account, 2) + text(why[:5]) + text(why)


def envelope(step, recipients=(), body=b"", blob=0, prefix=b"Received: x\n"):
    """Of the fields that came later, those of so many steps."""
    out = b"".join(text(t) for t in (QUEUE_ID, b"0123456789abcdef", b"ann@example.test", b"ann", b"c[192.0.2.1]", b"envid"))
    out += pack("<BBQI", 1, 1, 1700000000, len(recipients)) + b"".join(recipients) + text(prefix) + text(body)
    out += pack("<QBQB", blob, 0, 77, 0) + text(b"summary")
    if step >= 1:
        out += pack("<Q", 1700000600) + text(b"for;600") + pack("<QB", 1700009999, 1)
    if step >= 2:
        out += text(b"+=") + b"\2"
    return out


def told(address):
    return text(address) + text(b"") + b"\3\0" + b"".join(text(t) for t in (b"5.1.1", b"no", b"mx.test", b"550 no")) + pack("<Q", 1700000001)


def part(destination, recipients=(), reports=()):
    return (pack("<QIBB", 1700000100, 3, 1, 1) + text(destination) + pack("<I", len(recipients)) + b"".join(recipients) +
            pack("<I", len(reports)) + b"".join(reports))


def contents(blob, body, name=QUEUE_ID, size=None):
    return pack("<QQ", blob, len(body) if size is None else size) + text(name) + text(b"\0" * 8 + envelope(0)) + text(b"" if blob else body)


def queue_values():
    rcpts = [recipient(0, b"bob@b.test"), recipient(1, b"eve@c.test", 5, b"4.4.1 later")]
    found = [bytes([step]) + pack(">Q", 1700000000)[1:] + envelope(step, rcpts[:n], b"body", n) for step in range(3) for n in range(3)]
    found += [bytes([2 + step]) + pack("<II", 2, 3) + envelope(step, rcpts[:n]) for step in range(3) for n in (0, 2)]
    found += [b"\3" + bytes(8), b"\0" * 7, b"\5" + bytes(8), b"\0" * 8]
    found += [part(b"b.test", rcpts), part(b"local", rcpts[1:], [told(b"x@y.test")]), part(b"d" * 256), part(b"a\0b"), part(b"")]
    found += [b"R" + QUEUE_ID + b"\0" + pack(">I", n) for n in (0, 5, 0x80000001, 0xffffffff)] + [b"R\0\0\0\0\0", b"R" + QUEUE_ID + b"0000"]
    found += [b"S" + d + b"\0" + bytes([n]) + pack(">Q", 1700000000) + QUEUE_ID + b"\0\0\0\0\7" for n in range(4) for d in (b"b.test", b"", b"d" * 256)]
    found += [contents(0, b"hello"), contents(9, b"", size=70000), contents(NOWHERE, b""), contents(0, b"x", b"not-an-id"), contents(0, b"x", size=5),
              contents(0, b"one") + contents(7, b"", b"AB") + contents(NOWHERE, b"", b"AB")]
    return found + [QUEUE_ID, b"4W9bcd1234yBCD", b"0123456789z!!!", b"x" * 32]


# ---- file operations: see src/store/engine_local_record.c ----

def operation(kind, bits=0, blob=0, size=0, body=0, strings=(b"a/alice", b"Sent", b"1.2.host", b"FS", b"", b"To", b"3.4.host", b"Delivered-To: x\n")):
    return pack("<BBQQQQI", kind, bits, 5, blob, size, 1700000000, body) + b"".join(text(s) for s in strings)


def file_records():
    def of(bodies, operations):
        return pack("<I", len(bodies)) + b"".join(text(b) for b in bodies) + pack("<I", len(operations)) + b"".join(operations)

    found = [of([b"one", b"two"], [operation(kind, kind % 8, body=kind % 3 if kind == 1 else 0) for kind in range(1, 11)])]
    found += [of([], [operation(1, 1, blob=3, size=70000)]), of([b"x"], [operation(1, body=1), operation(1, 7, body=1)]), of([], []), of([b"x"], [operation(2, body=1)])]
    found += [of([b"x"], [operation(1, body=2)]), of([], [operation(0)]), of([], [operation(11)]), of([], [operation(1, body=1 << 31)]), b"", b"1234"]
    return found + [found[0][:n] for n in (6, 10, 20, 60, 100)] + [pack("<I", 1) + text(b"abc") + b"\0\0"]


# ---- frames: see src/engine/rpc_wire.h ----

def frame(body, kind=3, fds=0, number=1):
    return pack("<IHHQ", len(body), kind, fds, number) + body


def frames():
    """As test/fuzz/engine_rpc.c reads them: leaf {u32, bytes, fd}; branch {u8, list, one}; tree {u16, u64, list, bytes, list}."""
    def leaf_of(name, fd=0):
        return pack("<I", 7) + text(name) + bytes([fd])

    def branch_of(*leaves):
        return b"\1" + pack("<I", len(leaves)) + b"".join(leaves) + leaf_of(b"first")

    def tree_of(branches, texts):
        return pack("<HQI", 1, 2, len(branches)) + b"".join(branches) + text(b"text") + pack("<I", len(texts)) + b"".join(texts)

    small = tree_of([branch_of(leaf_of(b"x"), leaf_of(b""))], [leaf_of(b"t")])
    trees = [tree_of([], []), small, tree_of([], [leaf_of(b"f", 1)]), tree_of([branch_of(leaf_of(b"f", 1))], [leaf_of(b"g", 1)]), tree_of([], [leaf_of(b"y" * 40000)])]
    found = [bytes([n]) + tree for tree in trees for n in range(5)]
    found += [bytes([piece]) + frame(tree) for tree in trees for piece in (0, 15, 255)]
    found += [b"\xff" + frame(small) * 3 + frame(trees[4]) + frame(b"") + frame(small), b"\xff" + frame(small, fds=1), b"\xff" + frame(small, fds=9),
              b"\xff" + pack("<IHHQ", 1 << 31, 1, 0, 1), b"\xff" + (frame(b"z" * 30000) + frame(small)) * 4, b"\x40" + frame(small)[:-1]]
    return found
