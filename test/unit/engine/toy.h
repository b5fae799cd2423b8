/* A toy line protocol over the engine, and a client for it; shared by the engine's tests. */
#ifndef TEST_ENGINE_TOY_H
#define TEST_ENGINE_TOY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/session.h"
#include "engine/tls.h"
#include "os/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* A test that waits in vain ends; under valgrind all takes its time. */
static UNUSED void end_within(unsigned seconds)
{
	alarm(getenv("UNDER_VALGRIND") ? 20 * seconds : seconds);
}

/* What the listener's service is. */
struct toy_service {
	struct tls_context *tls;
	int file; /* for FILE */
	int spill_fd;
	int64_t idle_ms;
	int64_t request_ms, min_rate; /* for session_set_deadline() */
	unsigned client_limit;	      /* 0: none */
	int try_ms;		      /* how long TRY takes, unless spill_fd is readable */
	_Atomic unsigned tries;
	bool spill_fails;
	const char *secret; /* where SECRET's line stood */
	_Atomic unsigned opened, closed, secured;
	_Atomic size_t unsent_max;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct session_ref ref; /* of the last WATCH */
	unsigned watching;
};

struct toy_state {
	struct toy_service *sv;
	uint64_t produced, to_produce;
	unsigned changes, agains;
	bool line_start, dot; /* DOT filter */
	bool append;
};

static bool toy_admit(struct session *s)
{
	const struct toy_service *sv = session_service(s);

	if (sv->request_ms)
		session_set_deadline(s, sv->request_ms, sv->min_rate);
	if (sv->client_limit == 0 || session_client_count(s) <= sv->client_limit)
		return true;
	session_printf(s, "too many from %s\n", session_peer_text(s));
	return false;
}

static enum next toy_open(struct session *s)
{
	struct toy_state *t = session_state(s);

	t->sv = session_service(s);
	t->sv->opened++;
	if (t->sv->idle_ms)
		session_set_timeout(s, t->sv->idle_ms);
	session_printf(s, "hello %s%s\n", session_peer_text(s), session_is_tls(s) ? " tls" : "");
	return NEXT_UNIT;
}

static ssize_t toy_frame(struct session *s, struct str in, size_t *scanned)
{
	ptrdiff_t lf = str_chr(str_skip(in, *scanned), '\n');
	size_t len;

	(void)s;
	if (lf < 0) {
		*scanned = in.len;
		return FRAME_MORE;
	}
	len = *scanned + (size_t)lf + 1;
	return len > 1000 ? FRAME_TOO_LONG : (ssize_t)len;
}

static enum next toy_too_long(struct session *s)
{
	session_write(s, STR("too long\n"));
	session_skip_line(s);
	return NEXT_UNIT;
}

static bool toy_produce(struct session *s, void *arg)
{
	struct toy_state *t = arg;
	static char block[8192];
	size_t n = t->to_produce - t->produced < sizeof(block) ? t->to_produce - t->produced : sizeof(block);
	size_t unsent;

	memset(block, 'p', sizeof(block));
	session_write(s, str_of(block, n));
	t->produced += n;
	unsent = session_unsent(s);
	if (unsent > t->sv->unsent_max)
		t->sv->unsent_max = unsent;
	return t->produced < t->to_produce;
}

static enum next toy_produced(struct session *s, void *arg)
{
	(void)arg;
	session_write(s, STR("\nproduced\n"));
	return NEXT_UNIT;
}

/* Ends at a line ".". */
static size_t toy_take(void *state, struct str in, struct buf *out, bool *done)
{
	struct toy_state *t = state;
	size_t i;

	for (i = 0; i < in.len; i++) {
		char c = in.ptr[i];
		if (t->dot && c == '\n') {
			*done = true;
			return i + 1;
		}
		if (t->line_start && c == '.' && !t->dot) {
			t->dot = true;
			continue;
		}
		t->dot = false;
		t->line_start = c == '\n';
		buf_addc(out, c);
	}
	return i;
}

static int toy_spill(struct session *s, void *arg, struct err *err)
{
	struct toy_service *sv = arg;

	(void)s;
	if (sv->spill_fails)
		return err_set(err, ERR_FULL, "4.3.1", "no room");
	return sv->spill_fd;
}

static enum next toy_bulk(struct session *s)
{
	const struct err *err = session_bulk_error(s);

