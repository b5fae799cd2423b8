/* bounce_template_file: templates, or an error that says where; what they hold makes a notification, and what is shown
 * of them can be a file again.
 *
 * Covers: src/msg/bounce_template.c
 * Reaches: src/msg/dsn.c src/config/expand.c src/msg/charset.c src/msg/list.c */
#include "base/fatal.h"
#include "msg/bounce_template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void notify(const struct bounce_template *b, bool utf8)
{
	const struct dsn_recipient r = {.address = STR("j\xc3\xb6rg@example.test"),
					.original = STR(""),
					.status = STR("5.1.1"),
					.diagnostic = STR("no"),
					.remote_mta = STR("")};
	const struct dsn d = {.reporting_mta = STR("mail.example.test"),
			      .words = b->words,
			      .to = STR("alice@example.test"),
			      .message_id = STR("1@mail.example.test"),
			      .recipients = &r,
			      .count = 1,
			      .message = STR("Subject: x\n\nx\n"),
			      .utf8 = utf8};
	struct buf out;

	buf_init(&out, 1 << 20);
	dsn_write(&d, &out);
	invariant(!buf_failed(&out));
	/* The header is ASCII, whatever the words are. */
	for (size_t i = 0; i + 1 < out.len && !(out.ptr[i] == '\n' && out.ptr[i + 1] == '\n'); i++)
		invariant((unsigned char)out.ptr[i] < 0x80);
	buf_release(&out);
}

static void read_again(const struct bounce_templates *t, const struct conf *conf, struct buf *out)
{
	struct bounce_templates *again;

	buf_clear(out);
	bounce_templates_write(t, false, out);
	again = bounce_templates_new(buf_str(out), "again", conf, NULL, NULL);
	invariant(again != NULL);
	for (int k = 0; k < BOUNCE_KINDS; k++) {
		const struct bounce_template *a = bounce_template(t, (enum bounce_kind)k),
					     *b = bounce_template(again, (enum bounce_kind)k);

		invariant(str_eq(a->words.text, b->words.text) && str_eq(a->words.subject, b->words.subject));
		invariant(str_eq(a->words.from, b->words.from) && str_eq(a->words.charset, b->words.charset));
		invariant(str_eq(a->postmaster_subject, b->postmaster_subject));
	}
	bounce_templates_unref(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf *conf; /* once: it costs more than all the rest */
	struct err err = ERR_NONE;
	struct buf out;
	struct bounce_templates *t;

	if (conf == NULL)
		conf = conf_parse(STR("myhostname = mail.xn--bcher-kva.test\n"), "main.cf", NULL, &err);
	buf_init(&out, 1 << 22);
	t = bounce_templates_new(str_of(data, size), "bounce.cf", conf, &out, &err);
	invariant(t != NULL || err.text[0] != '\0');
	for (int k = 0; t != NULL && k < BOUNCE_KINDS; k++) {
		const struct bounce_template *b = bounce_template(t, (enum bounce_kind)k);

		invariant(b->words.text.len > 0 && b->words.subject.len > 0 && b->words.from.len > 0);
		notify(b, false);
		notify(b, true);
	}
	buf_clear(&out);
	if (t != NULL) {
		bounce_templates_write(t, true, &out);
		read_again(t, conf, &out);
	}
	bounce_templates_unref(&t);
	buf_release(&out);
	return 0;
}
