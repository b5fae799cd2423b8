"""First inputs for the fuzz targets, made of what other tests already say: the transcripts of test/wire, the broken
messages of test/unit/msg/corpus, the example configuration. A target without an entry starts from its kept corpus."""
import glob
import hashlib
import itertools
import os
import re

import seeds_binary

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def unescape(text):
    def one(m):
        return bytes([int(m[1][1:], 16)]).decode("latin-1") if m[1][0] == "x" else ESCAPES[m[1]].decode("latin-1")
    return re.sub(r"\\(x[0-9a-fA-F]{2}|[rnt0\\])", one, text).encode("latin-1")


def said(path):
    """What the client of a transcript says, line by line."""
    for line in open(path, encoding="utf-8", errors="surrogateescape"):
        m = re.match(r"(C[12]?[:+]|C>|R:|C\*) ?(.*)\n?$", line)
        if not m:
            continue
        kind, text = m[1], m[2]
        if kind == "C>":
            yield unescape(text)
        elif kind in ("R:", "C*"):
            count, _, text = text.partition(" ")
            yield (text.encode("utf-8", "surrogateescape") + b"\r\n") * min(int(count), 3)
        else:
            yield text.encode("utf-8", "surrogateescape") + b"\r\n"


def transcripts(protocol):
    return [list(said(p)) for p in sorted(glob.glob(f"{ROOT}/test/wire/{protocol}/*.txt"))]


def messages():
    paths = sorted(glob.glob(f"{ROOT}/test/unit/msg/corpus/*.eml"))
    return [open(p, "rb").read() for p in paths] + [RICH]


RICH = b"""Return-Path: <a@example.test>\r
Received: from x (y [192.0.2.1]) by mx; Sun, 22 Nov 2026 10:00:00 +0100 (CET)\r
From: "Ann, B." <ann@example.test>, =?iso-8859-1?Q?J=F6rg?= <j@xn--bcher-kva.test>\r
To: Friends: a@b.test, "q\\"x" <@route,@r2:c@d.test>;, e@[192.0.2.1], f@[IPv6:2001:db8::1]\r
Cc: old (comment (nested \\) one)) . name @ host . test\r
Subject: =?UTF-8?B?w6TDtg==?= =?utf-8?q?_two?= =?koi8-r?Q?=C1?= plain\r
Date: 22 Nov 26 10:00 EST\r
Message-ID: <1@example.test>\r
In-Reply-To: <0@example.test>\r
References: <0@example.test> <00@example.test>\r
MIME-Version: 1.0 (comment)\r
Content-Language: de, en (x)\r
Content-Location: http://example.test/\r
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r
Content-Type: multipart/mixed; boundary="b 1"; x*0*=utf-8'en'%C3%A4; x*1="more"; x*2*=%41\r
\r
preamble\r
--b 1\r
Content-Type: text/plain; charset=utf-8; format=flowed\r
Content-Transfer-Encoding: quoted-printable\r
Content-Disposition: inline; filename*=iso-8859-1''na%EFve.txt\r
Content-ID: <part1@example.test>\r
Content-Description: =?us-ascii?q?first?=\r
\r
caf=C3=A9 soft=\r
 break =3D =zz\r
--b 1\r
Content-Type: text/html; charset=windows-1252\r
Content-Transfer-Encoding: base64\r
\r
PGh0bWw+PHN0eWxlPng8L3N0eWxlPjxwPkhpICZhbXA7ICYjMTIzOyAmbmJzcDs8L3A+PC9odG1sPg==\r
--b 1\r
Content-Type: message/rfc822\r
\r
Subject: inner\r
Content-Type: multipart/digest; boundary=d\r
\r
--d\r
\r
Subject: digest entry\r
\r
x\r
--d--\r
--b 1\r
Content-Type: message/delivery-status\r
\r
Final-Recipient: rfc822; x@y.test\r
--b 1--\r
epilogue\r
"""

ADDRESSES = [b"<a@b.test>", b"<@x.test,@y.test:a@b.test> SIZE=1", b'<"a b"@c.test>', b"<a@[192.0.2.1]>", b"<a@[IPv6:::1]>", b"<>",
             b"a@b.test rest", b"<Postmaster>", "<ä@bücher.test>".encode(), b"<a.b+c@d.test>", b"<xn--bcher-kva.test>",
             b"Ann <a@b.test>, (c) b@c.test, G: x@y, z@w;, \"q\" <q@r>, =?utf-8?q?=C3=A4?= <e@f>", b"a@b . c . d", b"<a@b.>"]
