/* 8-bit mail for servers that take 7 bits: what is converted, what is left alone, and that it decodes to the same. */
#include "base/buf.h"
#include "msg/downgrade.h"
#include "msg/mime.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct buf out;

static int put(void *ctx, struct str piece)
{
	(void)ctx;
	buf_add_str(&out, piece);
	return 0;
}

static const char *convert_some(const char *message)
{
	buf_release(&out);
	buf_init(&out, 1 << 22);
	assert_int_equal(mime_downgrade(str_from(message), put, NULL), 0);
	return out.ptr;
}

static const char *convert(const char *message)
{
	const char *converted = convert_some(message);

	assert_true(str_is_ascii(buf_str(&out)));
	return converted;
}

static void plain_text_becomes_quoted_printable(void **state)
{
	(void)state;
	assert_string_equal(convert("Subject: x\n\nb\xc3\xa4r = 1 \n.\nFrom me\n"),
			    "Subject: x\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n"
			    "b=C3=A4r =3D 1=20\n=2E\n=46rom me\n");
	assert_string_equal(convert("MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe4\r\n"),
			    "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=E4\r\n");
}

static void long_lines_are_broken_softly(void **state)
{
	struct str rest, line;

	(void)state;
	convert("A: "
		"b\n\n0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890\xc3"
		"\xa4\n");
	rest = buf_str(&out);
	while (str_split(rest, '\n', &line, &rest))
		assert_true(line.len <= 76);
	assert_true(str_find(buf_str(&out), STR("=\n")) > 0);
}

static void other_types_become_base64(void **state)
{
	(void)state;
	assert_string_equal(convert("Content-Type: image/png\nContent-Transfer-Encoding: binary\n\n\xff\xfe\xfd"),
			    "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n//79\n");
}

static void only_the_parts_that_need_it_are_touched(void **state)
{
	static const char head[] = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n";

	char message[2000], want[2000];

	(void)state;
	snprintf(message, sizeof(message),
		 "%sContent-Transfer-Encoding: 8bit\n\npre\n--b\nContent-Type: text/plain\nContent-Transfer-Encoding: "
		 "8bit\n\n\xc3\xa4\n"
		 "--b\nContent-Type: text/plain\n\nascii=  \n--b\nContent-Type: message/rfc822\n\nSubject: "
		 "in\n\n\xc3\xb6\n--b--\nepi\n",
		 head);
	snprintf(want, sizeof(want),
		 "%sContent-Transfer-Encoding: 7bit\n\npre\n--b\nContent-Type: text/plain\nContent-Transfer-Encoding: "
		 "quoted-printable\n\n"
		 "=C3=A4\n--b\nContent-Type: text/plain\n\nascii=  \n--b\nContent-Type: message/rfc822\n\nSubject: in\n"
		 "Content-Transfer-Encoding: quoted-printable\n\n=C3=B6\n--b--\nepi\n",
		 head);
	assert_string_equal(convert(message), want);
}

static void seven_bit_mail_passes_unchanged(void **state)
{
	static const char signed_mail[] =
		"Content-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: text/plain\n\n"
		"hi =\n--s\nContent-Type: application/pgp-signature\n\nsig\n--s--\n";

	(void)state;
	assert_string_equal(convert(signed_mail), signed_mail);
	assert_string_equal(convert(""), "");
	assert_string_equal(convert("A: b\n"), "A: b\n");
}

/* RFC 1847 2.1: opaque for whoever is on the way. The parts beside it are converted. */
static void what_is_signed_stays_as_it_is(void **state)
{
	static const char signed_mail[] =
		"Content-Type: multipart/signed; boundary=s\nContent-Transfer-Encoding: 8bit\n\n--s\nContent-Type: "
		"text/plain\nContent-Transfer-Encoding: 8bit\n\nh\xc3\xa4\n--s\nContent-Type: "
		"application/pgp-signature\n\nsig\n--s--\n";
	static const char head[] = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n"
				   "Content-Transfer-Encoding: 8bit\n\n--b\n";
	static const char footer[] = "\n--b\nContent-Type: text/plain\n";
	char message[2000], want[2000];

	(void)state;
	assert_string_equal(convert_some(signed_mail), signed_mail);
	snprintf(message, sizeof(message), "%s%s%s\n\xc3\xb6\n--b--\n", head, signed_mail, footer);
	snprintf(want, sizeof(want), "%s%s%sContent-Transfer-Encoding: quoted-printable\n\n=C3=B6\n--b--\n", head,
		 signed_mail, footer);
	assert_string_equal(convert_some(message), want);
}

static int stop(void *ctx, struct str piece)
{
	(void)piece;
	return --*(int *)ctx > 0 ? 0 : -1;
}

static void whoever_takes_the_pieces_may_stop(void **state)
{
	int pieces = 2;

	(void)state;
	assert_int_equal(mime_downgrade(STR("A: b\n\n\xc3\xa4\n"), stop, &pieces), -1);
	assert_int_equal(pieces, 0);
}

static int teardown(void **state)
{
	(void)state;
	buf_release(&out);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_text_becomes_quoted_printable),
		cmocka_unit_test(long_lines_are_broken_softly),
		cmocka_unit_test(other_types_become_base64),
		cmocka_unit_test(only_the_parts_that_need_it_are_touched),
		cmocka_unit_test(seven_bit_mail_passes_unchanged),
		cmocka_unit_test(what_is_signed_stays_as_it_is),
		cmocka_unit_test(whoever_takes_the_pieces_may_stop),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
