/* See bundle_client.h. */
#include "proc/bundle_client.h"
#include "base/mem.h"
#include "base/vec.h"
#include "config/instance.h"
#include "os/fd.h"
#include "relay/hosts.h"
#include "relay/mx.h"
#include "relay/smtp_sts.h"
#include "relay/transport.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <unistd.h>

#define CLIENT_CA_MAX (3 << 20)

int bundle_read_file(struct arena *arena, const char *path, size_t max, struct str *out_r, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char *data = NULL;
	ssize_t len;

	if (fd < 0)
		return err_errno(err, "cannot open %s", path);
	len = fd_read_all(fd, max, &data, err);
	close(fd);
	if (len < 0)
		return err_context(err, "%s", path);
	*out_r = arena_str(arena, str_of(data, (size_t)len));
	mem_wipe(data, (size_t)len);
	free(data);
	return 0;
}

/* ---- the configurations ---- */

/* main.cf's first, then those of transports; behind each what LMTP makes of it. */
struct confs {
	VEC(struct conf *) list;
};

static int add_conf(struct confs *all, struct conf *conf, struct err *err)
{
	struct conf *lmtp;

	vec_push(&all->list, conf_ref(conf));
	if ((lmtp = remote_conf_lmtp(conf, err)) == NULL)
		return -1;
	vec_push(&all->list, lmtp);
	return 0;
}

static void confs_release(struct confs *all)
{
	for (size_t i = 0; i < all->list.n; i++)
		conf_unref(&all->list.v[i]);
	vec_release(&all->list);
}

/* Values of lmtp_NAME are those of smtp_NAME. */
static int confs_make(struct confs *all, struct conf *conf, const struct transports *ts, struct err *err)
{
	const struct transport *t;

	if (add_conf(all, conf, err) < 0)
		return -1;
	for (size_t i = 0; (t = transports_at(ts, i)) != NULL; i++)
		if (t->conf != conf && add_conf(all, t->conf, err) < 0)
			return err_context(err, "%s (%.*s)", INSTANCE_MASTER_CF, STR_ARG(t->name));
	return 0;
}

/* ---- files ---- */

struct reading {
	struct bundle *b;
	struct buf *warnings;
	VEC(struct proc_file) files;
};

static bool is_read(const struct reading *r, struct str path)
{
	for (size_t i = 0; i < r->files.n; i++)
		if (str_eq(r->files.v[i].path, path))
			return true;
	return false;
}

static void keep(struct reading *r, struct str path, struct str contents)
{
	struct proc_file file = {.path = arena_str(&r->b->arena, path), .contents = contents};

	vec_push_arena(&r->b->arena, &r->files, file);
}

static int read_one(struct reading *r, const char *parameter, struct str path, struct err *err)
{
	struct str contents;

	if (path.len == 0 || is_read(r, path))
		return 0;
	if (bundle_read_file(&r->b->arena, arena_strz(&r->b->arena, path), BUNDLE_FILE_MAX, &contents, err) < 0)
		return err_context(err, "%s", parameter);
	keep(r, path, contents);
	return 0;
}

static int read_list(struct reading *r, const char *parameter, struct str list, struct err *err)
{
	struct str path;

	while (conf_list_next(&list, &path))
		if (read_one(r, parameter, path, err) < 0)
			return -1;
	return 0;
}

/* As OpenSSL names them: eight digits, a dot, a number. */
static bool is_hashed_name(const char *name)
{
	struct str s = str_from(name);

	for (size_t i = 0; i < s.len; i++)
		if (i == 8 ? s.ptr[i] != '.' : !ascii_alnum(s.ptr[i]))
			return false;
	return s.len == 10;
}

static int read_into(struct arena *arena, const char *path, struct buf *out, struct err *err)
{
	struct str text;

	if (bundle_read_file(arena, path, BUNDLE_FILE_MAX, &text, err) < 0)
		return -1;
	buf_add_str(out, text);
	buf_addc(out, '\n');
	return 0;
}

