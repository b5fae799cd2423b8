#include "msg/bounce_template.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct conf *conf;
static struct bounce_templates *templates;
static struct buf warnings;
static struct err err;

static int setup(void **state)
{
	(void)state;
	conf = conf_parse(
		STR("myhostname = mail.xn--bcher-kva.test\ndelay_warning_time = 4h\nmaximal_queue_lifetime = 3d\n"
		    "mine = 5$$ $myhostname\n"),
		"main.cf", NULL, &err);
	buf_init(&warnings, 10000);
	return conf ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	bounce_templates_unref(&templates);
	conf_unref(&conf);
	buf_release(&warnings);
	return 0;
}

static void load(const char *file)
{
	bounce_templates_unref(&templates);
	buf_clear(&warnings);
	err = ERR_NONE;
	templates = bounce_templates_new(str_from(file), "bounce.cf", conf, &warnings, &err);
}

static void is(struct str is, const char *wanted)
{
	if (!str_eq(is, str_from(wanted)))
		fail_msg("\"%.*s\" is not \"%s\"", STR_ARG(is), wanted);
}

static void without_a_file_there_are_four(void **state)
{
	static const char *const names[] = {"failure_template", "delay_template", "success_template",
					    "verify_template"};

	(void)state;
	load("");
	assert_non_null(templates);
	for (int k = 0; k < BOUNCE_KINDS; k++) {
		const struct bounce_template *b = bounce_template(templates, (enum bounce_kind)k);

		assert_string_equal(b->name, names[k]);
		is(b->words.charset, "us-ascii");
		is(b->words.from, "MAILER-DAEMON (Mail Delivery System)");
		assert_true(b->words.subject.len > 0);
		assert_int_equal(b->postmaster_subject.len > 0, k < BOUNCE_SUCCESS);
		assert_true(str_find(b->words.text, STR("host mail.xn--bcher-kva.test.\n")) > 0);
	}
}

static void a_file_replaces_what_it_says(void **state)
{
	const struct bounce_template *b;

	(void)state;
	load("# ours\n\n   \nfailure_template = <<END\r\nsubject: Back: $myhostname\r\nCharset: UTF-8\r\n\r\n"
	     "$mine, ${delay_warning_time_hours} h $delay_warning_time_minutes m\n  $maximal_queue_lifetime_days d "
	     "\\$$ EOF\n# text\nEND \nEND\n\ndelay_template=<<x\nLate: no header\nx\n");
	assert_null(templates);
	load("# ours\n\n   \nfailure_template = <<END\r\nsubject: Back: $myhostname\r\nCharset: UTF-8\r\n\r\n"
	     "$mine, ${delay_warning_time_hours} h $delay_warning_time_minutes m\n  $maximal_queue_lifetime_days d "
	     "\\$$ EOF\n# text\nEND \nEND\n\ndelay_template=<<x\nNo header, one line: $$1\nx\n");
	if (!templates)
		fail_msg("%s", err.text);
	b = bounce_template(templates, BOUNCE_FAILURE);
	is(b->words.charset, "UTF-8");
	is(b->words.subject, "Back: $myhostname");
	is(b->words.from, "MAILER-DAEMON (Mail Delivery System)");
	is(b->postmaster_subject, "Postmaster Copy: Undelivered Mail");
	is(b->words.text, "5$ mail.xn--bcher-kva.test, 4 h 240 m\n  3 d \\$ EOF\n# text\nEND \n");
	b = bounce_template(templates, BOUNCE_DELAY);
	is(b->words.subject, "Delayed Mail (still being retried)");
	is(b->words.text, "No header, one line: $1\n");
	is(bounce_template(templates, BOUNCE_SUCCESS)->words.subject, "Successful Mail Delivery Report");
	assert_int_equal(warnings.len, 0);
}

/* RFC 6533: in a text that may hold them host names are shown as people write them. */
static void utf8_text_shows_u_labels(void **state)
{
	(void)state;
	load("failure_template = <<EOF\nCharset: utf-8\nSubject: Zur\xc3\xbc"
	     "ck\n\nGr\xc3\xbc\xc3\x9f"
	     "e, $myhostname $mydomain\nEOF\n");
	if (!templates)
		fail_msg("%s", err.text);
	is(bounce_template(templates, BOUNCE_FAILURE)->words.text, "Gr\xc3\xbc\xc3\x9f"
								   "e, mail.b\xc3\xbc"
								   "cher.test b\xc3\xbc"
								   "cher.test\n");
}

static void times_that_round_to_nothing_are_warned_of(void **state)
{
	(void)state;
	load("delay_template = <<EOF\n\nIt waits for $delay_warning_time_days days.\nEOF\n");
	is(bounce_template(templates, BOUNCE_DELAY)->words.text, "It waits for 0 days.\n");
	is(buf_str(&warnings), "bounce.cf, line 3: $delay_warning_time_days is 0: the time is shorter\n");
}

