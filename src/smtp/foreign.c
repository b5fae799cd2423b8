/* Domains of which nobody is here. See foreign.h. */
#include "smtp/foreign.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include <pthread.h>

#define DOMAINS_MAX 1000u /* at a time; what is believed for so short a time can be forgotten at once */
#define DOMAIN_SIZE 255u

struct foreign {
	pthread_mutex_t lock;
	struct map *until; /* domain in lower case -> when it ends (clock_ms()), as a pointer */
};

struct foreign *foreign_new(void)
{
	struct foreign *f = NEW(struct foreign);

	pthread_mutex_init(&f->lock, NULL);
	f->until = map_new();
	return f;
}

void foreign_free(struct foreign **fp)
{
	struct foreign *f = *fp;

	*fp = NULL;
	if (f == NULL)
		return;
	map_free(&f->until);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* False: no name that is kept. */
static bool key_of(struct str domain, char key[DOMAIN_SIZE], struct str *key_r)
{
	if (domain.len == 0 || domain.len > DOMAIN_SIZE)
		return false;
	for (size_t i = 0; i < domain.len; i++)
		key[i] = ascii_lower(domain.ptr[i]);
	*key_r = str_of(key, domain.len);
	return true;
}

void foreign_note(struct foreign *f, struct str domain)
{
	char text[DOMAIN_SIZE];
	struct str key;

	if (!key_of(domain, text, &key))
		return;
	pthread_mutex_lock(&f->lock);
	if (map_count(f->until) >= DOMAINS_MAX) {
		map_free(&f->until);
		f->until = map_new();
	}
	map_set(f->until, key, (void *)(intptr_t)(clock_ms() + FOREIGN_MS));
	pthread_mutex_unlock(&f->lock);
}

bool foreign_is(struct foreign *f, struct str domain)
{
	char text[DOMAIN_SIZE];
	struct str key;
	bool is;

	if (!key_of(domain, text, &key))
		return false;
	pthread_mutex_lock(&f->lock);
	is = (int64_t)(intptr_t)map_get(f->until, key) > clock_ms();
	pthread_mutex_unlock(&f->lock);
	return is;
}
