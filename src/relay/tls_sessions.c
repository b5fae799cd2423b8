/* See tls_sessions.h. A list, newest first: there are few, and a hand-shake costs more than to walk them all. */
#include "relay/tls_sessions.h"
#include "base/clock.h"
#include "base/mem.h"
#include <pthread.h>

struct kept {
	struct kept *next;
	SSL_SESSION *session;
	int64_t until_ms;
	char *key;
};

struct tls_sessions {
	pthread_mutex_t lock;
	struct kept *first;
	size_t count;
};

/* What a connection knows of the cache; goes with its SSL. */
struct user {
	struct tls_sessions *sessions;
	int64_t keep_ms;
	char *key;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int user_index;

static void user_free(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
	struct user *u = ptr;

	(void)parent, (void)data, (void)index, (void)argl, (void)argp;
	if (u == NULL)
		return;
	free(u->key);
	free(u);
}

static void make_index(void)
{
	user_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, user_free);
}

struct tls_sessions *tls_sessions_new(void)
{
	struct tls_sessions *s = NEW(struct tls_sessions);

	pthread_once(&once, make_index);
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

static void kept_free(struct kept *k)
{
	SSL_SESSION_free(k->session);
	free(k->key);
	free(k);
}

void tls_sessions_free(struct tls_sessions **s)
{
	struct kept *next;

	if (*s == NULL)
		return;
	for (struct kept *k = (*s)->first; k != NULL; k = next) {
		next = k->next;
		kept_free(k);
	}
	pthread_mutex_destroy(&(*s)->lock);
	free(*s);
	*s = NULL;
}

/* Under the lock: takes out what is over, what one key has too much of, and the oldest. */
static void trim(struct tls_sessions *s, struct str key)
{
	struct kept **at = &s->first;
	size_t same = 0, n = 0;
	int64_t now = clock_ms();

	while (*at != NULL) {
		struct kept *k = *at;

		same += str_eq(str_from(k->key), key);
		if (k->until_ms > now && n < SESSIONS_MAX &&
		    !(same > SESSIONS_A_KEY && str_eq(str_from(k->key), key))) {
			at = &k->next;
			n++;
			continue;
		}
		*at = k->next;
		s->count--;
		kept_free(k);
	}
}

/* OpenSSL's callback: in the hand-shake, with TLS 1.3 behind it. 1: the reference is ours now. */
static int keep(SSL *ssl, SSL_SESSION *session)
{
	const struct user *u = SSL_get_ex_data(ssl, user_index);
	struct kept *k;

	if (u == NULL || !SSL_SESSION_is_resumable(session))
		return 0;
	k = NEW(struct kept);
	*k = (struct kept){.session = session, .until_ms = clock_ms() + u->keep_ms, .key = str_dup(str_from(u->key))};
	pthread_mutex_lock(&u->sessions->lock);
	k->next = u->sessions->first;
	u->sessions->first = k;
	u->sessions->count++;
	trim(u->sessions, str_from(u->key));
	pthread_mutex_unlock(&u->sessions->lock);
	return 1;
}

void tls_sessions_enable(SSL_CTX *ctx)
{
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, keep);
}

/* The caller's reference, or NULL. */
static SSL_SESSION *take(struct tls_sessions *s, struct str key)
{
	SSL_SESSION *session = NULL;

	pthread_mutex_lock(&s->lock);
	trim(s, key);
	for (struct kept **at = &s->first; *at != NULL; at = &(*at)->next) {
		struct kept *k = *at;

		if (!str_eq(str_from(k->key), key))
			continue;
		session = k->session;
		SSL_SESSION_up_ref(session);
		if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION) {
			*at = k->next;
			s->count--;
			kept_free(k);
		}
		break;
	}
	pthread_mutex_unlock(&s->lock);
	return session;
}

void tls_sessions_use(struct tls_sessions *s, SSL *ssl, struct str key, int64_t keep_ms)
{
	struct user *u = NEW(struct user);
	SSL_SESSION *session = take(s, key);

	*u = (struct user){.sessions = s, .keep_ms = keep_ms, .key = str_dup(key)};
	if (SSL_set_ex_data(ssl, user_index, u) != 1)
		user_free(NULL, u, NULL, 0, 0, NULL);
	/* One that does not fit is not offered: a whole hand-shake is never wrong. */
	if (session != NULL)
		(void)SSL_set_session(ssl, session);
	SSL_SESSION_free(session);
}

size_t tls_sessions_count(struct tls_sessions *s)
{
	size_t n;

	pthread_mutex_lock(&s->lock);
	n = s->count;
	pthread_mutex_unlock(&s->lock);
	return n;
}
