/* A search and a message, separated by a NUL: parsed, and matched against each other.
 *
 * Covers: src/imap/search_parse.c src/imap/search_match.c */
#include "imap/search.h"

static struct message_meta meta;
static struct summary summary;
static struct str message;

static const struct message_meta *get_meta(struct imap_candidate *c)
{
	(void)c;
	return &meta;
}

static const struct summary *get_summary(struct imap_candidate *c)
{
	(void)c;
	return &summary;
}

static const struct str *get_message(struct imap_candidate *c)
{
	(void)c;
	return &message;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct imap_candidate c = {.seq = 1, .meta = get_meta, .summary = get_summary, .message = get_message};
	struct imap_search search;
	struct imap_parser p;
	struct arena arena;
	struct str command;

	arena_init(&arena);
	if (str_split(str_of(data, size), '\0', &command, &message)) {
		imap_parser_init(&p, command, &arena);
		summary_parse(message, &arena, &summary);
		if (imap_search_parse(&p, NULL, &search))
			(void)imap_search_match(search.root, &c);
		imap_candidate_release(&c);
	}
	arena_release(&arena);
	return 0;
}
