#include "relay/refused_logins.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/map.h"
#include "base/mem.h"
#include <openssl/evp.h>
#include <pthread.h>

struct refused {
	int64_t until_ms;
	char *said;
};

struct refused_logins {
	pthread_mutex_t lock;
	struct map *map; /* hash of a login_there -> struct refused */
	uint64_t key[2];
};

struct hash {
	unsigned char bytes[EVP_MAX_MD_SIZE];
	unsigned int len;
};

struct refused_logins *refused_logins_new(void)
{
	struct refused_logins *r = NEW(struct refused_logins);

	pthread_mutex_init(&r->lock, NULL);
	r->map = map_new();
	r->key[0] = random_u64();
	r->key[1] = random_u64();
	return r;
}

static void refused_free(struct refused *one)
{
	free(one->said);
	free(one);
}

/* Takes out all that is over by `now`. */
static void trim(struct refused_logins *r, int64_t now)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(r->map, &at, &key, &value);) {
		struct refused *one = value;

		if (one->until_ms > now)
			continue;
		map_remove(r->map, key);
		refused_free(one);
	}
}

void refused_logins_free(struct refused_logins **r)
{
	if (*r == NULL)
		return;
	trim(*r, INT64_MAX);
	map_free(&(*r)->map);
	pthread_mutex_destroy(&(*r)->lock);
	mem_wipe((*r)->key, sizeof((*r)->key));
	free(*r);
	*r = NULL;
}

/* Each part with its length, so that no two log-ins are the same bytes. */
static bool hash_of(const struct refused_logins *r, const struct login_there *l, struct hash *hash_r)
{
	const struct str parts[] = {l->host, l->user, l->password};
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
		    EVP_DigestUpdate(ctx, r->key, sizeof(r->key)) == 1;

	for (size_t i = 0; i < ARRAY_SIZE(parts) && good; i++)
		good = EVP_DigestUpdate(ctx, &parts[i].len, sizeof(parts[i].len)) == 1 &&
		       EVP_DigestUpdate(ctx, parts[i].ptr, parts[i].len) == 1;
	good = good && EVP_DigestFinal_ex(ctx, hash_r->bytes, &hash_r->len) == 1;
	EVP_MD_CTX_free(ctx);
	return good;
}

void refused_logins_add(struct refused_logins *r, const struct login_there *l, struct str said, int64_t keep_ms)
{
	struct refused *one, *before;
	struct hash hash;

	if (!hash_of(r, l, &hash))
		return;
	one = NEW(struct refused);
	one->until_ms = clock_ms() + keep_ms;
	one->said = mem_printf("%.*s", STR_ARG(said));
	pthread_mutex_lock(&r->lock);
	if (map_count(r->map) >= REFUSED_LOGINS_MAX)
		trim(r, clock_ms());
	if (map_count(r->map) >= REFUSED_LOGINS_MAX)
		trim(r, INT64_MAX);
	before = map_set(r->map, str_of((char *)hash.bytes, hash.len), one);
	pthread_mutex_unlock(&r->lock);
	if (before != NULL)
		refused_free(before);
}

bool refused_logins_find(struct refused_logins *r, const struct login_there *l, struct arena *arena, struct str *said_r)
{
	const struct refused *one;
	struct hash hash;
	bool found;

	if (!hash_of(r, l, &hash))
		return false;
	pthread_mutex_lock(&r->lock);
	one = map_get(r->map, str_of((char *)hash.bytes, hash.len));
	found = one != NULL && one->until_ms > clock_ms();
	if (found)
		*said_r = arena_str(arena, str_from(one->said));
	pthread_mutex_unlock(&r->lock);
	return found;
}
