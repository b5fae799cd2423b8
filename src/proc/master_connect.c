/* master_connect - connects relay to the UNIX sockets of LMTP servers (lmtp:unix:PATH), which its jail cannot name.
 *
 * Master is root, and relay reads what strangers say: only a path that the configuration itself names as one of LMTP is
 * connected to. It is looked for, as "lmtp...:unix:PATH", in the values of main.cf, in master.cf, and in the files of
 * look-up tables; what a database or another server answers does not count. Relative ones lie in the queue directory
 * (lmtp(8)). */
#include "base/mem.h"
#include "config/params.h"
#include "os/fd.h"
#include "os/net.h"
#include "proc/master.h"
#include <stdlib.h>

static bool ends_word(char c)
{
	return ascii_blank(c) || c == '\n' || c == '\r' || c == ',' || c == '}' || c == ';';
}

/* "lmtp" at the beginning of the word that ends here. */
static bool is_lmtp(struct str before)
{
	size_t at = before.len;

	while (at > 0 && !ends_word(before.ptr[at - 1]) && before.ptr[at - 1] != '=' && before.ptr[at - 1] != '{')
		at--;
	return str_istarts(str_skip(before, at), STR("lmtp"));
}

bool connect_is_named(struct str text, struct str path)
{
	struct str rest = text, marker = STR(":unix:");
	ptrdiff_t at;

	while ((at = str_find(rest, marker)) >= 0) {
		struct str before = str_of(text.ptr, (size_t)(rest.ptr - text.ptr) + (size_t)at);

		rest = str_skip(rest, (size_t)at + marker.len);
		if (str_starts(rest, path) && (rest.len == path.len || ends_word(rest.ptr[path.len])) &&
		    is_lmtp(before))
			return true;
	}
	return false;
}

static bool by_parameter(const struct conf *conf, struct str path)
{
	struct buf value;
	bool found = false;

	buf_init(&value, 1 << 20);
	for (size_t i = 0; i < PARAM_COUNT && !found; i++) {
		buf_clear(&value);
		found = conf_text(conf, str_from(PARAMS[i].name), &value) && connect_is_named(buf_str(&value), path);
	}
	buf_release(&value);
	return found;
}

static bool by_table(const struct master *m, struct str path)
{
	struct err err = ERR_NONE;
	struct table_files *files = table_files_open(m->tables_full, &err);
	struct str name, contents;
	bool found = false;

	for (size_t at = 0; files && !found && table_files_next(files, &at, &name);)
		found = table_files_read(files, name, &contents, &err) == 0 && connect_is_named(contents, path);
	table_files_free(&files);
	return found;
}

static int connect_to(const struct master *m, struct str path, struct err *err)
{
	char *directory, *full;
	int fd;

	if (path.len == 0 || memchr(path.ptr, '\0', path.len) != NULL ||
	    (!by_parameter(m->bundle->conf, path) && !connect_is_named(m->bundle->wire.master_cf, path) &&
	     !by_table(m, path)))
		return err_set(err, ERR_TEMP, "4.3.5", "no file of the configuration names lmtp:unix:%.*s",
			       STR_ARG(str_sub(path, 0, 200)));
	directory = bundle_queue_directory(m->bundle, m->dir);
	full = path.ptr[0] == '/' ? str_dup(path) : mem_printf("%s/%.*s", directory, STR_ARG(path));
	fd = net_connect_unix_now(full, err);
	free(full);
	free(directory);
	return fd;
}

void child_wants_connection(struct child *c, struct proc_packet *packet)
{
	struct err err = ERR_NONE;
	struct proc_connect ask;
	struct proc_connected answer = {.fd = -1};

	if (c->role != PROCESS_RELAY || proc_unpack(packet, &proc_connect_type, &ask, NULL) < 0)
		return;
	answer.id = ask.id;
	answer.fd = connect_to(c->master, ask.path, &err);
	answer.text = answer.fd < 0 ? str_from(err.text) : STR("");
	child_send(c, PROC_CONNECTED, &proc_connected_type, &answer);
	fd_close(&answer.fd);
}
