#include "base/clock.h"
#include "base/encode.h"
#include "msg/header.h"
#include "msg/mime.h"
#include "msg/summary.h"
#include <setjmp.h>
#include <stdarg.h>
#include <zlib.h>

#include <cmocka.h>

/* type/subtype "body bytes", children in parentheses. */
static void dump(struct buf *out, struct str message, const struct mime_part *part)
{
	buf_addf(out, "%.*s/%.*s", STR_ARG(part->type), STR_ARG(part->subtype));
	if (part->first == NULL) {
		struct str body = str_sub(message, part->body_offset, part->body_len);

		buf_addc(out, '"');
		for (size_t i = 0; i < body.len; i++)
			buf_addc(out, body.ptr[i] == '\n' ? '|' : body.ptr[i] == '\r' ? '^' : body.ptr[i]);
		buf_addc(out, '"');
		return;
	}
	buf_addc(out, '(');
	for (const struct mime_part *child = part->first; child != NULL; child = child->next) {
		assert_ptr_equal(child->parent, part);
		if (child != part->first)
			buf_addc(out, ' ');
		dump(out, message, child);
	}
	buf_addc(out, ')');
}

static void check_sizes(struct str message, const struct mime_part *part)
{
	assert_true(part->header_offset + part->header_len == part->body_offset);
	assert_true(part->body_offset + part->body_len <= message.len);
	assert_int_equal(part->multipart || part->message, part->first != NULL);
	for (const struct mime_part *child = part->first; child != NULL; child = child->next) {
		assert_true(child->header_offset >= part->body_offset);
		assert_true(child->body_offset + child->body_len <= part->body_offset + part->body_len);
		check_sizes(message, child);
	}
}

static void tree_is(struct str message, const char *want)
{
	struct arena arena;
	struct buf out;
	struct mime_part *root;

	arena_init(&arena);
	buf_init(&out, 100000);
	root = mime_parse(message, &arena);
	dump(&out, message, root);
	if (strcmp(out.ptr, want) != 0)
		fail_msg("got  %s\nwant %s", out.ptr, want);
	check_sizes(message, root);
	arena_release(&arena);
	buf_release(&out);
}

#define MIXED "Content-Type: multipart/mixed; boundary=b\n\n"

