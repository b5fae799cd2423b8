/* bundle - see proc/bundle.h. */
#include "proc/bundle.h"
#include "base/mem.h"
#include "base/vec.h"
#include "config/instance.h"
#include "config/names.h"
#include "config/roles.h"
#include "deliver/notice.h"
#include "dns/service.h"
#include "os/fd.h"
#include "policy/policy.h"
#include "policy/rewriting.h"
#include "proc/bundle_client.h"
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <pwd.h>
#include <unistd.h>

#define CF_MAX	  ((size_t)1 << 20)
#define CERTS_MAX 16

int bundle_role_of(struct str command)
{
	if (str_eq(command, STR("smtpd")) || str_eq(command, STR("lmtp")) || str_eq(command, STR("pickup")))
		return PROCESS_SMTPD;
	if (str_eq(command, STR("imap")) || str_eq(command, STR("pop3")))
		return PROCESS_ACCESS;
	return 0;
}

static bool ours(const struct master_service *s)
{
	/* In Postfix a unix service "lmtp" or "smtp" is a client; only listeners are front ends. */
	if (str_eq(s->command, STR("pickup")))
		return s->type != SERVICE_INET;
	return s->type == SERVICE_INET && bundle_role_of(s->command) != 0;
}

bool bundle_is_listener(const struct master_service *s)
{
	return ours(s);
}

char *bundle_log_name(const struct conf *conf, const char *command)
{
	struct str before, after;
	struct buf name;
	char *text;

	buf_init(&name, 200);
	if (conf_text(conf, STR("syslog_name"), &name) && str_split(buf_str(&name), '/', &before, &after) && after.len)
		text = mem_printf("%.*s/%s", STR_ARG(after), command);
	else
		text = mem_strdup(command);
	buf_release(&name);
	return text;
}

/* ---- files ---- */

static const struct str *find_file(const struct bundle *b, struct str path)
{
	for (size_t i = 0; i < b->wire.files.n; i++)
		if (str_eq(b->wire.files.v[i].path, path))
			return &b->wire.files.v[i].contents;
	return NULL;
}

typedef VEC(struct proc_file) file_vec;

static int collect_file(struct bundle *b, file_vec *files, struct str path, struct err *err)
{
	struct proc_file file = {.path = arena_str(&b->arena, path)};

	b->wire.files.v = files->v;
	b->wire.files.n = files->n;
	if (path.len == 0 || find_file(b, path))
		return 0;
	if (path.ptr[0] != '/')
		return err_set(err, ERR_PERM, "", "\"%.*s\" must be an absolute path", STR_ARG(path));
	if (bundle_read_file(&b->arena, file.path.ptr, BUNDLE_FILE_MAX, &file.contents, err) < 0)
		return -1;
	vec_push_arena(&b->arena, files, file);
	b->wire.files.v = files->v;
	b->wire.files.n = files->n;
	return 0;
}

static int collect_files(struct bundle *b, file_vec *files, const struct conf *conf, struct err *err)
{
	struct str rest = conf->smtpd_tls_chain_files, path;

	while (conf_list_next(&rest, &path))
		if (collect_file(b, files, path, err) < 0)
			return -1;
	if (collect_file(b, files, conf->smtpd_tls_cert_file, err) < 0)
		return -1;
	return conf->smtpd_tls_cert_file.len ? collect_file(b, files, conf->smtpd_tls_key_file, err) : 0;
}

struct unused {
	const struct master_service *service;
	struct buf *warnings;
};

/* Whoever wrote a restriction counts on it: that it does nothing yet is said at every start. */
static void tell_unused(void *ctx, const char *parameter, struct str name)
{
	const struct unused *u = ctx;

	buf_addf(u->warnings, "service %.*s: %s: %.*s is not supported yet: it refuses and permits nobody\n",
		 STR_ARG(u->service->name), parameter, STR_ARG(name));
}

/* So is what counts for SMTP alone. */
static void unheard(void *ctx, const char *parameter)
{
	struct buf *names = ctx;

	buf_addf(names, "%s%s", names->len ? ", " : "", parameter);
}

