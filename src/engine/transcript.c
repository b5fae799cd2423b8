/* Session transcripts: each line in ("<") and out (">") to the log, for debug_peer_list; or kept in memory, the first
 * lines and the last ones, for who tells somebody of the session when it is over.
 *
 * The unit that runs is logged with the first output of its handler, or at its end, so that the handler can
 * say before how much of it is a secret. */
#include "engine/private.h"

#include "base/log.h"
#include "base/mem.h"

#define SHOWN_MAX     1000u
#define KEPT_LINE_MAX 500u
#define KEPT_FIRST    2500u
#define KEPT_LAST     8000u

struct kept {
	struct buf first, last;
	unsigned left_out; /* lines between them */
};

/* Room for one more of the last lines: half of them go. */
static void kept_shift(struct kept *k)
{
	size_t n = 0;

	while (n < k->last.len && (n < KEPT_LAST / 2 || k->last.ptr[n - 1] != '\n'))
		k->left_out += k->last.ptr[n++] == '\n';
	buf_consume(&k->last, n);
}

static void keep_line(struct kept *k, const char *sign, struct str line)
{
	struct buf *to = &k->first;

	line = str_sub(line, 0, KEPT_LINE_MAX);
	if (k->last.len > 0 || k->first.len + line.len > KEPT_FIRST)
		to = &k->last;
	if (to == &k->last && k->last.len + line.len + 10 > KEPT_LAST)
		kept_shift(k);
	buf_addf(to, "%s%.*s\n", sign, STR_ARG(line));
}

static void kept_free(struct session *s)
{
	if (s->kept == NULL)
		return;
	buf_release(&s->kept->first);
	buf_release(&s->kept->last);
	free(s->kept);
	s->kept = NULL;
}

void session_keep(struct session *s)
{
	if (s->kept != NULL)
		return;
	s->kept = NEW(struct kept);
	buf_init(&s->kept->first, 2 * KEPT_FIRST);
	buf_init(&s->kept->last, 2 * KEPT_LAST);
}

void session_kept(const struct session *s, struct buf *out)
{
	if (s->kept == NULL)
		return;
	buf_add_str(out, buf_str(&s->kept->first));
	if (s->kept->left_out > 0)
		buf_addf(out, "     (%u lines left out)\n", s->kept->left_out);
	buf_add_str(out, buf_str(&s->kept->last));
}

static void put_lines(struct session *s, char sign, struct str bytes)
{
	struct str line;

	for (int i = 0; i < 200 && str_token(&bytes, "\r\n", &line); i++) {
		if (s->transcript)
			log_info("%s: %c [%s]: %.*s", s->protocol->name, sign, s->peer_text,
				 STR_ARG(str_sub(line, 0, SHOWN_MAX)));
		/* A challenge says nothing to who may not know the answer. */
		if (s->kept != NULL && s->secret && str_starts(line, STR("334 ")))
			line = STR("334 [hidden]");
		if (s->kept != NULL)
			keep_line(s->kept, sign == '<' ? "In:  " : "Out: ", line);
	}
}

void session_transcript(struct session *s, bool on)
{
	s->transcript = on;
}

void transcript_end(struct session *s)
{
	transcript_flush(s);
	kept_free(s);
}

void transcript_unit(struct session *s, struct str unit)
{
	transcript_flush(s);
	s->transcript_line = str_dup(unit);
}

void session_transcript_hide(struct session *s, size_t shown)
{
	char *hidden;

	s->secret = true;
	if (s->transcript_line == NULL || strlen(s->transcript_line) <= shown)
		return;
	hidden = mem_printf("%.*s[hidden]", (int)shown, s->transcript_line);
	mem_wipe(s->transcript_line, strlen(s->transcript_line));
	free(s->transcript_line);
	s->transcript_line = hidden;
}

void transcript_flush(struct session *s)
{
	if (s->transcript_line == NULL)
		return;
	put_lines(s, '<', str_from(s->transcript_line));
	mem_wipe(s->transcript_line, strlen(s->transcript_line));
	free(s->transcript_line);
	s->transcript_line = NULL;
}

void transcript_output(struct session *s, struct str bytes)
{
	transcript_flush(s);
	put_lines(s, '>', bytes);
}
