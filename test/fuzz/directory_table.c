/* Look-up tables of any bytes, asked for any key: what is found is found again, in another case, too; nothing a table
 * does not know is taken from outside of it. The first byte chooses the type (its highest bit: postmap -f); the key is
 * the first line. Files that tables are made of, passed on, are what they were.
 *
 * Covers: src/directory/tables/table.c src/directory/tables/text.c src/directory/tables/rules.c
 * src/directory/tables/regexp.c src/directory/tables/pcre.c src/directory/tables/cidr.c src/directory/tables/combine.c
 * src/directory/tables/files.c */
#include "base/mem.h"
#include "directory/tables/files.h"
#include "directory/tables/table.h"
#include "os/fd.h"
#include <stdio.h>
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

/* It has an answer or none, and no fault. */
static void ask_once(const struct table *t, struct str key)
{
	struct err err = ERR_NONE;
	struct arena arena;
	struct str value = STR("");
	int rc;

	arena_init(&arena);
	rc = table_find(t, key, &arena, &value, &err);
	if (rc < -1 || rc > 1 || (rc < 0) != (err.kind != ERR_OK))
		abort();
	(void)str_hash(value, 1);
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

struct look {
	bool case_kept;
	bool any_case; /* a table of text */
	bool changes;  /* another answer each time */
};

static void open_and_ask(const char *spec, struct look look, struct str key, struct str file)
{
	struct buf warnings;
	struct table_source source = {.read = read_file,
				      .is_aliases = is_aliases,
				      .ctx = &file,
				      .warnings = &warnings,
				      .case_kept = look.case_kept};
	struct err err = ERR_NONE;
	struct table *t;

	buf_init(&warnings, 1 << 20);
	t = table_open(str_from(spec), &source, &err);
	if (t == NULL && (err.kind == ERR_OK || err.text[0] == '\0'))
		abort();
	if (t) {
		if (!str_eq(table_name(t), str_from(spec)) || (look.any_case && !table_takes_parts(t)) ||
		    (look.any_case && !table_is_quick(t)) || table_bytes(t) > 64 * (file.len + strlen(spec)) + 8192)
			abort();
		if (!look.changes)
			ask(t, key, look.any_case && !look.case_kept);
		else
			ask_once(t, key);
		if (look.any_case)
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

	/* One that could not be read, or is a list, is refused with a reason. */
	for (size_t at = 0; files && table_files_next(files, &at, &path);) {
		err = (struct err)ERR_NONE;
		if (table_files_read(files, path, &contents, &err) < 0 && err.kind == ERR_OK)
			abort();
	}
	table_files_free(&files);
	close(fd);
}

/* A file that is there, one that is not, a directory: read, sealed, opened again, given back. */
static void carry(struct str bytes)
{
	int file = fd_sealed("fuzz", bytes), sealed;
	struct table_files *files = table_files_new("/proc/self/fd"), *passed;
	struct str contents = STR(""), path;
	char name[24];
	size_t named = 0;

	snprintf(name, sizeof(name), "%d", file);
	if (table_files_read(files, str_from(name), &contents, NULL) < 0 || !str_eq(contents, bytes) ||
	    table_files_read(files, STR("missing"), &contents, NULL) == 0 ||
	    table_files_read(files, STR("/proc/self"), &contents, NULL) == 0)
		abort();
	sealed = table_files_seal(files, NULL);
	passed = table_files_open(sealed, NULL);
	if (passed == NULL || table_files_read(passed, str_from(name), &contents, NULL) < 0 ||
	    !str_eq(contents, bytes) || table_files_read(passed, STR("missing"), &contents, NULL) == 0)
		abort();
	table_files_drop(files);
	for (size_t at = 0; table_files_next(files, &at, &path); named++)
		if (table_files_read(files, path, &contents, NULL) == 0)
			abort();
	if (named != 3)
		abort();
	table_files_free(&passed);
	table_files_free(&files);
	close(sealed);
	close(file);
}

/* The C library's own regcomp() doubles its memory for each + in or behind another, and multiplies it for a count. */
static bool is_modest(struct str rules)
{
	size_t plus = 0;

	for (size_t i = 0; i < rules.len; i++)
		plus += rules.ptr[i] == '+';
	return plus <= 6 && str_chr(rules, '{') < 0;
}

/* The name itself is the next line, then the files. */
static void open_named(bool case_kept, struct str key, struct str rest)
{
	struct str line, file;
	char *spec;

	if (!str_split(rest, '\n', &line, &file))
		file = STR("a b\n");
	spec = str_dup(line);
	if (strstr(spec, "regexp") == NULL || is_modest(rest))
		open_and_ask(spec, (struct look){.case_kept = case_kept, .changes = strstr(spec, "randmap") != NULL},
			     key, file);
	free(spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = str_of(data, size), key, file = STR("");
	struct look text = {.any_case = true}, rules = {0};

	if (size == 0 || size > 4096)
		return 0;
	rest = str_skip(rest, 1);
	(void)str_split(rest, '\n', &key, &file);
	text.case_kept = rules.case_kept = data[0] >= 0x80;
	switch ((data[0] & 0x7f) % 8) {
	case 0:
		open_and_ask("hash:/f", text, key, file);
		break;
	case 1:
		open_and_ask("hash:/aliases", text, key, file);
		break;
	case 2:
		if (is_modest(file))
			open_and_ask("regexp:/f", rules, key, file);
		break;
	case 3:
		open_and_ask("pcre:/f", rules, key, file);
		break;
	case 4:
		open_and_ask("cidr:/f", rules, key, file);
		break;
	case 5:
		open_named(text.case_kept, key, file);
		break;
	case 6:
		open_sealed(rest);
		break;
	case 7:
		carry(rest);
		break;
	}
	return 0;
}
