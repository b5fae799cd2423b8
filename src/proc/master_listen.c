/* master_listen - listening sockets: opened once, kept by master, lent to the front ends. */
#include "base/log.h"
#include "base/mem.h"
#include "config/instance.h"
#include "os/fd.h"
#include "os/net.h"
#include "proc/master.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define HANDOVER "POSTRIDER_LISTENING"

static void listening_free(struct listening *l)
{
	fd_close(&l->fd);
	free(l->service);
	free(l->address);
	free(l->kind);
	free(l);
}

/* What the process that serves it has to know of the whole socket: how a connection begins, and what it is called. */
static char *kind_of(const struct bundle *b, const struct master_service *s)
{
	struct conf *conf = bundle_service_conf(b, s, NULL);
	bool imap = str_eq(s->command, STR("imap")), pop3 = str_eq(s->command, STR("pop3")), wrapper = false,
	     proxy = false;
	char *command = str_dup(s->command), *name = NULL, *kind;

	if (conf != NULL) {
		wrapper = imap	 ? conf->imap_tls_wrappermode
			  : pop3 ? conf->pop3_tls_wrappermode
				 : conf->smtpd_tls_wrappermode;
		proxy = conf->smtpd_upstream_proxy_protocol != 0 && str_eq(s->command, STR("smtpd"));
	}
	if (conf != NULL)
		name = bundle_log_name(conf, command);
	kind = mem_printf("%s %s%s%s", command, name ? name : "", wrapper ? " tls" : "", proxy ? " proxy" : "");
	conf_unref(&conf);
	free(command);
	free(name);
	return kind;
}

/* One that came through a restart becomes what the configuration says: all begins anew. */
static struct listening *find(struct master *m, struct str service, const char *address, const char *kind)
{
	for (size_t i = 0; i < m->sockets.n; i++) {
		struct listening *l = m->sockets.v[i];

		if (strcmp(l->address, address) != 0 || !str_eq(str_from(l->service), service))
			continue;
		if (l->kind == NULL)
			l->kind = mem_strdup(kind);
		if (strcmp(l->kind, kind) == 0)
			return l;
	}
	return NULL;
}

/* From all addresses to one, or back, or to another protocol: what is open is in the way of the new one, and is closed
 * only when everything else of the new configuration is in order. */
static int listen_beside(const struct master *m, struct str host, uint16_t port, struct err *err)
{
	char *suffix = mem_printf(":%u", port);
	VEC(int) ours = {0};
	int fd = -1;

	for (size_t i = 0; i < m->sockets.n; i++)
		if (!m->sockets.v[i]->wanted && str_ends(str_from(m->sockets.v[i]->address), str_from(suffix)))
			vec_push(&ours, m->sockets.v[i]->fd);
	if (ours.n)
		fd = net_listen_tcp_beside(host, port, LISTEN_BACKLOG, ours.v, ours.n, err);
	vec_release(&ours);
	free(suffix);
	return fd;
}

/* With `open` the socket is opened if it is not there yet; without, one that is there is only marked. */
static int open_one(struct master *m, const struct bundle *b, const struct master_service *s, struct str host,
		    bool open, struct err *err)
{
	char *address = mem_printf("%.*s:%u", STR_ARG(host), s->port), *kind = kind_of(b, s);
	struct listening *l = find(m, s->name, address, kind);
	int fd = -1, rc = 0;

	if (l == NULL && open) {
		fd = net_listen_tcp(host, s->port, LISTEN_BACKLOG, err);
		if (fd < 0 && errno == EADDRINUSE)
			fd = listen_beside(m, host, s->port, err);
		if (fd < 0)
			rc = err_context(err, "service %.*s", STR_ARG(s->name));
	}
	if (fd >= 0) {
		l = NEW(struct listening);
		*l = (struct listening){.service = str_dup(s->name),
					.address = mem_strdup(address),
					.kind = mem_strdup(kind),
					.fd = fd};
		vec_push(&m->sockets, l);
	}
	if (l != NULL) {
		l->role = (enum process_role)bundle_role_of(s->command);
		l->wanted = true;
	}
	free(address);
	free(kind);
	return rc;
}

/* inet_protocols, as in Postfix, is also what is listened to. */
static bool speaks(const struct bundle *b, const char *protocol)
{
	return conf_list_ihas(b->conf->inet_protocols, STR("all")) ||
	       conf_list_ihas(b->conf->inet_protocols, str_from(protocol));
}

/* Where there is no IPv6, IPv4 has to do. */
static int open_loopback(struct master *m, const struct bundle *b, const struct master_service *s, bool open,
			 struct err *err)
{
	bool v4 = speaks(b, "ipv4");

	if (v4 && open_one(m, b, s, STR("127.0.0.1"), open, err) < 0)
		return -1;
	if (speaks(b, "ipv6") && open_one(m, b, s, STR("::1"), open, v4 ? NULL : err) < 0) {
		if (!v4)
			return -1;
		log_debug("service %.*s: no IPv6 loopback", STR_ARG(s->name));
	}
	return 0;
}