static void what_is_wrong_has_a_line(void **state)
{
	static const struct {
		const char *file, *text;
	} cases[] = {
		{"x = <<EOF\nEOF\n", "bounce.cf, line 1: \"x\" is none of failure_template, delay_template"},
		{"\nfailure_template = text\n", "bounce.cf, line 2: not \"NAME_template = <<EOF\""},
		{"failure_template = <<'EOF'\nx\nEOF\n", "line 1: behind << stands the word, without quotes"},
		{"failure_template = <<\nx\n", "line 1: behind << stands the word"},
		{"#\nfailure_template = <<EOF\n\nx\n", "line 2: failure_template: no line \"EOF\" ends it"},
		{"failure_template = <<EOF\nSubject: x\nEOF\n", "line 1: failure_template has no text"},
		{"failure_template = <<EOF\n\n  \nEOF\n", "line 3: failure_template has no text"},
		{"failure_template = <<EOF\nTo: x\n\nx\nEOF\n", "line 2: \"To:\" is none of Charset, From, Subject"},
		{"failure_template = <<EOF\nSubject: x\nSUBJECT: y\n\nx\nEOF\n", "line 3: Subject stands there twice"},
		{"failure_template = <<EOF\nSubject:\n\nx\nEOF\n", "line 2: Subject is empty"},
		{"success_template = <<EOF\nPostmaster-Subject: x\n\nx\nEOF\n",
		 "line 2: no copy of the success_template"},
		{"failure_template = <<EOF\n\nx\ny $nobody z\nEOF\n", "line 4: there is no parameter $nobody"},
		{"failure_template = <<EOF\n\ncosts 5$\nEOF\n", "line 3: \"$\" without a name"},
		{"failure_template = <<EOF\n\nGr\xc3\xbc\xc3\x9f"
		 "e\nEOF\n",
		 "line 3: not ASCII: say \"Charset: utf-8\""},
		{"failure_template = <<EOF\nSubject: \xfc\nCharset: utf-8\n\nx\nEOF\n",
		 "line 2: not UTF-8, as its Charset says"},
		{"failure_template = <<EOF\nSubject: \xfc\nCharset: klingon\n\nx\nEOF\n",
		 "line 2: not ASCII, and how it is read as klingon is not known"},
		{"failure_template = <<EOF\nCharset: utf-16\n\nx\nEOF\n",
		 "line 2: Charset \"utf-16\": one that ASCII is a part of"},
		{"failure_template = <<EOF\n\nx\nEOF\ndelay_template = <<EOF\n\nx\nEOF\nfailure_template = "
		 "<<EOF\n\nx\nEOF\n",
		 "line 9: failure_template stands there twice"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		load(cases[i].file);
		assert_null(templates);
		if (strstr(err.text, cases[i].text) == NULL)
			fail_msg("\"%s\" is not \"%s\"", err.text, cases[i].text);
	}
}

/* What is printed is a file that says the same. */
static void what_is_written_reads_back(void **state)
{
	struct buf expanded, again, raw;

	(void)state;
	buf_init(&expanded, 100000);
	buf_init(&again, 100000);
	buf_init(&raw, 100000);
	load("success_template = <<x\nSubject: Good\n\nEOF\n${mine?{$$}}no blank\nx\n");
	bounce_templates_write(templates, true, &expanded);
	assert_non_null(strstr(expanded.ptr, "success_template = <<END_OF_TEMPLATE\n"));
	assert_non_null(strstr(expanded.ptr, "\n\nEOF\n$no blank\nEND_OF_TEMPLATE\n"));
	bounce_templates_write(templates, false, &raw);
	assert_non_null(strstr(raw.ptr, "This is the mail system at host $myhostname.\n"));
	load(raw.ptr);
	if (!templates)
		fail_msg("%s", err.text);
	bounce_templates_write(templates, true, &again);
	assert_string_equal(again.ptr, expanded.ptr);
	buf_release(&expanded);
	buf_release(&again);
	buf_release(&raw);
}

/* The word that ends a template is no line of it, whatever lines it has. */
static void what_is_written_ends_where_its_text_does(void **state)
{
	static const char *const files[] = {
		"failure_template = <<STOP\n\nEOF\nEND_OF_TEMPLATE\nEND_OF_TEMPLATE_2\nlast\nSTOP\n",
		"failure_template = <<STOP\r\n\r\nEOF\r\nlast\r\nSTOP\r\n"};
	struct buf raw;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		buf_init(&raw, 100000);
		load(files[i]);
		bounce_templates_write(templates, false, &raw);
		load(raw.ptr);
		if (!templates)
			fail_msg("%s", err.text);
		assert_true(str_ends(bounce_template(templates, BOUNCE_FAILURE)->words.text, STR("\nlast\n")));
		buf_release(&raw);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_file_there_are_four),
		cmocka_unit_test(a_file_replaces_what_it_says),
		cmocka_unit_test(utf8_text_shows_u_labels),
		cmocka_unit_test(times_that_round_to_nothing_are_warned_of),
		cmocka_unit_test(what_is_wrong_has_a_line),
		cmocka_unit_test(what_is_written_reads_back),
		cmocka_unit_test(what_is_written_ends_where_its_text_does),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