static void test_structure_is_what_can_be_saved(void **state)
{
	static const struct {
		const char *message, *tree;
	} cases[] = {
		{"", "text/plain\"\""},
		{"\n", "text/plain\"\""},
		{"Subject: x\n\nhello\n", "text/plain\"hello|\""},
		{"Subject: x\n", "text/plain\"\""},
		{MIXED "pre\n--b\n\none\n--b\nContent-Type: text/html\n\ntwo\n--b--\nepi\n",
		 "multipart/mixed(text/plain\"one\" text/html\"two\")"},
		{"Content-Type: multipart/mixed;\r\n\tboundary=\"b\"\r\n\r\n--b\r\n\r\none\r\n\r\n--b--\r\n",
		 "multipart/mixed(text/plain\"one^|\")"},
		/* the closing boundary is missing */
		{MIXED "--b\n\none\n", "multipart/mixed(text/plain\"one|\")"},
		/* no part at all, no boundary, an empty one */
		{MIXED "nothing\n", "multipart/mixed(text/plain\"nothing|\")"},
		{"Content-Type: multipart/mixed\n\nx", "multipart/mixed(text/plain\"x\")"},
		{"Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\nx", "multipart/mixed(text/plain\"--||x\")"},
		/* one boundary is the prefix of another */
		{MIXED
		 "--b\nContent-Type: multipart/alternative; boundary=bb\n\n--bb\n\nin\n--bb--\n--b\n\nout\n--b--\n",
		 "multipart/mixed(multipart/alternative(text/plain\"in\") text/plain\"out\")"},
		/* the inner multipart is never closed */
		{MIXED "--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\nin\n--b\n\nout\n--b--\n",
		 "multipart/mixed(multipart/alternative(text/plain\"in\") text/plain\"out\")"},
		/* inner and outer share their boundary */
		{MIXED "--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nin\n--b--\n",
		 "multipart/mixed(multipart/mixed(text/plain\"in\"))"},
		/* a part that ends within its header */
		{MIXED "--b\nContent-Type: text/html\n--b\n\nx\n--b--\n",
		 "multipart/mixed(text/html\"\" text/plain\"x\")"},
		{MIXED "--b\n--b--\n", "multipart/mixed(text/plain\"\")"},
		{MIXED "--b  \t\n\nx\n--b-- \n", "multipart/mixed(text/plain\"x\")"},
		/* a line that only looks like it */
		{MIXED "--b\n\n--bx\n--b -- \n--b--\n", "multipart/mixed(text/plain\"--bx|--b -- \")"},
		{MIXED "--b\nContent-Type: message/rfc822\n\nSubject: in\n" MIXED "--b\n\ndeep\n--b--\n",
		 "multipart/mixed(message/rfc822(multipart/mixed(text/plain\"deep\")))"},
		{"Content-Type: message/rfc822\n\nSubject: in\n\nhello\n", "message/rfc822(text/plain\"hello|\")"},
		{MIXED "--b\nContent-Type: message/rfc822\n--b--\n", "multipart/mixed(message/rfc822(text/plain\"\"))"},
		{MIXED "--b\nContent-Type: message/rfc822\n\nSubject: open\n--b--\n",
		 "multipart/mixed(message/rfc822(text/plain\"\"))"},
		{"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: d\n\nhi\n--b--\n",
		 "multipart/digest(message/rfc822(text/plain\"hi\"))"},
		/* only the first Content-Type counts; nonsense is text/plain */
		{"Content-Type: text/html\nContent-Type: multipart/mixed; boundary=b\n\n--b\n", "text/html\"--b|\""},
		{"Content-Type: nonsense\n\nx", "text/plain\"x\""},
		{"Content-Type: ;;;=\n\nx", "text/plain\"x\""},
		{"Content-Type: (c)text (c) / (c) html (c); (c) charset=x\n\nx", "text/html\"x\""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		tree_is(str_from(cases[i].message), cases[i].tree);
}

static void test_sizes_count_line_ends_as_they_are_sent(void **state)
{
	struct arena arena;
	struct str lf = STR("A: b\n" MIXED "--b\nX: y\n\n1\n2\n--b--\n");
	struct str crlf =
		STR("A: b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: y\r\n\r\n1\r\n2\r\n--b--\r\n");
	struct mime_part *a, *b;

	(void)state;
	arena_init(&arena);
	a = mime_parse(lf, &arena);
	b = mime_parse(crlf, &arena);
	assert_int_equal(a->header_size_crlf, b->header_len);
	assert_int_equal(a->body_size_crlf, b->body_len);
	assert_int_equal(b->body_size_crlf, b->body_len);
	assert_int_equal(a->first->body_size_crlf, 4);
	assert_int_equal(b->first->body_size_crlf, 4);
	assert_int_equal(a->first->body_lines, 1);
	assert_int_equal(a->first->header_size_crlf, 8);
	assert_int_equal(a->body_lines, 6);
	/* as received: CRLF and bare LF mixed is sent as it is */
	a = mime_parse(STR("A: b\r\n\r\nx\ny\r\n"), &arena);
	assert_int_equal(a->body_size_crlf, 5);
	arena_release(&arena);
}

static void test_parts_are_found_by_their_numbers(void **state)
{
	struct str message = STR(MIXED "--b\n\none\n--b\nContent-Type: message/rfc822\n\nSubject: s\n"
				       "Content-Type: multipart/mixed; boundary=c\n\n--c\n\nA\n--c\n\nB\n--c--\n--b\n"
				       "Content-Type: message/rfc822\n\nSubject: t\n\nplain\n--b--\n");
	static const struct {
		uint32_t path[3];
		size_t n;
		const char *body; /* NULL: no such part */
	} cases[] = {
		{{1}, 1, "one"}, {{2, 1}, 2, "A"}, {{2, 2}, 2, "B"},  {{3, 1}, 2, "plain"}, {{2, 3}, 2, NULL},
		{{4}, 1, NULL},	 {{0}, 1, NULL},   {{1, 1}, 2, NULL}, {{3, 1, 1}, 3, NULL}, {{3, 2}, 2, NULL},
	};
	struct arena arena;
	struct mime_part *root, *part;

	(void)state;
	arena_init(&arena);
	root = mime_parse(message, &arena);
	assert_ptr_equal(mime_find(root, NULL, 0), root);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		part = mime_find(root, cases[i].path, cases[i].n);
		assert_int_equal(part != NULL, cases[i].body != NULL);
		if (part != NULL)
			assert_true(
				str_eq(str_sub(message, part->body_offset, part->body_len), str_from(cases[i].body)));
	}
	part = mime_find(root, (uint32_t[]){2}, 1);
	assert_true(str_eq(part->first->envelope->subject, STR("s")));
	root = mime_parse(STR("A: b\n\nx"), &arena);
	assert_ptr_equal(mime_find(root, (uint32_t[]){1}, 1), root);
	assert_null(mime_find(root, (uint32_t[]){1, 1}, 2));
	assert_null(mime_find(root, (uint32_t[]){2}, 1));
	arena_release(&arena);
}

static void params_are(const char *fields, const char *want)
{
	struct arena arena;
	struct buf out;
	struct str message;
	struct mime_part *root;

	arena_init(&arena);
	buf_init(&out, 10000);
	message = arena_printf(&arena, "Content-Type: text/plain%s\n\n", fields);
	root = mime_parse(message, &arena);
	for (size_t i = 0; i < root->param_count; i++)
		buf_addf(&out, "%.*s=[%.*s]", STR_ARG(root->params[i].name), STR_ARG(root->params[i].value));
	if (strcmp(out.ptr, want) != 0)
		fail_msg("%s: got %s, want %s", fields, out.ptr, want);
	arena_release(&arena);
	buf_release(&out);
}

static void test_parameters_in_every_writing(void **state)
{
	(void)state;
	params_are("; charset=utf-8", "charset=[utf-8]");
	params_are(" ; charset = \"utf-8\" ;", "charset=[utf-8]");
	params_are(";charset=us-ascii (Plain text);;x=y", "charset=[us-ascii]x=[y]");
	params_are("; name=two words (1).pdf; x=\"a\\\"b;c\"", "name=[two words (1).pdf]x=[a\"b;c]");
	params_are("; name=\"open", "name=[open]");
	params_are("; name*0=\"a b\"; name*1=c", "name=[a bc]");
	params_are("; name*1=c; name*0=\"a b\"; name*3=lost", "name=[a bc]");
	params_are("; name*0*=utf-8''a%20b; name*1=\"c d\"; x=1", "name*=[utf-8''a%20bc%20d]x=[1]");
	params_are("; name*=utf-8'de'%C3%A4", "name*=[utf-8'de'%C3%A4]");
	params_are("; name", "");
	params_are("; =x; a=", "a=[]");
	params_are("; a=1; a=2", "a=[1]a=[2]");
	params_are(" charset=x", "");
	params_are(", junk; charset=x", "charset=[x]");
}

static void test_file_names_become_text(void **state)
{
	static const struct {
		const char *params, *want;
	} cases[] = {
		{"; filename*=utf-8''%e2%82%ac.txt", "\xe2\x82\xac.txt"},
		{"; filename*=iso-8859-1'en'%A3.txt", "\xc2\xa3.txt"},
		{"; filename*=%41", "A"},
		{"; filename=\"=?utf-8?B?w6Q=?=.txt\"", "\xc3\xa4.txt"},
		{"; filename=plain.txt", "plain.txt"},
		{"; filename=\"\xe4.txt\"", "\xc3\xa4.txt"},
		{"; filename*=utf-8''%zz%4", "%zz%4"},
	};
	struct arena arena;

	(void)state;
	arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct str message = arena_printf(&arena, "Content-Disposition: attachment%s\n\n", cases[i].params);
		struct mime_part *root = mime_parse(message, &arena);
		struct str text =
			mime_param_text(root->disposition_params, root->disposition_param_count, "filename", &arena);

		if (!str_eq(text, str_from(cases[i].want)))
			fail_msg("%s: got %.*s", cases[i].params, STR_ARG(text));
	}
	arena_release(&arena);
}

