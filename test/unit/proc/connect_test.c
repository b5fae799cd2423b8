/* Which UNIX sockets master connects relay to. */
#include "proc/master.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void only_a_whole_path_of_lmtp_is_named(void **state)
{
	static const struct {
		const char *text, *path;
		bool named;
	} cases[] = {
		{"virtual_transport = lmtp:unix:private/dovecot-lmtp\n", "private/dovecot-lmtp", true},
		{"lmtp:unix:private/dovecot-lmtp", "private/dovecot-lmtp", true},
		{"lmtp:unix:private/dovecot-lmtp", "private/dovecot", false},
		{"lmtp:unix:private/dovecot-lmtp", "private/dovecot-lmtp2", false},
		{"lmtp:unix:private/dovecot-lmtp", "dovecot-lmtp", false},
		{"a.test\tlmtp:unix:/run/a\nb.test LMTP:unix:/run/b, c", "/run/b", true},
		{"inline:{a.test=lmtp-slow:unix:/run/a}", "/run/a", true},
		{"inline:{{a.test=lmtp:unix:/run/a}}", "/run/a", true},
		{"socketmap:unix:/run/a:name", "/run/a", false},
		{"socketmap:unix:/run/a", "/run/a", false},
		{"xlmtp:unix:/run/a", "/run/a", false},
		{"lmtp:unix:/run/a socketmap:unix:/run/b", "/run/b", false},
		{"socketmap:unix:/run/b lmtp:unix:/run/b", "/run/b", true},
		{"", "/run/b", false},
		{":unix:", "", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (connect_is_named(str_from(cases[i].text), str_from(cases[i].path)) != cases[i].named)
			fail_msg("%s: %s", cases[i].text, cases[i].path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(only_a_whole_path_of_lmtp_is_named)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
