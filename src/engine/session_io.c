/* The socket of a session, plain or TLS, and the buffers that running sessions borrow from their thread. */
#include "engine/private.h"

#include "base/mem.h"

#include <errno.h>
#include <openssl/err.h>
#include <sys/socket.h>

/* ---- buffers ---- */

#define CACHED 2

static __thread char *cached[CACHED];

void buffer_lend(struct buf *b, size_t max)
{
	buf_init(b, max);
	for (size_t i = 0; i < CACHED; i++) {
		if (cached[i] == NULL)
			continue;
		b->ptr = cached[i];
		b->ptr[0] = '\0';
		b->size = INPUT_SIZE;
		cached[i] = NULL;
		return;
	}
	if (buf_reserve(b, INPUT_SIZE) == NULL)
		b->failed = false; /* a smaller maximum: grows as needed */
}

/* b is empty. A buffer of the usual size is kept for the next session of this thread. */
void buffer_return(struct buf *b, size_t max)
{
	for (size_t i = 0; i < CACHED && b->size == INPUT_SIZE; i++) {
		if (cached[i])
			continue;
		cached[i] = b->ptr;
		b->size = 0;
		break;
	}
	buf_release(b);
	buf_init(b, max);
}

void buffers_thread_end(void)
{
	for (size_t i = 0; i < CACHED; i++) {
		free(cached[i]);
		cached[i] = NULL;
	}
}

/* ---- reading ---- */

void input_resize(struct session *s, size_t size)
{
	char *moved = mem_realloc(NULL, size + 1);

	memcpy(moved, s->in.ptr, s->in.len);
	moved[s->in.len] = '\0';
	mem_wipe(s->in.ptr, s->in.size);
	free(s->in.ptr);
	s->in.ptr = moved;
	s->in.size = size;
}

/* Room behind what is there: at least a little, at most what the session may hold. */
static size_t input_room(struct session *s)
{
	size_t room;

	if (s->in.size == 0)
		buffer_lend(&s->in, s->in.max);
	if (s->in_at > 0 && s->in.size - s->in.len < s->in.size / 2) {
		buf_consume(&s->in, s->in_at);
		s->in_at = 0;
	}
	room = s->in.size - s->in.len;
	if (room < 512) {
		room = s->in.max - s->in.len;
		if (room > s->in.size)
			room = s->in.size > 4096 ? s->in.size : 4096;
		if (room > s->in.max - s->in.len)
			room = s->in.max - s->in.len;
		input_resize(s, s->in.len + room);
	}
	return room;
}

static enum io_result tls_result(struct session *s, int n)
{
	switch (SSL_get_error(s->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		return IO_AGAIN_;
	case SSL_ERROR_WANT_WRITE:
		s->want_write = true;
		return IO_AGAIN_;
	case SSL_ERROR_ZERO_RETURN:
		return IO_END_;
	default:
		return IO_BROKEN_;
	}
}

static enum io_result fill_tls(struct session *s, char *to, size_t room)
{
	int n;

	ERR_clear_error();
	n = SSL_read(s->ssl, to, (int)room);
	if (n > 0) {
		buf_grow(&s->in, (size_t)n);
		s->key_updates = 0;
		session_came(s, (size_t)n);
		s->drained = !SSL_has_pending(s->ssl) && (size_t)n < room;
		return IO_DONE_;
	}
	return tls_result(s, n);
}

enum io_result session_fill(struct session *s)
{
	size_t room = input_room(s);
	char *to = room > 0 ? buf_reserve(&s->in, room) : NULL;
	ssize_t n;