static void test_all_fields_of_a_part_are_kept(void **state)
{
	struct str message = STR("Content-ID: <a@b>\nContent-Description: some\n thing\nContent-MD5: x==\n"
				 "Content-Language: de, en (c)\nContent-Location: http://x/\n"
				 "Content-Transfer-Encoding: BASE64 (c)\nContent-Disposition: inline; size=1\n"
				 "Date: d\nSubject: =?utf-8?q?x?=\nFrom: A <a@b>\nTo: c@d\nFrom: second@x\n\n");
	struct arena arena;
	struct mime_part *p;

	(void)state;
	arena_init(&arena);
	p = mime_parse(message, &arena);
	assert_true(str_eq(p->id, STR("<a@b>")));
	assert_true(str_eq(p->description, STR("some thing")));
	assert_true(str_eq(p->md5, STR("x==")));
	assert_int_equal(p->language_count, 2);
	assert_true(str_eq(p->languages[1], STR("en")));
	assert_true(str_eq(p->location, STR("http://x/")));
	assert_true(str_eq(p->encoding, STR("BASE64")));
	assert_true(str_eq(p->disposition, STR("inline")));
	assert_int_equal(p->disposition_param_count, 1);
	assert_true(str_eq(p->envelope->subject, STR("=?utf-8?q?x?=")));
	assert_int_equal(p->envelope->from.n, 1);
	assert_true(str_eq(p->envelope->from.v[0].name, STR("A")));
	assert_null(p->envelope->message_id.ptr);
	arena_release(&arena);
}

