/* check_values - values that the system takes and that do not do what was meant: an address that is none, a limit that
 * counts as not set, a security level with nobody to trust. For `postrider check`. */
#ifndef CMD_CHECK_VALUES_H
#define CMD_CHECK_VALUES_H

#include "config/conf.h"

struct values_told {
	void (*tell)(void *ctx, const char *text);
	void (*refuse)(void *ctx, const char *text); /* what a start would not get over */
	void *ctx;
	const char *file;    /* "DIR/main.cf" */
	const char *service; /* NULL: of main.cf; else only what the -o of this service set */
};

/* tell(): a sentence for each that is set. */
void check_values(const struct conf *conf, const struct values_told *told);
/* What parameters do not do together, of main.cf. */
void check_values_together(const struct conf *conf, const struct values_told *told);

#endif