	if (to == NULL)
		return IO_BROKEN_; /* a protocol that neither takes nor refuses what it has */
	if (s->ssl)
		return fill_tls(s, to, room);
	n = recv(s->fd, to, room, MSG_DONTWAIT);
	if (n > 0) {
		buf_grow(&s->in, (size_t)n);
		session_came(s, (size_t)n);
		s->drained = (size_t)n < room;
		return IO_DONE_;
	}
	if (n == 0)
		return IO_END_;
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? IO_AGAIN_ : IO_BROKEN_;
}

bool session_unread(struct session *s)
{
	char byte;

	if (s->ssl && SSL_has_pending(s->ssl))
		return true;
	return recv(s->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0;
}

/* ---- writing ---- */

ssize_t session_send(struct session *s, const void *data, size_t len, bool more)
{
	int n;

	if (s->ssl == NULL)
		return send(s->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
	ERR_clear_error();
	n = SSL_write(s->ssl, data, len > INT32_MAX ? INT32_MAX : (int)len);
	if (n > 0)
		return n;
	errno = tls_result(s, n) == IO_AGAIN_ ? EAGAIN : EPIPE;
	return -1;
}

/* ---- TLS ---- */

#define RECORD_HEAD 5
#define RECORD_MAX  (RECORD_HEAD + 16384)

/* What is looked at stays in the socket, which wakes us when the rest has come (or for an end or error: then what is
 * here has to do). */
bool session_hello_came(struct session *s)
{
	char here[RECORD_MAX];
	ssize_t n = recv(s->fd, here, sizeof(here), MSG_PEEK | MSG_DONTWAIT);
	int want = RECORD_HEAD, usual = 1;

	if (n >= RECORD_HEAD) {
		const uint8_t *head = (const uint8_t *)here;
		want = head[0] == SSL3_RT_HANDSHAKE ? RECORD_HEAD + (head[3] << 8 | head[4]) : 0;
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) || n >= want || want > RECORD_MAX ||
	    want <= s->hello_want) {
		if (s->hello_want > 0)
			setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &usual, sizeof(usual));
		s->hello_want = 0;
		return true;
	}
	s->hello_want = want;
	setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &want, sizeof(want));
	return false;
}

int session_tls_begin(struct session *s)
{
	struct tls_context *context = s->protocol->tls ? s->protocol->tls(s) : NULL;

	if (context == NULL)
		return -1;
	s->tls = context; /* its certificates are looked at until the hand-shake ends */
	s->ssl = tls_session_new(context, s);
	if (s->ssl == NULL || SSL_set_fd(s->ssl, s->fd) != 1)
		return -1;
	SSL_set_accept_state(s->ssl);
	return 0;
}

enum io_result session_handshake(struct session *s)
{
	enum io_result r;
	int n;

	ERR_clear_error();
	n = SSL_do_handshake(s->ssl);
	if (n == 1)
		return IO_DONE_;
	r = tls_result(s, n);
	if (r == IO_BROKEN_ || r == IO_END_)
		tls_log_errors("SSL_accept error", s->peer_text);
	return r;
}

void session_tls_end(struct session *s, bool orderly)
{
	if (s->ssl) {
		ERR_clear_error();
		if (orderly)
			SSL_shutdown(s->ssl);
		ERR_clear_error();
		SSL_free(s->ssl);
		s->ssl = NULL;
	}
	tls_context_unref(&s->tls);
}

bool session_is_tls(struct session *s)
{
	return s->ssl != NULL;
}

bool session_tls_info(struct session *s, struct session_tls *info_r)
{
	if (s->ssl == NULL)
		return false;
	info_r->protocol = SSL_get_version(s->ssl);
	info_r->cipher = SSL_get_cipher_name(s->ssl);
	info_r->bits = SSL_get_cipher_bits(s->ssl, &info_r->alg_bits);
	info_r->sni = SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);
	return true;
}

/* RFC 9266 2: 32 bytes under this label, with an empty context. */
static bool binding_exporter(SSL *ssl, char out[64], size_t *len_r)
{
	static const char label[] = "EXPORTER-Channel-Binding";

	if (SSL_version(ssl) < TLS1_3_VERSION ||
	    SSL_export_keying_material(ssl, (unsigned char *)out, 32, label, sizeof(label) - 1,
				       (const unsigned char *)"", 0, 1) != 1)
		return false;
	*len_r = 32;
	return true;
}

/* RFC 5929 3.1: the first Finished of the latest hand-shake: the client's in a full one, ours in a resumed
 * one. Without the extended master secret (RFC 7627) it does not bind, so it is not offered. */
static bool binding_unique(SSL *ssl, char out[64], size_t *len_r)
{
	size_t len;

	if (SSL_version(ssl) >= TLS1_3_VERSION || SSL_get_extms_support(ssl) != 1)
		return false;
	len = SSL_session_reused(ssl) ? SSL_get_finished(ssl, out, 64) : SSL_get_peer_finished(ssl, out, 64);
	*len_r = len;
	return len > 0 && len <= 64;
}

bool session_channel_binding(struct session *s, struct str type, char out[64], size_t *len_r)
{
	if (s->ssl == NULL)
		return false;
	if (str_eq(type, STR("tls-exporter")))
		return binding_exporter(s->ssl, out, len_r);
	if (str_eq(type, STR("tls-unique")))
		return binding_unique(s->ssl, out, len_r);
	return false;
}

void session_starttls(struct session *s)
{
	/* The reply that announces it is still to be flushed; step_tls() does both, in that order. */
	s->secured_due = true;
}