static void decodes(const char *encoding, const char *in, const char *want, bool clean)
{
	struct buf out;

	buf_init(&out, 1000);
	assert_int_equal(mime_decode(str_from(encoding), str_from(in), &out), clean);
	if (strcmp(out.ptr, want) != 0)
		fail_msg("%s: got \"%s\", want \"%s\"", in, out.ptr, want);
	buf_release(&out);
}

static void test_transfer_encodings_are_undone_leniently(void **state)
{
	(void)state;
	decodes("base64", "aGVs\nbG8=\n", "hello", true);
	decodes("BASE64", "a\nGVsbG8", "hello", false);
	decodes("base64", "aGk=aGk=", "hihi", true);
	decodes("base64", "aG!k=", "hi", false);
	decodes("base64", "", "", true);
	decodes("quoted-printable", "a=3Db=\nc  \nd=\r\ne=E4", "a=bc\nde\xe4", true);
	decodes("quoted-printable", "a=3db=20\nc", "a=b \nc", true);
	decodes("quoted-printable", "a=zz", "a=zz", false);
	decodes("quoted-printable", "a= \t\nb", "ab", true);
	decodes("quoted-printable", "a=", "a", true);
	decodes("7bit", "a=3D", "a=3D", true);
	decodes("", "x", "x", true);
	decodes("x-unknown", "x", "x", false);
}

static void preview_is(struct str message, const char *want)
{
	struct arena arena;
	struct buf out;

	arena_init(&arena);
	buf_init(&out, 300);
	mime_preview(message, mime_parse(message, &arena), 20, &out);
	if (strcmp(out.ptr, want) != 0)
		fail_msg("got \"%s\", want \"%s\"", out.ptr, want);
	buf_release(&out);
	arena_release(&arena);
}

static void test_previews_are_short_clean_text(void **state)
{
	(void)state;
	preview_is(STR("\n  hello\n\n\tworld  \n"), "hello world");
	preview_is(STR("\n12345678901234567890123"), "12345678901234567890");
	preview_is(STR("Content-Type: text/html\n\n<html><style>x{}</style><p>a&amp;b&#252;</p><!-- n -->c&bad;"),
		   "a&b\xc3\xbc c&bad;");
	preview_is(
		STR("Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n=E4"),
		"\xc3\xa4");
	preview_is(STR(MIXED "--b\nContent-Disposition: attachment\n\nno\n--b\n\nyes\n--b--\n"), "yes");
	preview_is(STR("Content-Type: image/png\n\nxx"), "");
	preview_is(STR("\n\xff\xfe"), "\xc3\xbf\xc3\xbe");
}