static void tell_unheard(const struct conf *conf, const struct master_service *s, struct buf *warnings)
{
	struct buf names;

	buf_init(&names, 1000);
	policy_each_unheard_by_lmtp(conf, unheard, &names);
	if (names.len > 0)
		buf_addf(warnings, "service %.*s: mail that comes by LMTP is not subject to %.*s\n", STR_ARG(s->name),
			 STR_ARG(buf_str(&names)));
	buf_release(&names);
}

static int check_policy(const struct conf *conf, const struct master_service *s, struct buf *warnings, struct err *err)
{
	struct unused u = {.service = s, .warnings = warnings};

	if (str_eq(s->command, STR("lmtp")) && warnings)
		tell_unheard(conf, s, warnings);
	if (!str_eq(s->command, STR("smtpd")))
		return 0;
	if (policy_check(conf, err) < 0)
		return -1;
	if (warnings)
		policy_each_unused(conf, tell_unused, &u);
	return 0;
}

/* Every listener's configuration is made and its certificates are loaded, as its process will do. */
static int check_service(struct bundle *b, file_vec *files, const struct master_service *s, struct buf *warnings,
			 struct err *err)
{
	struct conf *conf = bundle_service_conf(b, s, err);
	struct tls_context *tls = NULL;
	int result = -1;

	if (conf && check_policy(conf, s, warnings, err) == 0 && collect_files(b, files, conf, err) == 0)
		result = bundle_tls(b, conf, &tls, err);
	tls_context_unref(&tls);
	conf_unref(&conf);
	return result < 0 ? err_context(err, "%s line %u (%.*s)", INSTANCE_MASTER_CF, s->line, STR_ARG(s->name)) : 0;
}

/* What its own settings rely on in vain; and that somebody may wait for it to listen. */
static void warn_of_service(const struct bundle *b, const struct master_service *s, struct buf *warnings)
{
	struct conf *conf = s->override_count > 0 && warnings != NULL ? bundle_service_conf(b, s, NULL) : NULL;
	char *where = mem_printf("service %.*s", STR_ARG(s->name));

	if (conf != NULL)
		conf_warn_own(conf, where, warnings);
	if (warnings != NULL && s->type == SERVICE_INET && bundle_role_of(s->command) == 0)
		buf_addf(warnings, "service %.*s (%.*s) is not supported yet: nobody listens there\n", STR_ARG(s->name),
			 STR_ARG(s->command));
	conf_unref(&conf);
	free(where);
}

/* ---- making one ---- */

static struct bundle *bundle_new(void)
{
	struct bundle *b = NEW(struct bundle);

	arena_init(&b->arena);
	b->refs = 1;
	return b;
}

static int parse(struct bundle *b, const char *dir, struct buf *warnings, struct err *err)
{
	char *main_cf = mem_printf("%s/%s", dir, INSTANCE_MAIN_CF),
	     *master_cf = mem_printf("%s/%s", dir, INSTANCE_MASTER_CF);
	int result = -1;

	b->conf = conf_parse(b->wire.main_cf, main_cf, warnings, err);
	if (b->conf)
		result = master_cf_parse(b->wire.master_cf, master_cf, &b->arena, &b->master_cf, err);
	free(main_cf);
	free(master_cf);
	return result;
}

/* What the process dns needs of files. That the default anchor is not installed is no reason not to start: answers are
 * then not validated, which is said. */
static int read_dns_files(struct bundle *b, struct buf *warnings, struct err *err)
{
	const struct conf *conf = b->conf;
	char *anchor = str_dup(conf->dns_trust_anchor_file);
	struct err why = ERR_NONE;
	int result = 0;

	if (dns_wants_resolv_conf(conf) &&
	    bundle_read_file(&b->arena, DNS_RESOLV_CONF, BUNDLE_FILE_MAX, &b->wire.resolv_conf, &why) < 0 && warnings)
		buf_addf(warnings, "%s: names are looked up from the root of the DNS\n", why.text);
	if (conf->dns_trust_anchor_file.len &&
	    bundle_read_file(&b->arena, anchor, BUNDLE_FILE_MAX, &b->wire.trust_anchor, &why) < 0) {
		if (conf_is_set(conf, STR("dns_trust_anchor_file")))
			result = err_set(err, ERR_PERM, "", "dns_trust_anchor_file: %s", why.text);
		else if (warnings)
			buf_addf(warnings, "%s (package dns-root-data): DNS answers are not validated\n", why.text);
	}
	free(anchor);
	return result;
}