	session_printf(s, "bulk %llu %08x %s%s%s mem %zu\n", (unsigned long long)session_bulk_size(s),
		       session_bulk_crc(s), session_bulk_spilled(s) ? "spilled" : "memory",
		       session_bulk_too_large(s) ? " toolarge" : "", err->kind != ERR_OK ? " error" : "",
		       session_bulk_memory(s).len);
	return NEXT_UNIT;
}

static enum next toy_begin_bulk(struct session *s, uint64_t count, bool dot, bool append)
{
	struct toy_state *t = session_state(s);
	struct bulk_options o = {.count = count,
				 .max = 1000000,
				 .memory_max = 10000,
				 .spill = toy_spill,
				 .spill_arg = t->sv,
				 .append = append};

	if (dot) {
		t->line_start = true;
		t->dot = false;
		o.filter.take = toy_take;
		o.filter.state = t;
	}
	session_bulk(s, &o);
	return NEXT_BULK;
}

static enum next toy_watch(struct session *s)
{
	struct toy_state *t = session_state(s);

	pthread_mutex_lock(&t->sv->lock);
	t->sv->ref = session_ref(s);
	t->sv->watching++;
	pthread_cond_broadcast(&t->sv->cond);
	pthread_mutex_unlock(&t->sv->lock);
	session_write(s, STR("watching\n"));
	return NEXT_UNIT;
}

static enum next toy_unit(struct session *s, struct str unit)
{
	struct toy_state *t = session_state(s);
	struct str line = str_trim(unit), word, rest;
	uint64_t n = 0;

	str_split(line, ' ', &word, &rest);
	if (rest.len > 0 && !str_to_u64(rest, &n))
		n = 0;
	if (str_eq(word, STR("ECHO"))) {
		session_printf(s, "%.*s\n", STR_ARG(rest));
		return NEXT_UNIT;
	}
	if (str_eq(word, STR("BULK")))
		return toy_begin_bulk(s, n, false, false);
	if (str_eq(word, STR("MORE")))
		return toy_begin_bulk(s, n, false, true);
	if (str_eq(word, STR("DOT")))
		return toy_begin_bulk(s, 0, true, false);
	if (str_eq(word, STR("PRODUCE"))) {
		t->produced = 0;
		t->to_produce = n;
		session_produce(s, toy_produce, t, toy_produced);
		return NEXT_PRODUCE;
	}
	if (str_eq(word, STR("FILE"))) {
		session_write(s, STR("<"));
		session_write_file(s, t->sv->file, 0, n, SLICE_CRLF);
		session_write(s, STR(">\n"));
		return NEXT_UNIT;
	}
	if (str_eq(word, STR("STARTTLS"))) {
		if (rest.len == 0 && session_input_pending(s)) {
			session_write(s, STR("pipelined\n"));
			return NEXT_UNIT;
		}
		session_write(s, STR("go\n"));
		session_starttls(s);
		return NEXT_TLS;
	}
	if (str_eq(word, STR("USER"))) {
		session_printf(s, "%u of them\n", session_user_count(s, n));
		return NEXT_UNIT;
	}
	if (str_eq(word, STR("SECRET"))) {
		session_transcript_hide(s, 0);
		t->sv->secret = unit.ptr;
		session_write(s, STR("taken\n"));
		return NEXT_UNIT;
	}
	if (str_eq(word, STR("WATCH")))
		return toy_watch(s);
	if (str_eq(word, STR("BLOCK"))) {
		engine_block_begin(BLOCK_FILTER);
		if (fd_wait(t->sv->spill_fd, POLLIN, 30000) <= 0)
			session_write(s, STR("nothing\n"));
		engine_block_end(BLOCK_FILTER);
		session_write(s, STR("unblocked\n"));
		return NEXT_UNIT;
	}
	if (str_eq(word, STR("AGAIN"))) {
		session_transcript_hide(s, 0);
		if (t->agains < n && session_is_again(s) == (t->agains > 0) && session_again(s)) {
			t->agains++;
			return NEXT_AGAIN;
		}
		session_printf(s, "again %u\n", t->agains);
		t->agains = 0;
		return NEXT_UNIT;
	}
	if (str_eq(word, STR("TRY"))) {
		if (!engine_block_try(n == 0 ? BLOCK_DIRECTORY : BLOCK_LOGIN)) {
			if (n == 2 && session_again(s))
				return NEXT_AGAIN;
			session_write(s, STR("too many\n"));
			return NEXT_UNIT;
		}
		t->sv->tries++;
		if (fd_wait(t->sv->spill_fd, POLLIN, t->sv->try_ms) < 0)
			session_write(s, STR("cannot wait\n"));
		engine_block_end(n == 0 ? BLOCK_DIRECTORY : BLOCK_LOGIN);
		session_write(s, STR("tried\n"));
		return NEXT_UNIT;
	}
	if (str_eq(word, STR("DELAY"))) {
		session_write(s, STR("delayed\n"));
		session_delay(s, (int64_t)n);
		return NEXT_UNIT;
	}
	if (str_eq(word, STR("QUIT"))) {
		session_write(s, STR("bye\n"));
		return NEXT_CLOSE;
	}
	session_write(s, STR("what\n"));
	return NEXT_UNIT;
}