/* All of them as one file of the directory's name. */
static int read_directory(struct reading *r, struct str path, struct err *err)
{
	struct arena *arena = &r->b->arena;
	DIR *dir = opendir(arena_strz(arena, path));
	const struct dirent *entry;
	struct buf all;
	int result = 0;

	if (dir == NULL)
		return err_errno(err, "smtp_tls_CApath: cannot open %.*s", STR_ARG(path));
	buf_init(&all, CLIENT_CA_MAX);
	while (result == 0 && (entry = readdir(dir)) != NULL)
		if (is_hashed_name(entry->d_name))
			result = read_into(arena, arena_printf(arena, "%.*s/%s", STR_ARG(path), entry->d_name).ptr,
					   &all, err);
	closedir(dir);
	if (result == 0 && buf_failed(&all))
		result = err_set(err, ERR_LIMIT, "", "smtp_tls_CApath: more than %d bytes", CLIENT_CA_MAX);
	if (result == 0)
		keep(r, path, arena_str(arena, buf_str(&all)));
	buf_release(&all);
	return result;
}

/* A system without one, or with one that is too long, goes by the DNS alone. */
static void read_hosts(struct reading *r, const struct conf *c)
{
	struct err err = ERR_NONE;

	if (mx_uses_hosts(c) && !is_read(r, STR(HOSTS_FILE)) &&
	    read_one(r, "smtp_host_lookup", STR(HOSTS_FILE), &err) < 0 && r->warnings)
		buf_addf(r->warnings, "%s\n", err.text);
}

static int read_conf_files(struct reading *r, const struct conf *c, struct err *err)
{
	read_hosts(r, c);
	if (read_one(r, "smtp_tls_CAfile", c->smtp_tls_CAfile, err) < 0 ||
	    read_one(r, "smtp_tls_cert_file", c->smtp_tls_cert_file, err) < 0 ||
	    (c->smtp_tls_cert_file.len > 0 && read_one(r, "smtp_tls_key_file", c->smtp_tls_key_file, err) < 0) ||
	    read_list(r, "smtp_tls_chain_files", c->smtp_tls_chain_files, err) < 0 ||
	    read_list(r, "smtp_tls_trust_anchor_file", c->smtp_tls_trust_anchor_file, err) < 0)
		return -1;
	if (c->smtp_tls_CApath.len > 0 && !is_read(r, c->smtp_tls_CApath))
		return read_directory(r, c->smtp_tls_CApath, err);
	return 0;
}

/* ---- tafile=, which stands in tables ---- */

/* What a table may name is not all that may be read: certificates and public keys are passed on, and nothing else. */
static struct str only_anchors(struct arena *arena, struct str pem)
{
	BIO *in = BIO_new_mem_buf(pem.ptr ? pem.ptr : "", (int)pem.len), *out = BIO_new(BIO_s_mem());
	char *name, *header, *text;
	unsigned char *der;
	struct str kept;
	long len;

	while (PEM_read_bio(in, &name, &header, &der, &len) == 1) {
		if (strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0 ||
		    strcmp(name, PEM_STRING_PUBLIC) == 0)
			PEM_write_bio(out, name, "", der, len);
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(der);
	}
	len = BIO_get_mem_data(out, &text);
	kept = arena_str(arena, str_of(text, (size_t)len));
	BIO_free(in);
	BIO_free(out);
	return kept;
}

/* One that cannot be read keeps nothing from starting: mail for its destinations waits. */
static void read_anchor(struct reading *r, struct str path)
{
	struct err err = ERR_NONE;
	struct str contents;

	if (path.len == 0 || path.ptr[0] != '/' || is_read(r, path))
		return;
	if (bundle_read_file(&r->b->arena, arena_strz(&r->b->arena, path), BUNDLE_FILE_MAX, &contents, &err) == 0)
		keep(r, path, only_anchors(&r->b->arena, contents));
	else if (r->warnings)
		buf_addf(r->warnings, "smtp_tls_policy_maps: tafile=%.*s: %s\n", STR_ARG(path), err.text);
}

