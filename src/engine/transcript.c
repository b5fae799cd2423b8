/* Session transcripts: each line in ("<") and out (">") to the log, for debug_peer_list.
 *
 * The unit that runs is logged with the first output of its handler, or at its end, so that the handler can
 * say before how much of it is a secret. */
#include "engine/private.h"

#include "base/log.h"
#include "base/mem.h"

#define SHOWN_MAX 1000u

static void log_lines(struct session *s, char sign, struct str bytes)
{
	struct str line;

	for (int i = 0; i < 200 && str_token(&bytes, "\r\n", &line); i++)
		log_info("%s: %c [%s]: %.*s", s->protocol->name, sign, s->peer_text,
			 STR_ARG(str_sub(line, 0, SHOWN_MAX)));
}

void session_transcript(struct session *s, bool on)
{
	s->transcript = on;
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
	log_lines(s, '<', str_from(s->transcript_line));
	mem_wipe(s->transcript_line, strlen(s->transcript_line));
	free(s->transcript_line);
	s->transcript_line = NULL;
}

void transcript_output(struct session *s, struct str bytes)
{
	transcript_flush(s);
	log_lines(s, '>', bytes);
}
