/* What conf.c, main_cf.c and names.c share. */
#ifndef CONFIG_PRIVATE_H
#define CONFIG_PRIVATE_H

#include "base/arena.h"
#include "config/conf.h"
#include <stdatomic.h>

/* One "name = value" as it stands in a file. */
struct setting {
	struct str name, raw;
	unsigned line;	  /* 0: from -o */
	unsigned earlier; /* line of another setting of the name, which does not count; 0: none */
};

struct conf_private {
	atomic_uint refs;
	struct arena arena; /* everything that hangs on the conf, settings included */
	const char *file_name;
	struct str directory;	  /* that the file is in; "" where only its name is known */
	struct setting *settings; /* sorted by name, one each */
	size_t count;
};

/* Reads the file into *settings_r in the order of its lines; strings point into the arena. */
int main_cf_read(struct str text, const char *file_name, struct arena *arena, struct setting **settings_r,
		 size_t *count_r, struct err *err) WARN_UNUSED;
/* "name = value" or "name=value". Fills s but its line. */
int main_cf_split(struct str text, struct setting *s) WARN_UNUSED;
/* A conf of its own copies of the settings; where a name comes twice, the later one wins. */
struct conf *conf_build(const struct setting *settings, size_t count, const char *file_name, struct err *err);
/* Is the name config_directory? Its value is not the table's. */
bool conf_is_directory(const struct conf *c, struct str name, struct str *directory_r);
const struct setting *conf_setting(const struct conf *c, struct str name);
/* A warning for each name that nobody knows and nothing refers to. */
void conf_warn_unknown(const struct conf *c, struct buf *warnings);

#endif