static int open_everywhere(struct master *m, const struct bundle *b, const struct master_service *s, bool open,
			   struct err *err)
{
	const char *host = !speaks(b, "ipv6") ? "0.0.0.0" : !speaks(b, "ipv4") ? "::" : "";

	return open_one(m, b, s, str_from(host), open, err);
}

/* Local submission: everybody may connect, the kernel says who he is. The name is without the directory: a restart
 * finds it by that. */
static int open_local(struct master *m, const struct bundle *b, const struct master_service *s, bool open,
		      struct err *err)
{
	char *address = mem_printf("unix:" INSTANCE_PUBLIC "/%.*s", STR_ARG(s->name)), *directory, *path;
	struct listening *l = find(m, s->name, address, "pickup");
	int fd;

	if (l == NULL && open) {
		directory = bundle_queue_directory(b, m->dir);
		path = mem_printf("%s/%s", directory, address + strlen("unix:"));
		fd = net_listen_unix(path, 0666, LISTEN_BACKLOG, err);
		free(path);
		free(directory);
		if (fd < 0) {
			free(address);
			return err_context(err, "service %.*s", STR_ARG(s->name));
		}
		l = NEW(struct listening);
		*l = (struct listening){.service = str_dup(s->name),
					.address = mem_strdup(address),
					.kind = mem_strdup("pickup"),
					.fd = fd};
		vec_push(&m->sockets, l);
	}
	if (l != NULL) {
		l->role = (enum process_role)bundle_role_of(s->command);
		l->wanted = true;
	}
	free(address);
	return 0;
}

/* inet_interfaces: all, loopback-only, or addresses; for a service that names no host itself. */
static int open_service(struct master *m, const struct bundle *b, const struct master_service *s, bool open,
			struct err *err)
{
	struct str rest = b->conf->inet_interfaces, host;

	if (s->type != SERVICE_INET)
		return open_local(m, b, s, open, err);
	if (s->host.len)
		return open_one(m, b, s, s->host, open, err);
	while (conf_list_next(&rest, &host)) {
		int result;

		if (str_ieq(host, STR("all")))
			result = open_everywhere(m, b, s, open, err);
		else if (str_ieq(host, STR("loopback-only")))
			result = open_loopback(m, b, s, open, err);
		else
			result = open_one(m, b, s, host, open, err);
		if (result < 0)
			return -1;
	}
	return 0;
}

static int open_all(struct master *m, const struct bundle *b, bool open, struct err *err)
{
	for (size_t i = 0; i < b->master_cf.count; i++) {
		const struct master_service *s = &b->master_cf.services[i];

		if (bundle_is_listener(s) && open_service(m, b, s, open, err) < 0)
			return -1;
	}
	return 0;
}

int listening_open(struct master *m, const struct bundle *b, size_t *fresh_r, struct err *err)
{
	*fresh_r = m->sockets.n;
	for (size_t i = 0; i < m->sockets.n; i++)
		m->sockets.v[i]->wanted = false;
	(void)open_all(m, b, false, NULL);
	if (open_all(m, b, true, err) < 0) {
		listening_close_from(m, *fresh_r);
		return -1;
	}
	return 0;
}

void listening_drop_stale(struct master *m, const struct bundle *b)
{
	(void)open_all(m, b, false, NULL);
	listening_close_unwanted(m);
}

void listening_close_from(struct master *m, size_t first)
{
	while (m->sockets.n > first)
		listening_free(m->sockets.v[--m->sockets.n]);
}

void listening_close_unwanted(struct master *m)
{
	for (size_t i = m->sockets.n; i-- > 0;) {
		struct listening *l = m->sockets.v[i];

		if (l->wanted)
			continue;
		log_info("no longer listening on %s", l->address);
		shutdown(l->fd, SHUT_RDWR); /* ends the listening for its process, too */
		listening_free(l);
		vec_remove(&m->sockets, i);
	}
}

void listening_export(struct master *m)
{
	struct buf list;

	buf_init(&list, 100000);
	for (size_t i = 0; i < m->sockets.n; i++) {
		const struct listening *l = m->sockets.v[i];
		int fd = fcntl(l->fd, F_DUPFD, 10); /* without close-on-exec */

		if (fd >= 0)
			buf_addf(&list, "%d=%s=%s ", fd, l->address, l->service);
	}
	setenv(HANDOVER, list.ptr, 1);
	buf_release(&list);
}

void listening_import(struct master *m)
{
	const char *value = getenv(HANDOVER);
	struct str rest = str_from(value), item, number, address, service;
	uint32_t fd;

	while (str_token(&rest, " ", &item)) {
		struct listening *l;

		if (!str_split(item, '=', &number, &item) || !str_split(item, '=', &address, &service) ||
		    !str_to_u32(number, &fd) || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
			continue;
		l = NEW(struct listening);
		*l = (struct listening){.service = str_dup(service), .address = str_dup(address), .fd = (int)fd};
		vec_push(&m->sockets, l);
	}
	unsetenv(HANDOVER);
}