static int check_dns(struct bundle *b, struct buf *warnings, struct err *err)
{
	struct dns_settings settings;
	int result;

	if (read_dns_files(b, warnings, err) < 0)
		return -1;
	result = dns_settings_parse(b->conf, b->wire.resolv_conf, b->wire.trust_anchor, &settings, err);
	if (result == 0)
		result = dns_settings_check(&settings, err);
	dns_settings_release(&settings);
	return result;
}

/* ---- notifications ---- */

struct bounce_templates *bundle_bounce_templates(const struct bundle *b, struct buf *warnings, struct err *err)
{
	char *path = str_dup(b->conf->bounce_template_file);
	struct bounce_templates *t = bounce_templates_new(b->wire.bounce_templates, path, b->conf, warnings, err);

	free(path);
	return t;
}

/* What relay would find wrong with the templates, and with notify_classes. */
static int check_notifications(struct bundle *b, struct buf *warnings, struct err *err)
{
	char *path = arena_strz(&b->arena, b->conf->bounce_template_file);
	struct bounce_templates *t;

	if (notice_check(b->conf, err) < 0 || rewriting_check(b->conf, warnings, err) < 0)
		return -1;
	if (path[0] != '\0' && path[0] != '/')
		return err_set(err, ERR_PERM, "", "bounce_template_file: \"%s\" must be an absolute path", path);
	if (path[0] != '\0' && bundle_read_file(&b->arena, path, BUNDLE_FILE_MAX, &b->wire.bounce_templates, err) < 0)
		return err_context(err, "bounce_template_file");
	t = bundle_bounce_templates(b, warnings, err);
	bounce_templates_unref(&t);
	return t == NULL && err->kind != ERR_OK ? -1 : 0;
}

/* The name of this host, and what stands in the file that myorigin names, go into the text: in a jail nobody can ask.
 */
static int add_names(struct bundle *b, struct err *err)
{
	struct buf text;
	int rc;

	buf_init(&text, CF_MAX);
	buf_add_str(&text, b->wire.main_cf);
	conf_add_hostname(&text);
	rc = conf_add_origin(&text, err);
	if (rc == 0 && !buf_failed(&text))
		b->wire.main_cf = arena_str(&b->arena, buf_str(&text));
	buf_release(&text);
	return rc;
}

/* With inet_interfaces = all, mail for user@[address] of this machine is mail for users of ours: a jail does not see
 * its addresses. Those of links are no names for anybody. */
static void add_interfaces(struct bundle *b)
{
	struct conf *conf = conf_parse(b->wire.main_cf, INSTANCE_MAIN_CF, NULL, NULL);
	struct ifaddrs *all = NULL;
	char address[NET_ADDR_TEXT];
	struct buf text;

	buf_init(&text, CF_MAX);
	if (conf != NULL && conf_list_ihas(conf->inet_interfaces, STR("all")) && getifaddrs(&all) == 0) {
		buf_addf(&text, "%.*s\nproxy_interfaces = %.*s", STR_ARG(b->wire.main_cf),
			 STR_ARG(conf->proxy_interfaces));
		for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
			sa_family_t family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
			struct net_addr a = {.len = family == AF_INET ? sizeof(a.v4) : sizeof(a.v6)};

			if (family != AF_INET && family != AF_INET6)
				continue;
			memcpy(&a.any, i->ifa_addr, a.len);
			if (!net_addr_is_loopback(&a) &&
			    !(family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&a.v6.sin6_addr)))
				buf_addf(&text, " %s", net_addr_text(&a, address));
		}
		buf_addc(&text, '\n');
		if (!buf_failed(&text))
			b->wire.main_cf = arena_str(&b->arena, buf_str(&text));
	}
	freeifaddrs(all);
	buf_release(&text);
	conf_unref(&conf);
}

