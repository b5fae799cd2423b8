/* Which tables rewrite which addresses. */
#include "directory/schema.h"
#include "policy/rewriting.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ALL                                                                                                            \
	"sender_canonical_maps = hash:a\nrecipient_canonical_maps = hash:b\ncanonical_maps = "                         \
	"hash:c\nmasquerade_domains = d.test\n"

static void maps_are(const char *main_cf, unsigned es, unsigned er, unsigned hs, unsigned hr)
{
	struct err err = ERR_NONE;
	struct conf *conf = conf_parse(str_from(main_cf), "main.cf", NULL, &err);

	assert_non_null(conf);
	assert_int_equal(rewriting_maps(conf, REWRITING_ENVELOPE_SENDER), es);
	assert_int_equal(rewriting_maps(conf, REWRITING_ENVELOPE_RECIPIENT), er);
	assert_int_equal(rewriting_maps(conf, REWRITING_HEADER_SENDER), hs);
	assert_int_equal(rewriting_maps(conf, REWRITING_HEADER_RECIPIENT), hr);
	conf_unref(&conf);
}

static void classes_say_what_tables_are_for(void **state)
{
	enum { S = REWRITE_BY_SENDER_CANONICAL, R = REWRITE_BY_RECIPIENT_CANONICAL, C = REWRITE_BY_CANONICAL };
	enum { M = REWRITE_BY_MASQUERADE };

	(void)state;
	maps_are("", 0, 0, 0, 0);
	maps_are(ALL, S | C | M, R | C, S | C | M, R | C | M);
	maps_are(ALL "canonical_classes =\nmasquerade_classes = envelope_recipient\n", S, R | M, S, R);
	maps_are(ALL "sender_canonical_classes = header_sender\nrecipient_canonical_classes = envelope_recipient\n"
		     "canonical_classes = header_recipient header_sender\nmasquerade_domains =\n",
		 0, R, S | C, C);
}

static const char *check(const char *main_cf, struct buf *warnings)
{
	static struct err err;
	struct conf *conf;
	int rc;

	err = ERR_NONE;
	conf = conf_parse(str_from(main_cf), "main.cf", NULL, &err);
	assert_non_null(conf);
	rc = rewriting_check(conf, warnings, &err);
	conf_unref(&conf);
	return rc < 0 ? err.text : "";
}

static void words_that_mean_nothing_are_found(void **state)
{
	struct buf warnings;

	(void)state;
	buf_init(&warnings, 1000);
	assert_string_equal(check("local_header_rewrite_clients = permit_mynetworks, permit_sasl_authenticated, "
				  "check_address_map hash:x static:all permit_inet_interfaces\n",
				  &warnings),
			    "");
	assert_int_equal(warnings.len, 0);
	assert_string_equal(check("local_header_rewrite_clients = permit_tls_clientcerts\n", &warnings), "");
	assert_non_null(strstr(warnings.ptr, "permit_tls_clientcerts is accepted and decides nothing yet"));
	assert_non_null(strstr(check("local_header_rewrite_clients = permit_everybody\n", NULL), "permit_everybody"));
	assert_non_null(strstr(check("canonical_classes = header\n", NULL), "canonical_classes: \"header\""));
	assert_non_null(
		strstr(check("sender_canonical_classes = header_recipient\n", NULL), "sender_canonical_classes"));
	assert_non_null(
		strstr(check("recipient_canonical_classes = header_sender\n", NULL), "recipient_canonical_classes"));
	buf_release(&warnings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_say_what_tables_are_for),
		cmocka_unit_test(words_that_mean_nothing_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
