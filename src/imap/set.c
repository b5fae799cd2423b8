#include "imap/set.h"
#include "base/vec.h"

static int by_first(const void *a, const void *b)
{
	const struct uid_range *x = a, *y = b;

	return (x->first > y->first) - (x->first < y->first);
}

size_t imap_ranges_merge(struct uid_range *v, size_t n)
{
	size_t out = 0;

	if (n > 1)
		qsort(v, n, sizeof(*v), by_first);
	for (size_t i = 0; i < n; i++) {
		if (out > 0 && v[i].first <= (uint64_t)v[out - 1].last + 1) {
			if (v[i].last > v[out - 1].last)
				v[out - 1].last = v[i].last;
		} else {
			v[out++] = v[i];
		}
	}
	return out;
}

bool imap_ranges_have(const struct uid_range *v, size_t n, uint32_t x)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (v[mid].last < x)
			low = mid + 1;
		else
			high = mid;
	}
	return low < n && v[low].first <= x;
}

void imap_seqs_add(struct arena *arena, struct imap_seqs *seqs, uint32_t x)
{
	if (seqs->n > 0 && seqs->v[seqs->n - 1].last + 1 == x)
		seqs->v[seqs->n - 1].last = x;
	else
		vec_push_arena(arena, seqs, ((struct uid_range){.first = x, .last = x}));
}

uint64_t imap_seqs_count(const struct imap_seqs *seqs)
{
	uint64_t count = 0;

	for (size_t i = 0; i < seqs->n; i++)
		count += (uint64_t)seqs->v[i].last - seqs->v[i].first + 1;
	return count;
}

/* UIDs first..last as sequence numbers; false if the view has none of them. */
static bool uids_to_seqs(const struct view *view, uint32_t first, uint32_t last, struct uid_range *r_r)
{
	size_t from = view_seq(view, first, true);
	size_t behind = last == UINT32_MAX ? 0 : view_seq(view, last + 1, true);
	size_t to = behind ? behind - 1 : view_count(view);

	if (from == 0 || from > to)
		return false;
	*r_r = (struct uid_range){.first = (uint32_t)from, .last = (uint32_t)to};
	return true;
}

bool imap_set_resolve(const struct imap_set *set, const struct view *view, bool uid, struct arena *arena,
		      struct imap_seqs *seqs_r)
{
	uint32_t count = (uint32_t)view_count(view);
	uint32_t star = uid && count ? view_at(view, count).uid : count;

	*seqs_r = (struct imap_seqs){0};
	for (size_t i = 0; i < set->n; i++) {
		uint32_t a = set->v[i].first ? set->v[i].first : star, b = set->v[i].last ? set->v[i].last : star;
		bool has_star = set->v[i].first == 0 || set->v[i].last == 0;
		struct uid_range r = {.first = a < b ? a : b, .last = a < b ? b : a};

		if (!uid && !has_star && r.last > count)
			return false;
		if (count == 0)
			continue;
		if (!uid && r.last > count)
			r.last = count; /* "9:*" of five messages: the last one is meant */
		if (!uid && r.first > count)
			r.first = count;
		if (r.first == 0 || (uid && !uids_to_seqs(view, r.first, r.last, &r)))
			continue;
		vec_push_arena(arena, seqs_r, r);
	}
	seqs_r->n = imap_ranges_merge(seqs_r->v, seqs_r->n);
	return true;
}

struct uid_range *imap_seqs_uids(const struct imap_seqs *seqs, const struct view *view, struct arena *arena)
{
	struct uid_range *v = ARENA_ARRAY(arena, struct uid_range, seqs->n + 1);

	for (size_t i = 0; i < seqs->n; i++)
		v[i] = (struct uid_range){.first = view_at(view, seqs->v[i].first).uid,
					  .last = view_at(view, seqs->v[i].last).uid};
	return v;
}