/* Who may submit, by number, as the kernel will name him: a jail has no names. */
static void add_submitters(struct bundle *b)
{
	struct conf *conf = conf_parse(b->wire.main_cf, INSTANCE_MAIN_CF, NULL, NULL);
	struct str list = conf ? conf->authorized_submit_users : STR(""), item;
	struct buf text;

	if (conf == NULL || !conf_is_set(conf, STR("authorized_submit_users"))) {
		conf_unref(&conf);
		return;
	}
	buf_init(&text, CF_MAX);
	buf_add_str(&text, b->wire.main_cf);
	buf_addz(&text, "\nauthorized_submit_users =");
	while (conf_list_next(&list, &item)) {
		bool deny = str_starts(item, STR("!"));
		struct str name = str_skip(item, deny);
		const struct passwd *pw = getpwnam(arena_strz(&b->arena, name));

		if (pw != NULL)
			buf_addf(&text, " %s%u", deny ? "!" : "", (unsigned)pw->pw_uid);
		else
			buf_addf(&text, " %.*s", STR_ARG(item));
	}
	buf_addz(&text, "\n");
	if (!buf_failed(&text))
		b->wire.main_cf = arena_str(&b->arena, buf_str(&text));
	buf_release(&text);
	conf_unref(&conf);
}

/* main.cf of a Postfix often names its queue. There pickup and maildrop have the same names and another content, which
 * would be set aside as damaged. */
static int check_queue_directory(const struct bundle *b, const char *dir, struct err *err)
{
	static const char *const of_postfix[] = {"active", "incoming", "defer"};
	char *queue = bundle_queue_directory(b, dir);
	int found = 0, rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(of_postfix); i++) {
		char *path = mem_printf("%s/%s", queue, of_postfix[i]);

		found += access(path, F_OK) == 0;
		free(path);
	}
	if (found == (int)ARRAY_SIZE(of_postfix))
		rc = err_set(err, ERR_PERM, "",
			     "queue_directory: %s is the queue of a Postfix: leave the setting out, or name another "
			     "directory",
			     queue);
	free(queue);
	return rc;
}

struct bundle *bundle_read(const char *dir, struct buf *warnings, struct err *err)
{
	struct bundle *b = bundle_new();
	char *main_cf = mem_printf("%s/%s", dir, INSTANCE_MAIN_CF),
	     *master_cf = mem_printf("%s/%s", dir, INSTANCE_MASTER_CF);
	file_vec files = {0};
	int result = -1;

	if (bundle_read_file(&b->arena, main_cf, CF_MAX, &b->wire.main_cf, err) == 0 &&
	    bundle_read_file(&b->arena, master_cf, CF_MAX, &b->wire.master_cf, err) == 0 && add_names(b, err) == 0) {
		add_submitters(b);
		add_interfaces(b);
		result = parse(b, dir, warnings, err);
	}
	if (result == 0)
		result = check_queue_directory(b, dir, err);
	if (result == 0)
		result = check_notifications(b, warnings, err);
	if (result == 0)
		result = check_dns(b, warnings, err);
	for (size_t i = 0; i < b->master_cf.count && result == 0; i++)
		warn_of_service(b, &b->master_cf.services[i], warnings);
	for (size_t i = 0; i < b->master_cf.count && result == 0; i++)
		if (ours(&b->master_cf.services[i]))
			result = check_service(b, &files, &b->master_cf.services[i], warnings, err);
	free(main_cf);
	free(master_cf);
	if (result == 0 && (b->files = bundle_read_tables(b, dir, warnings, err)) == NULL)
		result = -1;
	if (result == 0)
		result = bundle_read_client(b, warnings, err);
	if (result < 0)
		bundle_unref(&b);
	return b;
}

struct bundle *bundle_open(int fd, const char *dir, struct err *err)
{
	struct bundle *b = bundle_new();
	off_t size = lseek(fd, 0, SEEK_END);
	char *bytes;

	/* pread: the descriptor's offset is shared with every other process that was given it. */
	if (size >= 0) {
		bytes = arena_alloc(&b->arena, (size_t)size + 1);
		if (pread(fd, bytes, (size_t)size, 0) == size &&
		    rpc_decode(&proc_bundle_type, str_of(bytes, (size_t)size), NULL, 0, &b->arena, &b->wire, err) ==
			    0 &&
		    parse(b, dir, NULL, err) == 0)
			return b;
	}
	if (err && err->kind == ERR_OK)
		err_errno(err, "cannot read the configuration");
	bundle_unref(&b);
	return NULL;
}