static enum next toy_secured(struct session *s)
{
	struct toy_state *t = session_state(s);

	t->sv->secured++;
	return NEXT_UNIT;
}

static enum next toy_change(struct session *s)
{
	struct toy_state *t = session_state(s);

	session_printf(s, "change %u\n", ++t->changes);
	return NEXT_UNIT;
}

static enum next toy_timeout(struct session *s)
{
	session_write(s, STR("timeout\n"));
	return NEXT_CLOSE;
}

static enum next toy_stop(struct session *s)
{
	session_write(s, STR("stopping\n"));
	return NEXT_CLOSE;
}

static struct tls_context *toy_tls(struct session *s)
{
	struct toy_service *sv = session_service(s);

	return sv->tls ? tls_context_ref(sv->tls) : NULL;
}

static void toy_close(struct session *s)
{
	struct toy_state *t = session_state(s);

	pthread_mutex_lock(&t->sv->lock);
	t->sv->closed++;
	pthread_cond_broadcast(&t->sv->cond);
	pthread_mutex_unlock(&t->sv->lock);
}

static const struct protocol toy_protocol = {
	.name = "toy",
	.state_size = sizeof(struct toy_state),
	.input_max = 4096,
	.admit = toy_admit,
	.open = toy_open,
	.frame = toy_frame,
	.unit = toy_unit,
	.too_long = toy_too_long,
	.bulk = toy_bulk,
	.secured = toy_secured,
	.change = toy_change,
	.timeout = toy_timeout,
	.stop = toy_stop,
	.tls = toy_tls,
	.close = toy_close,
};

/* ---- an engine in a thread of its own ---- */

struct toy {
	struct engine *e;
	struct toy_service sv;
	pthread_t thread;
	struct engine_listener listener;
	uint16_t port;
	bool stopped;
};

static void *toy_run(void *arg)
{
	engine_run(arg);
	return NULL;
}

static struct toy *toy_new_limited(struct engine_limits limits, const struct engine_listener *like)
{
	struct toy *t = NEW(struct toy);
	struct err err = ERR_NONE;
	struct net_addr a = {.len = sizeof(a.v6)};

	pthread_mutex_init(&t->sv.lock, NULL);
	pthread_cond_init(&t->sv.cond, NULL);
	t->sv.spill_fd = t->sv.file = -1;
	t->e = engine_new(&limits);
	if (like)
		t->listener = *like;
	t->listener.protocol = &toy_protocol;
	t->listener.service = &t->sv;
	t->listener.fd = net_listen_tcp(STR("127.0.0.1"), 0, 128, &err);
	assert_true(t->listener.fd >= 0);
	assert_int_equal(getsockname(t->listener.fd, &a.any, &a.len), 0);
	t->port = net_addr_port(&a);
	engine_listen(t->e, &t->listener);
	return t;
}

static struct toy *toy_new(void)
{
	return toy_new_limited((struct engine_limits){.threads = 16}, NULL);
}

static void toy_start(struct toy *t)
{
	pthread_create(&t->thread, NULL, toy_run, t->e);
}

static void toy_end(struct toy *t)
{
	if (!t->stopped)
		engine_stop(t->e, 0);
	pthread_join(t->thread, NULL);
	assert_int_equal(engine_session_count(t->e), 0);
	engine_free(&t->e);
	assert_int_equal(t->sv.opened, t->sv.closed);
	tls_context_unref(&t->sv.tls);
	fd_close(&t->sv.file);
	fd_close(&t->sv.spill_fd);
	pthread_mutex_destroy(&t->sv.lock);
	pthread_cond_destroy(&t->sv.cond);
	free(t);
}