static void summary_of(struct str message, struct arena *arena, struct summary *s_r)
{
	struct buf bytes, again;

	buf_init(&bytes, 1 << 24);
	buf_init(&again, 1 << 24);
	summary_make(message, &bytes);
	assert_true(summary_decode(arena_str(arena, buf_str(&bytes)), arena, s_r));
	summary_encode(s_r, &again);
	assert_int_equal(bytes.len, again.len);
	assert_memory_equal(bytes.ptr, again.ptr, bytes.len);
	/* cut or changed anywhere, it reads as absent */
	for (size_t i = 0; i < bytes.len; i++) {
		struct summary none;

		assert_false(summary_decode(str_of(bytes.ptr, i), arena, &none));
		bytes.ptr[i] ^= 0x11;
		assert_false(summary_decode(buf_str(&bytes), arena, &none));
		bytes.ptr[i] ^= 0x11;
	}
	buf_release(&bytes);
	buf_release(&again);
}

static void test_a_summary_keeps_everything_and_survives_no_damage(void **state)
{
	struct str message =
		STR("Date: Fri, 21 Nov 1997 09:55:06 -0600\nFrom: \"A, B\" <a@b>, G: x@y;\nSubject: \n" MIXED
		    "--b\nContent-Language: de\nContent-ID: <1>\n\none\n--b\nContent-Type: message/rfc822\n\n"
		    "To: c@d\n\nhi\n--b--\n");
	struct arena arena;
	struct summary s;
	struct buf want, got;

	(void)state;
	arena_init(&arena);
	buf_init(&want, 1000);
	buf_init(&got, 1000);
	summary_of(message, &arena, &s);
	assert_int_equal(s.sent_date, 880127706);
	assert_int_equal(s.sent_zone, -360);
	assert_true(str_eq(s.preview, STR("one")));
	dump(&want, message, mime_parse(message, &arena));
	dump(&got, message, s.root);
	assert_string_equal(got.ptr, want.ptr);
	assert_non_null(s.root->envelope->subject.ptr);
	assert_null(s.root->envelope->message_id.ptr);
	assert_int_equal(s.root->envelope->from.n, 4);
	assert_int_equal(s.root->envelope->from.v[1].kind, ADDR_GROUP_START);
	summary_of(STR(""), &arena, &s);
	assert_true(s.sent_date == INT64_MIN);
	buf_release(&want);
	buf_release(&got);
	arena_release(&arena);
}

/* What summary_make() writes: version, flags, CRC32C, varint length, contents. */
enum { HEAD = 6, DEFLATED = 1 };

static bool is_deflated(const struct buf *summary)
{
	return summary->ptr[1] & DEFLATED;
}

/* What submission added stands in front of the message; what the message has itself stays. */
static void test_the_envelope_has_what_stands_in_front_of_the_message(void **state)
{
	struct str message = STR("Subject: s\nTo: c@d\nContent-Type: text/plain\n\nhello\n"),
		   prefix = STR("Return-Path: <x@y>\nReceived: by us\n\tid 1; today\nFrom: A <a@b>\n"
				"Date: Fri, 21 Nov 1997 09:55:06 -0600\nMessage-ID: <1@us>\n");
	struct arena arena;
	struct summary s, alone;
	struct buf bytes;

	(void)state;
	arena_init(&arena);
	buf_init(&bytes, 1 << 20);
	summary_make_behind(prefix, message, &bytes);
	assert_true(summary_decode(buf_str(&bytes), &arena, &s));
	assert_true(str_eq(s.root->envelope->date, STR("Fri, 21 Nov 1997 09:55:06 -0600")));
	assert_int_equal(s.sent_date, 880127706);
	assert_int_equal(s.sent_zone, -360);
	assert_true(str_eq(s.root->envelope->message_id, STR("<1@us>")));
	assert_int_equal(s.root->envelope->from.n, 1);
	assert_true(str_eq(s.root->envelope->subject, STR("s")));
	assert_true(str_eq(s.preview, STR("hello")));
	summary_parse(message, &arena, &alone);
	assert_int_equal(s.root->header_len, alone.root->header_len); /* its places are still the message's */
	summary_parse_behind(STR("Received: by us; Date: no\n"), message, &arena, &s);
	assert_null(s.root->envelope->date.ptr);
	buf_release(&bytes);
	arena_release(&arena);
}