struct bundle *bundle_ref(struct bundle *b)
{
	__atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
	return b;
}

void bundle_unref(struct bundle **b)
{
	if (*b && __atomic_sub_fetch(&(*b)->refs, 1, __ATOMIC_ACQ_REL) == 0) {
		conf_unref(&(*b)->conf);
		for (size_t i = 0; i < (*b)->wire.files.n; i++) /* keys */
			mem_wipe((void *)(uintptr_t)(*b)->wire.files.v[i].contents.ptr,
				 (*b)->wire.files.v[i].contents.len);
		for (size_t i = 0; i < (*b)->wire.client_files.n; i++)
			mem_wipe((void *)(uintptr_t)(*b)->wire.client_files.v[i].contents.ptr,
				 (*b)->wire.client_files.v[i].contents.len);
		table_files_free(&(*b)->files);
		arena_release(&(*b)->arena);
		free(*b);
	}
	*b = NULL;
}

int bundle_seal(const struct bundle *b, enum bundle_for whom, struct err *err)
{
	struct proc_bundle wire = b->wire;
	size_t fd_count = 0;
	struct buf out;
	int fd = -1;

	if (whom != BUNDLE_LISTENERS)
		wire.files.n = 0;
	if (whom != BUNDLE_RELAY) {
		wire.client_files.n = 0;
		wire.client_sts_ca = wire.bounce_templates = STR("");
	}
	buf_init(&out, RPC_BYTES_MAX);
	if (rpc_encode(&proc_bundle_type, &wire, &out, NULL, &fd_count, err) == 0) {
		if (buf_failed(&out))
			err_set(err, ERR_LIMIT, "", "the configuration is larger than %u bytes", RPC_BYTES_MAX);
		else if ((fd = fd_sealed("postrider-conf", buf_str(&out))) < 0)
			err_errno(err, "cannot make a memory file");
	}
	mem_wipe(out.ptr, out.len);
	buf_release(&out);
	return fd;
}

/* ---- look-up tables ---- */

struct table_set *bundle_tables(const struct bundle *b, struct table_files *files, struct buf *warnings,
				struct err *err)
{
	struct table_set *set = table_set_new();
	int result = table_set_add(set, b->conf, files, warnings, err);

	for (size_t i = 0; i < b->master_cf.count && result == 0; i++) {
		const struct master_service *s = &b->master_cf.services[i];
		struct conf *conf = s->override_count > 0 ? bundle_service_conf(b, s, err) : NULL;

		if (conf && (result = table_set_add(set, conf, files, warnings, err)) < 0)
			err_context(err, "%s line %u (%.*s)", INSTANCE_MASTER_CF, s->line, STR_ARG(s->name));
		conf_unref(&conf);
	}
	if (result < 0)
		table_set_unref(&set);
	return set;
}

struct table_files *bundle_read_tables(const struct bundle *b, const char *dir, struct buf *warnings, struct err *err)
{
	struct table_files *files = table_files_new(dir);
	struct table_set *set = bundle_tables(b, files, warnings, err);

	if (set == NULL)
		table_files_free(&files);
	table_set_unref(&set);
	return files;
}

int bundle_take_tables(struct bundle *b, int fd, struct err *err)
{
	table_files_free(&b->files);
	b->files = table_files_open(fd, err);
	return b->files ? 0 : -1;
}

/* ---- asking ---- */

const struct master_service *bundle_service(const struct bundle *b, struct str name)
{
	for (size_t i = 0; i < b->master_cf.count; i++)
		if (ours(&b->master_cf.services[i]) && str_eq(b->master_cf.services[i].name, name))
			return &b->master_cf.services[i];
	return NULL;
}

struct conf *bundle_service_conf(const struct bundle *b, const struct master_service *s, struct err *err)
{
	return conf_override(b->conf, s->overrides, s->override_count, err);
}

