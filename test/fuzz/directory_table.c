/* Look-up tables of any bytes, asked for any key: what is found is found again, in another case, too; nothing a table
 * does not know is taken from outside of it. The first byte chooses the type; the key is the first line.
 *
 * Covers: src/directory/tables/table.c src/directory/tables/text.c src/directory/tables/rules.c
 * src/directory/tables/regexp.c src/directory/tables/pcre.c src/directory/tables/cidr.c src/directory/tables/combine.c
 * src/directory/tables/files.c */
#include "base/mem.h"
#include "directory/tables/files.h"
#include "directory/tables/table.h"
#include "os/fd.h"
#include <stdlib.h>
#include <unistd.h>

static int read_file(void *ctx, struct str path, struct str *contents_r, struct err *err)
{
	(void)path, (void)err;
	*contents_r = *(const struct str *)ctx;
	return 0;
}

static bool is_aliases(void *ctx, struct str path)
{
	(void)ctx;
	return str_eq(path, STR("/aliases"));
}

/* The same key must have the same answer twice, and of text tables in capitals as well. */
static void ask(const struct table *t, struct str key, bool any_case)
{
	struct err err = ERR_NONE;
	struct arena arena;
	struct str first = STR(""), second = STR("");
	char *loud;
	int rc, again;

	arena_init(&arena);
	rc = table_find(t, key, &arena, &first, &err);
	loud = arena_strz(&arena, key);
	for (size_t i = 0; any_case && i < key.len; i++)
		loud[i] = ascii_upper(loud[i]);
	again = table_find(t, str_of(loud, key.len), &arena, &second, &err);
	if (rc != again || (rc > 0 && !str_eq(first, second)))
		abort();
	arena_release(&arena);
}

static void visit(void *ctx, struct str key, struct str value)
{
	struct err err = ERR_NONE;
	struct arena arena;
	struct str found;

	arena_init(&arena);
	if (table_find(ctx, key, &arena, &found, &err) != 1 || !str_eq(found, value))
		abort();
	arena_release(&arena);
}

static void open_and_ask(const char *spec, bool any_case, struct str key, struct str file)
{
	struct buf warnings;
	struct table_source source = {.read = read_file, .is_aliases = is_aliases, .ctx = &file, .warnings = &warnings};
	struct err err = ERR_NONE;
	struct table *t;

	buf_init(&warnings, 1 << 20);
	t = table_open(str_from(spec), &source, &err);
	if (t == NULL && (err.kind == ERR_OK || err.text[0] == '\0'))
		abort();
	if (t) {
		ask(t, key, any_case);
		if (any_case)
			table_each(t, visit, t);
	}
	table_free(&t);
	buf_release(&warnings);
}

static void open_sealed(struct str bytes)
{
	int fd = fd_sealed("fuzz", bytes);
	struct err err = ERR_NONE;
	struct table_files *files = table_files_open(fd, &err);
	struct str path, contents;

	for (size_t at = 0; files && table_files_next(files, &at, &path);)
		if (table_files_read(files, path, &contents, &err) < 0)
			abort();
	table_files_free(&files);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = str_of(data, size), key, file = STR("");
	char *spec;

	if (size == 0 || size > 4096)
		return 0;
	rest = str_skip(rest, 1);
	(void)str_split(rest, '\n', &key, &file);
	switch (data[0] % 7) {
	case 0:
		open_and_ask("hash:/f", true, key, file);
		break;
	case 1:
		open_and_ask("hash:/aliases", true, key, file);
		break;
	case 2:
		/* The C library's own regcomp() takes any memory for nested counts. */
		if (str_chr(file, '{') < 0)
			open_and_ask("regexp:/f", false, key, file);
		break;
	case 3:
		open_and_ask("pcre:/f", false, key, file);
		break;
	case 4:
		open_and_ask("cidr:/f", false, key, file);
		break;
	case 5: /* the name itself */
		spec = str_dup(file);
		if (strstr(spec, "randmap") == NULL && strstr(spec, "regexp") == NULL)
			open_and_ask(spec, false, key, STR("a b\n"));
		free(spec);
		break;
	case 6:
		open_sealed(rest);
		break;
	}
	return 0;
}