static void test_only_large_summaries_are_packed(void **state)
{
	struct buf small, large, message;
	struct arena arena;
	struct summary s;

	(void)state;
	buf_init(&small, 1 << 16);
	buf_init(&large, 1 << 16);
	buf_init(&message, 1 << 16);
	summary_make(STR("From: a@b\nSubject: usual\n\nThis is what most messages are like.\n"), &small);
	assert_false(is_deflated(&small));
	buf_addz(&message, "From: a@b\nTo: ");
	for (int i = 0; i < 200; i++)
		buf_addf(&message, "somebody%d@example.test, ", i);
	buf_addz(&message, "last@example.test\n\nbody\n");
	summary_make(buf_str(&message), &large);
	assert_true(is_deflated(&large));
	assert_true(large.len < message.len / 2);
	arena_init(&arena);
	assert_true(summary_decode(buf_str(&large), &arena, &s));
	assert_int_equal(s.root->envelope->to.n, 201);
	assert_true(str_eq(s.root->envelope->to.v[199].local, STR("somebody199")));
	arena_release(&arena);
	buf_release(&message);
	buf_release(&large);
	buf_release(&small);
}

/* As they were written before: small ones packed too, with zlib's own window. */
static void test_a_packed_small_summary_of_before_is_read(void **state)
{
	struct buf plain, packed;
	struct arena arena;
	struct summary s;
	unsigned char deflated[2048];
	uLongf size = sizeof(deflated);
	uint32_t crc;
	size_t varint;

	(void)state;
	buf_init(&plain, 1 << 16);
	buf_init(&packed, 1 << 16);
	summary_make(STR("From: a@b\nSubject: of an earlier version\nTo: c@d, c@d, c@d, c@d, c@d, c@d\n\n" MIXED
			 "--b\n\nThe same, the same, the same, the same, the same.\n--b--\n"),
		     &plain);
	varint = plain.ptr[HEAD] & 0x80 ? 2 : 1;
	assert_int_equal(compress2(deflated, &size, (const Bytef *)plain.ptr + HEAD + varint,
				   (uLong)(plain.len - HEAD - varint), 3),
			 Z_OK);
	buf_add(&packed, plain.ptr + HEAD, varint);
	buf_add(&packed, deflated, size);
	crc = crc32c(0, packed.ptr, packed.len);
	buf_clear(&plain);
	buf_add(&plain,
		(unsigned char[]){1, DEFLATED, (unsigned char)crc, (unsigned char)(crc >> 8),
				  (unsigned char)(crc >> 16), (unsigned char)(crc >> 24)},
		HEAD);
	buf_add_str(&plain, buf_str(&packed));
	arena_init(&arena);
	assert_true(summary_decode(buf_str(&plain), &arena, &s));
	assert_true(str_eq(s.root->envelope->subject, STR("of an earlier version")));
	assert_int_equal(s.root->envelope->to.n, 6);
	arena_release(&arena);
	buf_release(&packed);
	buf_release(&plain);
}

static size_t count_parts(const struct mime_part *part, size_t depth, size_t *depth_max)
{
	size_t n = 1;

	if (depth > *depth_max)
		*depth_max = depth;
	for (const struct mime_part *c = part->first; c != NULL; c = c->next)
		n += count_parts(c, depth + 1, depth_max);
	return n;
}

/* Parses and summarizes; returns the number of parts. Fails when it takes seconds or hundreds of megabytes. */
static size_t survives(const struct buf *message)
{
	struct arena arena;
	struct summary s;
	struct buf bytes;
	int64_t start = clock_ms();
	size_t parts, depth = 0;

	assert_false(buf_failed(message));
	arena_init(&arena);
	buf_init(&bytes, 1 << 24);
	summary_make(buf_str(message), &bytes);
	assert_true(summary_decode(buf_str(&bytes), &arena, &s));
	parts = count_parts(s.root, 1, &depth);
	assert_true(parts <= 2 * MIME_PARTS_MAX);
	assert_true(depth <= MIME_DEPTH_MAX + 1);
	check_sizes(buf_str(message), s.root);
	assert_true(bytes.len < 8000000);
	assert_true(arena_used(&arena) < 200000000);
	assert_true(clock_ms() - start < 20000);
	arena_release(&arena);
	buf_release(&bytes);
	return parts;
}

