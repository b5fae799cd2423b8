/* verified - see verified.h. */
#include "directory/verified.h"
#include "base/encode.h"
#include "base/mem.h"
#include "directory/password.h"
#include <openssl/hmac.h>
#include <pthread.h>

#define DIGEST_LEN 32
/* A pair may stand in any place of its row; in a full row it takes that of the one that ends first. */
#define ROWS	   4096u
#define ROW_PLACES 4u

struct place {
	int64_t until_ms; /* 0: free */
	uint8_t digest[DIGEST_LEN];
};

struct verified {
	pthread_mutex_t lock; /* of the places */
	uint8_t key[DIGEST_LEN];
	struct place rows[ROWS][ROW_PLACES];
};

struct verified *verified_new(void)
{
	struct verified *v = NEW(struct verified);

	pthread_mutex_init(&v->lock, NULL);
	random_bytes(v->key, sizeof(v->key));
	return v;
}

void verified_free(struct verified **v)
{
	if (*v == NULL)
		return;
	pthread_mutex_destroy(&(*v)->lock);
	mem_wipe(*v, sizeof(**v));
	free(*v);
	*v = NULL;
}

void verified_clear(struct verified *v)
{
	pthread_mutex_lock(&v->lock);
	mem_wipe(v->rows, sizeof(v->rows));
	pthread_mutex_unlock(&v->lock);
}

/* The length of the hash stands in front, so that no byte can move from one to the other. */
static bool digest_of(const struct verified *v, struct str stored, struct str password, uint8_t out[DIGEST_LEN])
{
	uint64_t len = stored.len;
	size_t size = sizeof(len) + stored.len + password.len;
	unsigned char *text = mem_alloc(size);
	unsigned out_len = 0;
	bool ok;

	memcpy(text, &len, sizeof(len));
	if (stored.len > 0)
		memcpy(text + sizeof(len), stored.ptr, stored.len);
	if (password.len > 0)
		memcpy(text + sizeof(len) + stored.len, password.ptr, password.len);
	ok = HMAC(EVP_sha256(), v->key, (int)sizeof(v->key), text, size, out, &out_len) != NULL &&
	     out_len == DIGEST_LEN;
	mem_wipe(text, size);
	free(text);
	return ok;
}

static struct place *row_of(struct verified *v, const uint8_t digest[DIGEST_LEN])
{
	uint32_t n;

	memcpy(&n, digest, sizeof(n));
	return v->rows[n % ROWS];
}

static bool is_known(struct verified *v, const uint8_t digest[DIGEST_LEN], int64_t now_ms)
{
	const struct place *row = row_of(v, digest);
	bool known = false;

	pthread_mutex_lock(&v->lock);
	for (size_t i = 0; i < ROW_PLACES; i++)
		known |= row[i].until_ms > now_ms && memcmp(row[i].digest, digest, DIGEST_LEN) == 0;
	pthread_mutex_unlock(&v->lock);
	return known;
}

static void remember(struct verified *v, const uint8_t digest[DIGEST_LEN], int64_t until_ms)
{
	struct place *row = row_of(v, digest), *to = row;

	pthread_mutex_lock(&v->lock);
	for (size_t i = 0; i < ROW_PLACES; i++) {
		if (memcmp(row[i].digest, digest, DIGEST_LEN) == 0) {
			to = &row[i];
			break;
		}
		if (row[i].until_ms < to->until_ms)
			to = &row[i];
	}
	memcpy(to->digest, digest, DIGEST_LEN);
	to->until_ms = until_ms;
	pthread_mutex_unlock(&v->lock);
}

bool verified_has(struct verified *v, struct str stored, struct str password, int64_t now_ms)
{
	uint8_t digest[DIGEST_LEN];

	return digest_of(v, stored, password, digest) && is_known(v, digest, now_ms);
}

bool verified_password(struct verified *v, struct str stored, struct str password, int64_t keep_ms, int64_t now_ms)
{
	uint8_t digest[DIGEST_LEN];
	bool digested = keep_ms > 0 && password_check(password, NULL) == 0 && digest_of(v, stored, password, digest);

	if (digested && is_known(v, digest, now_ms))
		return true;
	if (!password_verify(stored, password))
		return false;
	if (digested)
		remember(v, digest, now_ms + keep_ms);
	return true;
}