/* ---- a blocking client ---- */

struct client {
	int fd;
	SSL *ssl;
	SSL_CTX *ctx;
	char buf[65536];
	size_t at, len;
};

static UNUSED int toy_connect_fd(struct toy *t)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(t->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static UNUSED struct client *client_new(int fd)
{
	struct client *c = NEW(struct client);

	c->fd = fd;
	return c;
}

static UNUSED struct client *client_tcp(struct toy *t)
{
	return client_new(toy_connect_fd(t));
}

static UNUSED void client_send_len(struct client *c, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = c->ssl ? SSL_write(c->ssl, at, (int)len) : send(c->fd, at, len, MSG_NOSIGNAL);
		assert_true(n > 0);
		at += n;
		len -= (size_t)n;
	}
}

static UNUSED void client_send(struct client *c, const char *text)
{
	client_send_len(c, text, strlen(text));
}

/* Returns false at the end. */
static UNUSED bool client_fill(struct client *c)
{
	ssize_t n = c->ssl ? SSL_read(c->ssl, c->buf, sizeof(c->buf)) : recv(c->fd, c->buf, sizeof(c->buf), 0);

	c->at = 0;
	c->len = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static UNUSED bool client_line(struct client *c, char *out, size_t size)
{
	size_t n = 0;

	for (;;) {
		if (c->at == c->len && !client_fill(c))
			return false;
		if (c->buf[c->at] == '\n')
			break;
		if (n + 1 < size)
			out[n++] = c->buf[c->at];
		c->at++;
	}
	c->at++;
	out[n] = '\0';
	return true;
}

#define expect_line(c, want)                                                                                           \
	do {                                                                                                           \
		char line_[2000];                                                                                      \
		assert_true(client_line((c), line_, sizeof(line_)));                                                   \
		assert_string_equal(line_, (want));                                                                    \
	} while (0)
#define expect_end(c)                                                                                                  \
	do {                                                                                                           \
		char line_[2000];                                                                                      \
		assert_false(client_line((c), line_, sizeof(line_)));                                                  \
	} while (0)

static UNUSED void client_tls(struct client *c, const char *sni, int max_version)
{
	c->ctx = SSL_CTX_new(TLS_client_method());
	if (max_version)
		SSL_CTX_set_max_proto_version(c->ctx, max_version);
	c->ssl = SSL_new(c->ctx);
	SSL_set_fd(c->ssl, c->fd);
	if (sni)
		SSL_set_tlsext_host_name(c->ssl, sni);
	assert_int_equal(SSL_connect(c->ssl), 1);
}

static UNUSED void client_free(struct client *c)
{
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
	close(c->fd);
	free(c);
}

/* ---- certificates ---- */

static UNUSED struct tls_cert cert_make(const char *name, bool ec)
{
	EVP_PKEY *key = ec ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
	X509 *x = X509_new();
	X509_EXTENSION *ext;
	X509V3_CTX v3;
	BIO *bio = BIO_new(BIO_s_mem());
	struct tls_cert cert;
	char san[200], *data;
	long len;

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
				   0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_set_pubkey(x, key);
	snprintf(san, sizeof(san), "DNS:%s", name);
	X509V3_set_ctx(&v3, x, x, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &v3, NID_subject_alt_name, san);
	X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	X509_sign(x, key, EVP_sha256());
	PEM_write_bio_X509(bio, x);
	len = BIO_get_mem_data(bio, &data);
	cert.chain_pem = str_of(str_dup(str_of(data, (size_t)len)), (size_t)len);
	(void)BIO_reset(bio);
	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	len = BIO_get_mem_data(bio, &data);
	cert.key_pem = str_of(str_dup(str_of(data, (size_t)len)), (size_t)len);
	BIO_free(bio);
	X509_free(x);
	EVP_PKEY_free(key);
	return cert;
}

static UNUSED void cert_drop(struct tls_cert *c)
{
	free((char *)(uintptr_t)c->chain_pem.ptr);
	free((char *)(uintptr_t)c->key_pem.ptr);
}

#endif
