/* What the IMAP unit tests share. */
#ifndef TEST_IMAP_H
#define TEST_IMAP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"

#define assert_str(got, want)                                                                                          \
	do {                                                                                                           \
		struct str got_ = (got);                                                                               \
		if (!str_eq(got_, str_from(want)))                                                                     \
			fail_msg("got \"%.*s\", want \"%s\"", STR_ARG(got_), (want));                                  \
	} while (0)

#endif
