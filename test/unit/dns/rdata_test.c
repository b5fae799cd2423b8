/* Record data as strangers write it, and names that may be asked for. */
#include "dns/rdata.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define WIRE(literal) ((struct str){(literal), sizeof(literal) - 1})

static void names_become_printable_text(void **state)
{
	static const struct {
		struct str wire;
		const char *text; /* NULL: no name */
		size_t used;
	} cases[] = {
		{WIRE("\0"), "", 1},
		{WIRE("\2mx\4test\0more"), "mx.test", 9},
		/* Blanks, controls, 8 bits, and what has a meaning in a master file: RFC 1035 5.1. */
		{WIRE("\4a\nb \3\0\x80\xff\0"), "a\\010b\\032.\\000\\128\\255", 10},
		{WIRE("\6.\\\"();\2@$\0"), "\\.\\\\\\\"\\(\\)\\;.\\@\\$", 11},
		{WIRE(""), NULL, 0},
		{WIRE("\2mx"), NULL, 0},
		{WIRE("\5mx\0"), NULL, 0},
		{WIRE("\xc0\x0c"), NULL, 0}, /* compression: libunbound has undone it */
		{WIRE("\2mx\xc0\x0c"), NULL, 0},
		{WIRE("\x40"
		      "0123456789012345678901234567890123456789012345678901234567890123\0"),
		 NULL, 0},
	};
	struct arena arena;

	(void)state;
	arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct str name = STR("untouched");
		size_t used = 0;

		assert_int_equal(dns_name_decode(cases[i].wire, &arena, &name, &used), cases[i].text != NULL);
		if (cases[i].text) {
			assert_true(str_eq(name, str_from(cases[i].text)));
			assert_int_equal(used, cases[i].used);
		}
	}
	arena_release(&arena);
}

/* `labels` labels of 63 octets, then one of `rest`. */
static struct str long_name(char *wire, unsigned labels, unsigned rest)
{
	size_t n = 0;

	for (unsigned i = 0; i <= labels; i++) {
		unsigned len = i < labels ? 63 : rest;

		wire[n++] = (char)len;
		memset(wire + n, 0xff, len);
		n += len;
	}
	wire[n++] = 0;
	return str_of(wire, n);
}

static void a_name_has_at_most_255_octets(void **state)
{
	char wire[400];
	struct arena arena;
	struct str name;
	size_t used;

	(void)state;
	arena_init(&arena);
	assert_true(dns_name_decode(long_name(wire, 3, 61), &arena, &name, &used));
	assert_int_equal(used, 255);
	assert_int_equal(name.len, (3 * 63 + 61) * 4 + 3); /* each octet as \255 */
	assert_false(dns_name_decode(long_name(wire, 3, 62), &arena, &name, &used));
	assert_false(dns_name_decode(long_name(wire, 4, 63), &arena, &name, &used));
	arena_release(&arena);
}

static void data_that_is_none_of_its_type_is_refused_at_every_length(void **state)
{
	static const struct {
		enum dns_type type;
		struct str whole;
	} cases[] = {
		{DNS_A, WIRE("\300\0\2\1")},	     {DNS_AAAA, WIRE("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1")},
		{DNS_MX, WIRE("\0\12\2mx\4test\0")}, {DNS_CNAME, WIRE("\1b\4test\0")},
		{DNS_PTR, WIRE("\1b\4test\0")},	     {DNS_SRV, WIRE("\0\1\0\2\3\xe1\1b\4test\0")},
	};
	struct dns_rdata rd;
	struct arena arena;

	(void)state;
	arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char more[64] = {0};

		assert_true(dns_rdata_decode(cases[i].type, cases[i].whole, &arena, &rd));
		for (size_t n = 0; n < cases[i].whole.len; n++)
			assert_false(dns_rdata_decode(cases[i].type, str_sub(cases[i].whole, 0, n), &arena, &rd));
		memcpy(more, cases[i].whole.ptr, cases[i].whole.len);
		assert_false(dns_rdata_decode(cases[i].type, str_of(more, cases[i].whole.len + 1), &arena, &rd));
	}
	assert_false(dns_rdata_decode((enum dns_type)255, WIRE("x"), &arena, &rd));
	arena_release(&arena);
}

static void fields_are_read_in_their_order(void **state)
{
	struct dns_rdata rd;
	struct arena arena;

	(void)state;
	arena_init(&arena);
	assert_true(dns_rdata_decode(DNS_MX, WIRE("\1\2\0"), &arena, &rd));
	assert_true(rd.preference == 258 && rd.name.len == 0); /* the host of a null MX, RFC 7505 */
	assert_true(dns_rdata_decode(DNS_SRV, WIRE("\0\1\0\2\3\xe1\1b\0"), &arena, &rd));
	assert_true(rd.preference == 1 && rd.weight == 2 && rd.port == 993 && str_eq(rd.name, STR("b")));
	assert_true(dns_rdata_decode(DNS_TXT, WIRE("\3a\0b\0\2c\xff"), &arena, &rd));
	assert_true(str_eq(rd.data, WIRE("a\0bc\xff")));
	assert_false(dns_rdata_decode(DNS_TXT, WIRE(""), &arena, &rd));
	assert_false(dns_rdata_decode(DNS_TXT, WIRE("\3ab"), &arena, &rd));
	assert_true(dns_rdata_decode(DNS_TLSA, WIRE("\3\1\2data"), &arena, &rd));
	assert_true(rd.usage == 3 && rd.selector == 1 && rd.matching == 2 && str_eq(rd.data, STR("data")));
	assert_false(dns_rdata_decode(DNS_TLSA, WIRE("\3\1\2"), &arena, &rd));
	arena_release(&arena);
}

static void names_that_may_be_asked_for(void **state)
{
	static const char *const good[] = {
		"", ".", "a", "a.test", "a.test.", "_25._tcp.mx.test", "192.0.2.1", "xn--bcher-kva.test"};
	static const char *const bad[] = {"..",	   ".a",   "a..b", "a..", "a b",	   "a\tb",
					  "a\\.b", "a\"b", "a@b",  "a;b", "\xc3\xa4.test", "a\x7f"};
	char text[300];
	struct str bare;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(dns_name_valid(str_from(good[i]), &bare) && !str_ends(bare, STR(".")));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(dns_name_valid(str_from(bad[i]), &bare));
	assert_false(dns_name_valid(WIRE("a\0b"), &bare));
	memset(text, 'x', sizeof(text));
	for (size_t i = 63; i < sizeof(text); i += 64)
		text[i] = '.';
	assert_true(dns_name_valid(str_of(text, 253), &bare) && bare.len == 253);
	text[253] = '.';
	assert_true(dns_name_valid(str_of(text, 254), &bare) && bare.len == 253);
	text[253] = 'x';
	assert_false(dns_name_valid(str_of(text, 254), &bare));
	text[63] = 'x'; /* a label of 64 */
	assert_false(dns_name_valid(str_of(text, 200), &bare));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_become_printable_text),
		cmocka_unit_test(a_name_has_at_most_255_octets),
		cmocka_unit_test(data_that_is_none_of_its_type_is_refused_at_every_length),
		cmocka_unit_test(fields_are_read_in_their_order),
		cmocka_unit_test(names_that_may_be_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