DATES = [b"Sun, 22 Nov 2026 10:00:00 +0100", b"22 Nov 26 10:00 EST", b"Mon, 1 Jan 1 00:00:60 -0000 (x (y))", b"22-Nov-2026",
         b" 1-Jan-1970 00:00:00 +0000", b"Nov 22 10:00:00 2026", b"2026-11-22T10:00:00Z", b"22 Nov 126 1:2:3 Z",
         b"Sunday, 22-Nov-99 10:00:00 GMT", b"Sun Nov 22 10:00:00 2026"]
MAIL_ARGS = [b"MAIL FROM:<a@b.test> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By AUTH=<>", b"MAIL FROM: <> RET=FULL",
             b"RCPT TO:<a@b.test> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+2Bb@c.test", b"RCPT TO:<a@b> NOTIFY=NEVER",
             b"RCPT TO:<a@b> ORCPT=utf-8;a\\x{E4}@b", b"BDAT 86 LAST", b"BDAT 0", b"BDAT 99999999999999999999", b"EHLO [192.0.2.1]",
             b"MAIL FROM:<a@b> BODY=BINARYMIME SIZE=99999999999999999999 FOO=bar =x AUTH=a+40b", b"VRFY a@b", b"MAIL FROM:a@b.test",
             b"RCPT TO:<\"a\\\"b\"@c.test>", b"HELO x", b"NOOP\n", b"XCLIENT ADDR=1.2.3.4"]
SEARCHES = [b"ALL", b"RETURN (MIN MAX COUNT ALL SAVE) CHARSET UTF-8 OR FROM x NOT TO \"y\"", b"UID 1:*,5 SEEN UNSEEN DELETED KEYWORD k UNKEYWORD k",
            b"SINCE 1-Jan-2020 BEFORE \"2-Feb-2021\" ON 3-Mar-2022 SENTSINCE 1-Jan-2020 SENTBEFORE 1-Jan-2030 SENTON 1-Jan-2020",
            b"LARGER 1 SMALLER 1000000 (NEW OLD RECENT) HEADER X-A \"\" HEADER Subject a BODY e TEXT x CC c BCC b", b"MODSEQ \"/flags/\\\\Seen\" all 5 MODSEQ 1",
            b"SUBJECT {3+}\r\nabc", b"ANSWERED DRAFT FLAGGED UNANSWERED UNDRAFT UNFLAGGED UNDELETED $ 1:5", b"YOUNGER 5 OLDER 3", b"CHARSET KOI8-R ALL"]