static void repeat(struct buf *b, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_addz(b, text);
}

static void test_monsters_cost_linear_time_and_bounded_memory(void **state)
{
	static const struct {
		const char *head, *repeated, *tail;
		size_t n;
	} monsters[] = {
		{"Subject: ", "x", "\n\n", 10000000},
		{"From: ", "(", "\n\n", 1000000},
		{"From: ", "a,", "\n\n", 1000000},
		{"From: ", "<@", "\n\n", 1000000},
		{"From: ", "\"", "\n\n", 1000000},
		{"From: ", "a@[", "\n\n", 300000},
		{"From: ", "g:a;", "\n\n", 300000},
		{"Subject: ", "=?", "\n\n", 1000000},
		{"Content-Type: text/plain", "; a=b", "\n\n", 1000000},
		{"Content-Type: text/plain", "; a*0*=b", "\n\n", 1000000},
		{"Content-Type: text/plain; a=", "(x) y", "\n\n", 1000000},
		{"Content-Language: ", "a,", "\n\n", 1000000},
		{"", "\n", "", 5000000},
		{"", "X:\n", "\n", 1000000},
		{"", " \n", "\n", 1000000},
		{MIXED, "--b\n", "", 1000000},
		{MIXED, "--b\n\n", "", 5000},
		{MIXED, "--b--\n", "", 1000000},
		{"", "Content-Type: message/rfc822\n\n", "", 5000},
		{"", "Content-Type: multipart/mixed; boundary=b\n\n--b\n", "", 5000},
		{"", "Content-Type: multipart/digest; boundary=b\n\n--b\n\n", "", 5000},
		{MIXED, "--b\nContent-Type: message/rfc822\n\nTo: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p\n\n", "", 5000},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(monsters); i++) {
		struct buf b;

		buf_init(&b, 1 << 26);
		buf_addz(&b, monsters[i].head);
		repeat(&b, monsters[i].repeated, monsters[i].n);
		buf_addz(&b, monsters[i].tail);
		survives(&b);
		buf_release(&b);
	}
}

static void test_depth_past_the_limit_is_a_leaf_that_holds_the_rest(void **state)
{
	struct buf b;
	struct arena arena;
	struct mime_part *p;

	(void)state;
	buf_init(&b, 1 << 20);
	arena_init(&arena);
	repeat(&b, "Content-Type: message/rfc822\n\n", 60);
	p = mime_parse(buf_str(&b), &arena);
	while (p->first != NULL)
		p = p->first;
	assert_true(str_eq(p->subtype, STR("octet-stream")));
	assert_int_equal(p->body_offset + p->body_len, b.len);
	buf_release(&b);
	arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_structure_is_what_can_be_saved),
		cmocka_unit_test(test_sizes_count_line_ends_as_they_are_sent),
		cmocka_unit_test(test_parts_are_found_by_their_numbers),
		cmocka_unit_test(test_parameters_in_every_writing),
		cmocka_unit_test(test_file_names_become_text),
		cmocka_unit_test(test_all_fields_of_a_part_are_kept),
		cmocka_unit_test(test_transfer_encodings_are_undone_leniently),
		cmocka_unit_test(test_previews_are_short_clean_text),
		cmocka_unit_test(test_a_summary_keeps_everything_and_survives_no_damage),
		cmocka_unit_test(test_the_envelope_has_what_stands_in_front_of_the_message),
		cmocka_unit_test(test_only_large_summaries_are_packed),
		cmocka_unit_test(test_a_packed_small_summary_of_before_is_read),
		cmocka_unit_test(test_monsters_cost_linear_time_and_bounded_memory),
		cmocka_unit_test(test_depth_past_the_limit_is_a_leaf_that_holds_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
