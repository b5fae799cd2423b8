/* main.cf: a conf or an error that says where; a conf can be overridden and read.
 *
 * Covers: src/config/cf_lines.c src/config/main_cf.c src/config/expand.c
 * Reaches: src/config/conf.c src/config/params.c */
#include "base/fatal.h"
#include "config/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_of(data, size), rest = in, item, setting = STR("smtpd_banner=$mydestination");
	struct buf warnings;
	struct err err = ERR_NONE;
	struct conf *c, *o;

	buf_init(&warnings, 1 << 20);
	c = conf_parse(in, "main.cf", &warnings, &err);
	invariant(c != NULL || err.text[0] != '\0');
	if (c != NULL) {
		o = conf_override(c, &setting, 1, &err);
		conf_unref(&c);
		/* The override may close a circle of references: then it says so. */
		invariant(o != NULL || err.text[0] != '\0');
		buf_clear(&warnings);
		invariant(o == NULL || conf_text(o, STR("mydomain"), &warnings));
		conf_unref(&o);
	}
	while (conf_list_next(&rest, &item))
		invariant(item.len > 0);
	buf_release(&warnings);
	return 0;
}