/* ">=TLSv1.2", "<=TLSv1.3"; also several, separated by blanks or commas. */
static int protocol_range(struct arena *arena, struct str list, struct tls_options *o, struct err *err)
{
	struct str item;

	while (conf_list_next(&list, &item)) {
		if (str_starts(item, STR(">=")))
			o->min_protocol = arena_strz(arena, str_skip(item, 2));
		else if (str_starts(item, STR("<=")))
			o->max_protocol = arena_strz(arena, str_skip(item, 2));
		else if (!str_starts(item, STR("!")))
			return err_set(err, ERR_PERM, "", "smtpd_tls_protocols: \"%.*s\": say >=TLSv1.2 or <=TLSv1.3",
				       STR_ARG(item));
	}
	return 0;
}

static int named_cert(const struct bundle *b, struct str chain, struct str key, struct tls_cert *cert_r,
		      struct err *err)
{
	const struct str *chain_pem = find_file(b, chain), *key_pem = find_file(b, key);

	if (chain_pem == NULL || key_pem == NULL)
		return err_set(err, ERR_TEMP, "", "the certificate %.*s was not passed on", STR_ARG(chain));
	*cert_r = (struct tls_cert){*chain_pem, *key_pem};
	return 0;
}

int bundle_tls(const struct bundle *b, const struct conf *conf, struct tls_context **tls_r, struct err *err)
{
	struct tls_cert certs[CERTS_MAX];
	struct tls_options options = {.certs = certs, .min_protocol = "TLSv1.2"};
	struct str rest = conf->smtpd_tls_chain_files, path;
	struct arena arena;
	int result = 0;

	*tls_r = NULL;
	arena_init(&arena);
	while (result == 0 && options.cert_count < CERTS_MAX && conf_list_next(&rest, &path))
		result = named_cert(b, path, path, &certs[options.cert_count++], err);
	if (result == 0 && options.cert_count == 0 && conf->smtpd_tls_cert_file.len)
		result = named_cert(b, conf->smtpd_tls_cert_file, conf->smtpd_tls_key_file,
				    &certs[options.cert_count++], err);
	if (result == 0 && options.cert_count) {
		options.prefer_server_ciphers = conf->tls_preempt_cipherlist;
		if (conf->tls_high_cipherlist.len)
			options.ciphers = arena_strz(&arena, conf->tls_high_cipherlist);
		result = protocol_range(&arena, conf->smtpd_tls_protocols, &options, err);
		if (result == 0 && (*tls_r = tls_context_new(&options, err)) == NULL)
			result = conf->smtpd_tls_chain_files.len > 0 ? err_context(err, "smtpd_tls_chain_files")
								     : err_context(err, "certificate %.*s, key %.*s",
										   STR_ARG(conf->smtpd_tls_cert_file),
										   STR_ARG(conf->smtpd_tls_key_file));
	}
	arena_release(&arena);
	return result;
}

/* Some room for what is added to a message. */
#define FILE_SIZE_MARGIN ((uint64_t)1 << 20)

uint64_t bundle_file_size_max(const struct bundle *b)
{
	uint64_t most = (uint64_t)b->conf->message_size_limit;

	if (most == 0)
		return 0;
	for (size_t i = 0; i < b->master_cf.count; i++) {
		struct conf *conf = bundle_service_conf(b, &b->master_cf.services[i], NULL);
		uint64_t limit = conf ? (uint64_t)conf->message_size_limit : most;

		conf_unref(&conf);
		if (limit == 0)
			return 0;
		if (limit > most)
			most = limit;
	}
	return most + FILE_SIZE_MARGIN;
}

bool bundle_certificates_end(const struct bundle *b, int64_t *time_r, struct str *path_r)
{
	bool found = false;
	int64_t end;

	for (size_t i = 0; i < b->wire.files.n; i++) {
		const struct proc_file *f = &b->wire.files.v[i];

		if (!tls_pem_not_after(f->contents, &end) || (found && end >= *time_r))
			continue;
		*time_r = end;
		*path_r = f->path;
		found = true;
	}
	return found;
}

static char *directory(struct str configured, const char *dir, const char *fallback)
{
	return configured.len ? str_dup(configured) : mem_printf("%s/%s", dir, fallback);
}

char *bundle_queue_directory(const struct bundle *b, const char *dir)
{
	return directory(b->conf->queue_directory, dir, INSTANCE_SPOOL);
}

char *bundle_mailbox_base(const struct bundle *b, const char *dir)
{
	return directory(b->conf->virtual_mailbox_base, dir, INSTANCE_MAIL);
}