PROXY = [b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"PROXY TCP6 ::1 2001:db8::2 1 65535\r\nEHLO", b"PROXY UNKNOWN ffff\r\n",
         b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x19\0\x1a", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
         b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + bytes(36), b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f" + bytes(15)]
MAILDIR = [b"1700000000.M1P2.host,S=100,W=110:2,FRS", b"1.2.3:1,x", b".Sent", b".A.B&AOQ-.C", b"INBOX/Sub/Deep", b"Sent Items", b"a&-b", ".ä😀/x".encode(), b".&2D3eAA-", b".&2D0-", b".&3gA-", b"INBOX", b"a//b", b"",
          
           b"postrider-uidlist 1 1700000000 2001\n", b"+ 1 a b\n"]
LARGE = [b"X: " + b"a" * 300 + b"\r\n", b"X: a\r\n" * 30, (b"X: " + b"a" * 150 + b"\r\n") * 15, b"\r\n" + b"x" * 21000,
         b"Received: a\r\n b\r\nMessage-ID:\r\n <x@y>\r\nBcc: a\r\n b\r\nDelivered-To: x\r\nReturn-Path: y\r\n\r\n.x\r\n..\r\ny"]
CHARSETS = [b"utf-8", b"us-ascii", b"utf-7", b"iso-8859-1", b"koi8-r", b"windows-1252", b"UTF-16", b"utf-16le", b"utf-16be", b"gb18030", b"big5",
            b"shift_jis", b"euc-jp", b"iso-2022-jp", b"euc-kr", b"unknown"]
OTHERS = [b"3 V1275660208 N25022 G30\n25006 W3 S2 :a.host:2,S\n25017 :b.host\n", b"1 12 40\n3 a.b\n9 c.d:2,F\n",
          b"V\t2\n\nWork\t2024\nINBOX.Sent\nTrash\n"]
UIDLIST = b"""V 1700000000 3
R 2 1 Sent%20Items
N 2001 77
K 0 $Forwarded
K 1 work%25
+ 1 10 1700000000 40 0 3 1700000000.M1P2.host,S=100
+ 2 11 1700000001 0 1 0 b%20c
+ 3 12 1700000002 0 0 0 d
k 1 2
- 2
? x
"""
SASL = [bytes([0]) + b"\0alice@example.test\0wrong", bytes([0]) + b"t\0t\0x", bytes([0]) + b"\0alice@example.test\0a password that no fuzzer guesses",
        bytes([0]) + b"bob\0alice@example.test\0a password that no fuzzer guesses", bytes([17]) + b"alice\nwrong",
        bytes([1]) + b"alice\na password that no fuzzer guesses"] + [bytes([b]) + b"1\n2\n\n" for b in (34, 98, 38, 39, 103, 111, 102)] + [
        bytes([2]) + b"n,,n=alice,r=x\nc=biws,r=x,p=eA==", bytes([2]) + b"p=tls-unique,,n=a,r=x", bytes([6]) + b"y,,n=a,r=x", bytes([2]) + b"n,a=b,n=talice,r=x",
        bytes([98]) + b"1\n2\nx", bytes([2]) + b"\n", bytes([99]) + b"1", bytes([2]) + b"n,,n=nobody,r=x\n2"]
IMAP_MORE = [b"s SEARCH %s\r\n" % s for s in SEARCHES] + [
    b"a STORE 1 +FLAGS (k \\Seen)\r\nb SEARCH KEYWORD k\r\nc UID SEARCH UNKEYWORD K\r\nd FETCH 2:1,1,2:* (FLAGS BODY[1] BODY[2.HEADER])\r\n",
    b"a SEARCH BODY text HEADER Content-Type mixed TEXT inner SUBJECT ONE\r\nb SEARCH BEFORE 1-Jan-2030 SMALLER 9999 LARGER 1 TO x BCC y\r\n",
    b"a FETCH 9:* UID\r\nb UID FETCH 9:* (FLAGS MODSEQ)\r\nc COPY 2,1,2 Copy\r\nd CREATE Copy\r\ne UID MOVE 1,2,1:2 Copy\r\nf UID EXPUNGE 1:*\r\n",
    b"a AUTHENTICATE PLAIN AGFsaWNlAHB3\r\nb LOGIN {5+}\r\nalice pw\r\nc IDLE\r\nDONE\r\nd UNSELECT\r\ne CLOSE\r\nf CHECK\r\n"]
MAIN_CF = [b"mydomain=$myhostname\n# c\nmyhostname = mx.test\n mydestination\n   = a, b\n", b"x = ${mydomain?{a}:{b}}${y:c}$(z)$$\n",
           b"smtpd_banner = ${{1} > {2} ? {a} : {b}}\nmessage_size_limit = 10\nmaximal_queue_lifetime = 5d\n", b"mynetworks = 127.0.0.0/8 [::1]/128\n",
           b"myhostname = $mydomain\nmydomain = $myhostname\n", b"smtpd_tls_security_level = may\nsmtpd_delay_reject = maybe\n", b"=x\n\0\n", b"a\n b\n"]
MASTER_CF = [b"smtp inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n  -o { x = a b }\n", b"127.0.0.1:25 inet n - n - 5 smtpd -v\nlmtp unix - - y - - lmtp\n",
             b"# c\npickup fifo n - n 60 1 pickup\nuucp unix - n n - - pipe flags=F user=uucp argv=uux -r -n\n", b"x y z\n", b"[::1]:143 inet n - n - - imapd\n"]


# As test/fuzz/relay_mx.c reads them: status (0 of 5: answered; 0x80: secure), how many more records, the records.
MX_ANSWERS = [b"\x82\2\0\12\4a.x.\0\12\4b.x.\0\24\4c.x.", b"\0\0\0\0\0", b"\1", b"\2", b"\3", b"\4", b"\x3f",
              b"\0\1\0\1\x091.2.3.4.5\0\2\1x", b"\0\x63" + b"".join(b"\0%c\3h%02d" % (n % 7, n) for n in range(100))]
ADDRESS_ANSWERS = [b"", b"\4\4", (b"\x82\0\xc0\0\2\1" + b"\x82\0" + b"\x20\1\x0d\xb8" + bytes(11) + b"\1") * 3,
                   (b"\0\1\xc0\0\2\2\x7f\0\0\1" + b"\1") * 4, b"\x43\x43" * 60, (b"\0\0\xc6\x33\x64\1" + b"\0\0" + bytes(16)) * 2,
                   b"\0\7" + b"".join(b"\xc0\0\2%c" % n for n in range(8)) + b"\0\1" + (b"\x20\1\x0d\xb8" + bytes(12)) * 2]


def imap_arguments():
    """The arguments of every command in the transcripts, with the command that took them."""
    for lines in transcripts("imap"):
        for line in lines:
            words = line.split(b" ", 2)
            if len(words) == 3:
                yield words[2].rstrip(b"\r\n")


# As test/fuzz/directory_table.c reads them: the type, the key, the table. Good ones and all that is wrong with one.
TEXT_TABLES = [b"# c\nKey one\n two\n\"a b\"@c d\ndup 1\nDUP 2\nalone\n", b" begins with a blank\nkey \"quoted\n\"no partner\n", b"aab: x\nkey\\ y z\nkey\0 w\nkey v\n",
               b"".join(b"k%d v\n" % n for n in range(120)), b"\n#\n \nkey\n"]
ALIASES = [b"root: a, b\n\"x y\" : z\nl: :include:/x\n\tm\n", b"key: \"a , b\" ,c  d, e\\ f\n\\k\\ey: x\nempty:\n:none\nno colon\n", b"\"open: x\n", b"a # b\nKEY:z\n"]
REGEXPS = [b"/^(.*)@x$/ $1\nif !/a/\n/b/!/c/i $$\nendif\n", b"/(a)(b)/ ${2}-$(1)$$\n", b"/a/ $\n", b"/a/ ${1\n", b"/a/ $1\n", b"!/(a)/ $1\n", b"if /a/\n",
           b"endif\n", b"if /a/ text\nendif\n", b"if /a/\nendif extra\n", b"/a/\n", b"/a/q x\n", b"/(/ x\n", b"/a/imx x\n/[/x y\n", b"a x\n", b"/a x\n", b"/\\/a/ x\n",
           b"/k/!/z/ yes\n", b"/k/!/e/ no\n/./!!/z/ x\n", b"/k/!/(/ x\n", b"/k/!a x\n", b"/(k)|(z)/ [$2$1]\n", b"if /q/\nif /k/\n/./ in\nendif\nendif\n/./ out\n",
           b"if !/q/\nif /k/\n/./ in\nendif\nendif\n", b"/(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)/ $11\n"]
PCRES = [b"/^(a+)(?=b)/x ${1}\n!/q/ z\nif /a/\n|c| d\nendif\n", b"/(?<n>k)/ $n\n", b"/(k/ x\n", b"/K/i x\n", b"/k/imsxAEDUX x\n", b"/k/q x\n", b"/\xff/ x\n", b"/(k)(z)?/ $1$2\n",
         b"/^(a+)+$/ x\n", b"~k~ x\n"]
CIDRS = [b"10.0.0.0/8 ten\n!192.168.0.0/16 x\nif 2001:db8::/32\n::1 y\nendif\n", b"10.0.0.0/8\n", b"10.0.0.1/8 x\n", b"x y\n", b"10.1.1.1 a\n", b"!10.0.0.0/8 a\n::/0 b\n0.0.0.0/0 c\n",
         b"::ffff:0:0/96 x\n"]
NAMES = [b"unionmap:{static:a, inline:{ a=b, {c = d e} }, pipemap:{pcre:{{/(.)/ $1}}, hash:/f}}", b"static:x", b"static:{ a b }", b"static:{ a", b"fail:x", b"unionmap:{fail:x}",
         b"unionmap:{static:a,static:b}", b"unionmap:{inline:{key=1},inline:{z=2},static:c}", b"pipemap:{inline:{key=k2},inline:{k2=v}}", b"pipemap:{inline:{key=k2},fail:y}",
         b"pipemap:{}", b"pipemap:x", b"pipemap:{nothing}", b"pipemap:{static:a", b"pipemap:{ {static:a }, {}x }", b"unionmap:{ {a}b }", b"unionmap:{ {static:a }, {static:b} }",
         b"randmap:{a,b,{c d}}", b"randmap:{}", b"randmap:a", b"randmap:{ {a }", b"randmap:{ {a}b }", b"inline:{}", b"inline:{a}", b"inline:{ {a=b}c }", b"inline:{ =b }", b"inline:x",
         b"inline:{ KEY=V, {Key = w, x} }", b"proxy:static:x", b"proxy:proxy:hash:/f", b"nothing", b":x", b"hash:", b"mysql:/f", b"ldap:/f", b"what:/f", b"regexp:{ {/k/ x}, {/a/ y} }",
         b"pcre:{ /k/ x }", b"pcre:{ {/k/ x}, y", b"cidr:{ {10.0.0.0/8 x} }", b"regexp:{ x }", b"unix:passwd.byname\nkey:x:1\nroot:x:0:0\n:y\nz\n", b"unix:group.byname\nkey:x:1\nkey:y\n",
         b"unix:other", b"lmdb:/f\nkey v\n", b"texthash:/f\nkey v\n", b"unionmap:{" * 10 + b"static:a" + b"}" * 10, b"sqlite:/f\nquery = x\ndbpath = /d\n", b"sqlite:/f\nx\n"]
SEALED = [b"", b"\2\0\0\0\3\0\0\0\0\0\0\0/aa b", b"\2\0\0\0\0\0\0\0\0\0\0\0/a\2\0\0\0\1\0\0\0\0\0\0\0/bx", b"\1", b"\xff\xff\0\0" + bytes(8) + b"a",
          b"\1\0\0\0" + b"\xff" * 8 + b"a", b"\2\0\0\0" + bytes(8) + b"a"]


def tables():
    of_type = [TEXT_TABLES, ALIASES, REGEXPS, PCRES, CIDRS, NAMES]
    keys = [b"key", b"a@x", b"10.1.1.1", b"aab", b"::1", b"[10.1.1.1]"]
    found = [bytes([n]) + key + b"\n" + body for n, bodies in enumerate(of_type) for key in keys for body in bodies]
    found += [bytes([0x80 + n]) + b"Key\n" + body for n, bodies in enumerate(of_type) for body in bodies]
    return found + [bytes([n]) + body for n in (6, 7) for body in SEALED]


# What bounce.cf may hold, and all that may be wrong with it.
TEMPLATE_HEADS = [b"failure_template = <<EOF\n", b"delay_template=<<EOF\n", b"success_template = << EOF\r\n", b"verify_template = <<EOF\n"]
TEMPLATE_BODIES = [b"From: a (B C)\nSubject: z\n\ntext\n", b"Charset: iso-8859-1\nSubject: z\xfc\n\nt\xfc $myhostname $$ ${delay_warning_time_hours}\n",
                   b"Charset: utf-8\nFrom: \"J\xc3\xb6rg, x\" <a@b>\n\n$mydomain $maximal_queue_lifetime_days $delay_warning_time_weeks\n", b"Postmaster-Subject: p\n\nt\n",
                   b"Charset: utf-8\n\n\xff\n", b"Charset: us-ascii\n\n\xfc\n", b"Charset: utf-16\n\nt\n", b"Charset: koi8 r\n\nt\n", b"Charset: x-none\nSubject: \xfc\n\nt\n",
                   b"Charset: utf-8\nCharset: utf-8\n\nt\n", b"Subject:\n\nt\n", b"To: x\n\nt\n", b"Subject: x\n", b"", b"\n\n \n", b"Dear reader: text\n", b"\nnul \0\n",
                   b"\n$nothing\n", b"\n${open\n", b"\n$mydestination ${mydomain?{a}:{b}}\n", b"Subject: nul \0 x\n\nt\n", b"\n" + b"line\n" * 4000, b"\nEOF \nEND_OF_TEMPLATE\n"]


def templates():
    found = [head + body + b"EOF\n" for head in TEMPLATE_HEADS for body in TEMPLATE_BODIES]
    found += [b"".join(head + b"\ntext of it\nEOF\n\n# c\n" for head in TEMPLATE_HEADS), (TEMPLATE_HEADS[0] + b"\nt\nEOF\n") * 2, b"other_template = <<EOF\n\nt\nEOF\n"]
    found += [b"failure_template = <<STOP\n\nEOF\nSTOP\n", b"failure_template = <<STOP\n\nEOF\nEND_OF_TEMPLATE\nSTOP\n"]
    return found + [b"failure_template = EOF\n", b"failure_template = <<\n", b"failure_template = <<'EOF'\n", b"failure_template\n", b"failure_template = <<EOF\n\nt\n"]


# MTA-STS (RFC 8461): records, policies.
STS_RECORDS = [b"v=STSv1; id=20160831085700Z; x=y;", b"v=STSv1;id=1", b"v=STSv1", b"v=STSv1;", b"v=STSv1 ; id=1; ", b"v=STSv2; id=1", b" v=STSv1; id=1", b"v=STSv1; id=", b"v=STSv1; id=a-b", b"v=STSv1; id",
               b"v=STSv1; id=1; id=2", b"v=STSv1; id=" + b"1" * 33, b"v=STSv1; -x=y; id=1", b"v=STSv1; a_b-c.d=e; id=1", b"v=STSv1; x=a=b; id=1", b"v=STSv1; x=a b; id=1", b"v=STSv1; ;id=1",
               b"v=STSv1; " + b"n" * 33 + b"=1; id=1"]
STS_LINES = [b"mx: a.example", b"mx: *.example", b"mx: a..b", b"mx: ", b"mx: *.", "mx: *.bücher.example".encode(), b"x: y", b"no field", b"mode: other", b"max_age: 31557601", b"max_age: -1", b"max_age: 12345678901",
             b"version: STSv2", b"mode: none", b"max_age: 1", b"a\tb: c\td", b"nul: \0", b"del: \x7f", b"", b" \t"] + [b"\n".join(b"mx: h%d.example" % n for n in range(200))]


def policies():
    whole = [b"version: STSv1", b"mode: enforce", b"mx: b.example", b"max_age: 604800"]
    found = [b"\r\n".join([*whole, line]) + b"\r\n" for line in STS_LINES] + [b"\n".join([line, *whole]) for line in STS_LINES]
    found += [b"\n".join(whole[:n] + whole[n + 1:]) for n in range(4)] + [b"\n".join(whole).replace(b"enforce", mode) for mode in (b"testing", b"none")]
    return STS_RECORDS + found + [b"version: STSv1\nmode: none\nmax_age: 0\n", b"x: " + b"y" * 70000, b"a.example", b"x.example"]


# What an SMTP server may answer, whole dialogues and single replies.
SMTP_HELLO = b"220 mx.test ESMTP\r\n250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-CHUNKING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"
PLAIN_HELLO = b"220 mx.test\r\n502 5.5.1 no\r\n250 mx.test\r\n"
SMTP_TAILS = [b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n550 5.1.1 no such user\r\n354 go\r\n250 2.0.0 kept\r\n221 bye\r\n", b"250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 chunk\r\n250 done\r\n", b"451 4.3.0 later\r\n" * 6,
              b"552 5.3.4 too big\r\n" * 5, b"421 4.3.2 closing\r\n", b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 one\r\n450 4.2.2 two full\r\n", b"250 ok\r\n452 4.5.3 too many\r\n" * 3 + b"354 go\r\n250 ok\r\n", b""]
SMTP_REPLIES = [b"250-a\n250 2.1.0 b\n", b"550 5.1.1\n", b"550 4.1.1 x\n", b"550 5.1.1234 x\n", b"550 5.1234.1 x\n", b"550 5.1.1x\n", b"550\n", b"550-\n550\n", b"5500 x\n", b"150 x\n", b"650 x\n", b"550_x\n", b"x\n",
                b"354 a\tb\x01c\n", b"250-" + b"x" * 3000 + b"\n250 y\n", b"250-y\n" * 1100, (b"250-" + b"z" * 900 + b"\n") * 20 + b"250 z\n", b"250 2..1 x\n", b"250 2.1. x\n", b"250 2.1\n"]
TLS_POLICIES = [b"none", b"may", b"encrypt protocols=>=TLSv1.2 ciphers=high", b"fingerprint match=aa:bb|cc match=dd", b"verify match=hostname:nexthop tafile=/a tafile=/b", b"secure match=nexthop:.example.net servername=a.test",
                b"dane", b"dane-only connection_reuse=yes", b"secure connection_reuse=no enable_rpk=no exclude=aNULL:MD5,x+y", b"fingerprint", b"", b"other", b"may match=x", b"may tafile=/a", b"verify tafile=a", b"encrypt what",
                b"encrypt x=y", b"encrypt ciphers=", b"encrypt ciphers=other", b"encrypt ciphers=null ciphers=null", b"encrypt servername=a!b", b"encrypt exclude=a!b", b"encrypt connection_reuse=maybe", b"encrypt enable_rpk=yes",
                b"encrypt protocols=what", b"encrypt protocols=!TLSv1.3:!TLSv1.2", b"encrypt ciphers=export", b"encrypt ciphers=low", b"encrypt ciphers=medium",
                b">=TLSv1.2, <=TLSv1.3", b">=0303", b"<=0x0304", b"!SSLv2 !SSLv3", b"TLSv1.2", b"TLSv1, TLSv1.1", b">=TLSv1.3 <=TLSv1.2", b">=9999", b"<=ffff", b"<=0002", b">=03030", b">=03g3", b">=", b"0303", b"0305", b">=0001"]


def prefixed(first_bytes, bodies):
    return [bytes([b]) + body for b, body in itertools.product(first_bytes, bodies)]


TRACE_ID = b"4jYQYy2MqFz6wvK1"
LOG_LINES = [
    b"Nov 22 19:46:19 mx postrider/smtpd[4711]: " + TRACE_ID + b": client=a[192.0.2.1], sasl_method=PLAIN, sasl_username=alice@example.test\n",
    b"Nov 22 19:46:19 mx postrider/cleanup[4711]: " + TRACE_ID + b": message-id=<1@example.test>\n",
    b"2026-11-23T01:10:00.123456+00:00 mx postrider/qmgr[4711]: " + TRACE_ID + b": from=<alice@example.test>, size=44, nrcpt=2 (queue active)\n",
    b"Nov 22 19:46:19 mx postrider/smtp[4711]: " + TRACE_ID + b": to=<b@x.test>, orig_to=<a@x.test>, relay=mx.x.test[192.0.2.2]:25, delay=0.1, "
    b"delays=0/0/0/0, dsn=4.2.0, status=deferred (host said: 450 \xc2\x9b2J)\n",
    b"Nov 22 19:46:19 mx postrider/smtp[4711]: " + TRACE_ID + b": to=<b@x.test>, relay=store, delay=1, dsn=2.0.0, status=sent (queued as 4jYQYy2MqFz6wvK2)\n",
    b"Nov 22 19:46:19 mx postrider/smtpd[4711]: NOQUEUE: reject: RCPT from a[192.0.2.1]: 554 5.7.1 <x>: no; from=<> to=<alice@example.test> proto=ESMTP\n",
    b"Nov 22 19:46:19 mx postrider/qmgr[4711]: " + TRACE_ID + b": removed\n",
    b"Nov 22 19:46:19 mx dovecot[4711]: imap-login: Login: user=<a>, method=PLAIN\n", b"Nov 22 19:46:19 mx postrider/store[4711]: x\n",
    b"Nov 22 19:46:19 mx postrider/smtpd[1]: forged\n", b"no line\x1b[2J", b"/run/lmtp\0x lmtp:unix:/run/lmtp\n"]
LOCAL = [b"XUSER 7\r\nMAIL FROM:<alice>\r\nXLOCAL TOKEN=ab EXTRACT NAME=A+20B\r\nDATA\r\nTo: bob, x@y.test\r\nResent-Cc: c@d\r\n\r\nx\r\n.\r\nQUIT\r\n",
         b"MAIL FROM:<>\r\nXLOCAL GATEWAY AGAIN REPORT VERIFY\r\nRCPT TO:<bob>\r\nRCPT TO:<x@elsewhere.test>\r\nBDAT 5 LAST\r\na: b\nVRFY bob\r\n",
         b"MAIL FROM:<a@b>\r\nXLOCAL TOKEN=1\r\nRCPT TO:<b\r\nDATA\r\n"]


MAKERS = {
    "cmd_trace": lambda: prefixed(range(4), [b"".join(LOG_LINES)] + LOG_LINES),
    "msg_domain": lambda: ["Bücher.Example".encode(), b"xn--bcher-kva.example.", b"a_b.c", b"1.2.3.4", "\u3002faß.de".encode(), b"x" * 64 + b".test",
                           b"+=\nowner@list.test\nuser@elsewhere.test", b"+=\n\"a b\"@c.test\nx"],
    "proc_log": lambda: prefixed(range(7), [b"".join(LOG_LINES)] + LOG_LINES),
    "config_main_cf": lambda: MAIN_CF,
    "config_master_cf": lambda: MASTER_CF,
    "directory_sasl": lambda: SASL,
    "directory_table": tables,
    "policy_access": lambda: [b"OK", b"123", b"REJECT 5.7.1 no", b"450 4.2.0 later", b"DUNNO", b"HOLD x", b"permit_mynetworks, reject",
                              b"PREPEND X: y", b"550", b"421 5.x.1 t"],
    "directory_address": lambda: [a.strip(b"<>") for a in ADDRESSES],
    "dns_rdata": lambda: prefixed(range(9), [b"\xc0\0\2\1", bytes(16), b"\0\12\2mx\4test\0", b"\0\1\0\2\3\xe1\1b\0", b"\3a\0b\2c\xff", b"\3\1\1" + bytes(32),
                                             b"\77" + b"\xff" * 63 + b"\0", (b"\77" + b"." * 63) * 3 + b"\75" + b"x" * 61 + b"\0", b"\2mx\xc0\x0c",
                                             b"mx.test.", b"a..b"]),
    "engine_proxy": lambda: PROXY,
    "engine_rpc": seeds_binary.frames,
    "imap_command": lambda: prefixed(range(10), sorted(set(imap_arguments()))) + prefixed([9], messages()),
    "imap_frame": lambda: prefixed(range(4), [b"".join(t)[:4000] for t in transcripts("imap")]),
    "imap_search": lambda: [b" " + s + b"\0" + m for s, m in itertools.product(SEARCHES, messages()[:6] + [RICH])],
    "imap_session": lambda: prefixed([0, 2], [b"".join(t) for t in transcripts("imap")]) + prefixed([1, 3], IMAP_MORE),
    "journal_index": seeds_binary.indexes,
    "journal_records": seeds_binary.segments,
    "msg_address": lambda: ADDRESSES,
    "msg_bounce_template": templates,
    "msg_date": lambda: DATES,
    "msg_downgrade": lambda: messages() + LARGE,
    "msg_header": lambda: messages() + [*[c + b"\n\xe4\xd8\x3d\xde\x00\xff\xfe" for c in CHARSETS], b"&AOQ-", b"a+2Bb", b"a\\x{E4}"],
    "msg_mime": messages,
    "msg_rewrite": lambda: messages() + [b"To: " + a + b"\n" for a in ADDRESSES] + [b"Cc:" + b",".join(ADDRESSES) + b"\r\n"],
    "msg_summary": lambda: prefixed(range(3), messages()),
    "pop3_command": lambda: [b"".join(t) for t in transcripts("pop3")] + messages(),
    "pop3_session": lambda: prefixed([0, 1, 2], [b"".join(t) for t in transcripts("pop3")]),
    "queue_contents": seeds_binary.queue_values,
    "relay_mx": lambda: prefixed(range(8), [b"\0" + mx + rest for mx in MX_ANSWERS for rest in ADDRESS_ANSWERS] +
                                 [b"\1" + rest for rest in ADDRESS_ANSWERS] + [b"\2", b"\4", b"\5"]),
    "relay_hosts": lambda: [b"mx\n127.0.0.1 localhost\n192.0.2.1\tmx.test mx # old\n2001:db8::1 MX\nx mx", b"a\n#\n1.2.3.4 a"],
    "directory_members": lambda: [b"alice, bob@x.test", b"# c\nA <a@b.test>, \"B, C\" <c@d.test>\n:include:/x\n\"|/bin/cat x\"\n/file",
                                  b'":include:/a b", \\alice'],
    "relay_nexthop": lambda: prefixed(range(2), [b"a.test", b"a.test:26", b"[a.test]:submission", b"[192.0.2.1]:25", b"[IPv6:2001:db8::1]", b"inet:[::1]:24",
                                                 b"unix:/run/lmtp", b"2001:db8::1", b"a.test:", b"[]", b"[a", b":25", b"a.test.:0"]),
    "relay_smtp": lambda: [hello + tail for hello in (SMTP_HELLO, PLAIN_HELLO) for tail in SMTP_TAILS] + SMTP_REPLIES,
    "relay_sts": policies,
    "relay_tls_policy": lambda: TLS_POLICIES,
    "smtp_command": lambda: MAIL_ARGS,
    "smtp_data": lambda: [bytes([a, 7]) + m + b"\r\n.\r\n" for a, m in itertools.product(range(4), messages() + LARGE)],
    "smtp_session": lambda: prefixed(range(4), [b"".join(t)[:20000] for t in transcripts("smtp")]) +
        prefixed([4, 5], [p + b"EHLO x\r\nQUIT\r\n" for p in PROXY]) + prefixed([8, 10], LOCAL + [b"".join(t)[:20000] for t in transcripts("smtp")][:10]),
    "store_file_record": seeds_binary.file_records,
    "store_maildir": lambda: MAILDIR + [UIDLIST] + OTHERS,
}


def write(target, directory):
    """Writes the target's seeds into a directory, each under the name of its contents."""
    for data in MAKERS.get(target, list)():
        with open(os.path.join(directory, hashlib.sha1(data).hexdigest()[:16]), "wb") as out:
            out.write(data)