static void find_anchors(struct reading *r, struct str text)
{
	static const struct str mark = STR("tafile=");
	struct str path;
	ptrdiff_t at;

	while ((at = str_ifind(text, mark)) >= 0) {
		text = str_skip(text, (size_t)at + mark.len);
		if (text.len > 0 && str_token(&(struct str){text.ptr, text.len}, " \t\r\n,}", &path) &&
		    path.ptr == text.ptr)
			read_anchor(r, path);
	}
}

/* In the tables themselves (inline:), and in the files that they are made of. */
static void find_all_anchors(struct reading *r, const struct conf *c)
{
	struct str list = c->smtp_tls_policy_maps, path, contents;

	if (list.len == 0)
		return;
	find_anchors(r, list);
	for (size_t at = 0; table_files_next(r->b->files, &at, &path);)
		if (str_find(list, path) >= 0 && table_files_read(r->b->files, path, &contents, NULL) == 0)
			find_anchors(r, contents);
}

/* ---- all of it ---- */

/* Who set nothing, and has no such file, goes without MTA-STS. */
static int read_sts_file(struct bundle *b, struct buf *warnings, struct err *err)
{
	const struct conf *conf = b->conf;
	struct err why = ERR_NONE;
	char *path = arena_strz(&b->arena, conf->smtp_mta_sts_CAfile);

	if (conf->smtp_mta_sts == MTA_STS_NO || conf->smtp_mta_sts_CAfile.len == 0 ||
	    bundle_read_file(&b->arena, path, BUNDLE_FILE_MAX, &b->wire.client_sts_ca, &why) == 0)
		return 0;
	b->wire.client_sts_ca = STR("");
	if (conf_is_set(conf, STR("smtp_mta_sts_CAfile")))
		return err_set(err, ERR_PERM, "", "smtp_mta_sts_CAfile: %s", why.text);
	if (warnings)
		buf_addf(warnings, "%s (package ca-certificates): MTA-STS policies are not fetched\n", why.text);
	return 0;
}

static int read_files(struct bundle *b, const struct confs *confs, struct buf *warnings, struct err *err)
{
	struct reading r = {.b = b, .warnings = warnings};
	int result = 0;

	for (size_t i = 0; i < confs->list.n && result == 0; i++)
		result = read_conf_files(&r, confs->list.v[i], err);
	for (size_t i = 0; i < confs->list.n && result == 0; i++)
		find_all_anchors(&r, confs->list.v[i]);
	b->wire.client_files.v = r.files.v;
	b->wire.client_files.n = r.files.n;
	return result < 0 ? result : read_sts_file(b, warnings, err);
}

static int give(const struct bundle *b, const struct confs *confs, struct remote *to, struct err *err)
{
	struct remote_tls_files files = {
		.sts_ca_pem = b->wire.client_sts_ca, .confs = confs->list.v, .conf_count = confs->list.n};
	struct remote_file *v = mem_alloc((b->wire.client_files.n + 1) * sizeof(*v));
	int result;

	for (; files.n < b->wire.client_files.n; files.n++)
		v[files.n] = (struct remote_file){b->wire.client_files.v[files.n].path,
						  b->wire.client_files.v[files.n].contents};
	files.v = v;
	result = remote_tls_files(to, &files, err);
	free(v);
	return result;
}

int bundle_read_client(struct bundle *b, struct buf *warnings, struct err *err)
{
	struct transports *ts = transports_new(&b->master_cf, b->conf, err);
	struct confs confs = {0};
	struct remote *r;
	int result = -1;

	if (ts != NULL && confs_make(&confs, b->conf, ts, err) == 0 && read_files(b, &confs, warnings, err) == 0) {
		r = remote_new(&(struct remote_env){.dns = NULL});
		result = give(b, &confs, r, err);
		remote_free(&r);
	}
	confs_release(&confs);
	transports_unref(&ts);
	return result;
}

int bundle_remote_tls(const struct bundle *b, const struct transports *ts, struct remote *r, struct err *err)
{
	struct confs confs = {0};
	int result = confs_make(&confs, b->conf, ts, err);

	if (result == 0)
		result = give(b, &confs, r, err);
	confs_release(&confs);
	return result;
}
