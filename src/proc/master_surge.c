/* master_surge - accounts that suddenly send much more than ever (directory/sending.h): having mails sent about them.
 *
 *	directory's PROC_STATE --> the list, taken when the one before is done with
 *	each user that is one      a mail to him
 *	all of the list            one mail to alert_recipient, within alert_hourly_limit
 *	both left                  DIR_SURGE_TOLD; the next PROC_STATE has the next ones
 *
 * What does not leave is tried again with the next look. */
#include "base/clock.h"
#include "base/log.h"
#include "directory/schema.h"
#include "proc/master.h"
#include <pwd.h>
#include <sysexits.h>

#define TEXT_MAX 30000

/* "uid 33" becomes "www-data (uid 33), a user of this machine". */
static void add_user_name(struct surge *s)
{
	const struct passwd *pw;
	uint32_t uid;

	if (!str_starts(str_from(s->who), STR("uid ")) || !str_to_u32(str_from(s->who + 4), &uid) ||
	    (pw = getpwuid(uid)) == NULL)
		return;
	snprintf(s->who, sizeof(s->who), "%.100s (uid %u), a user of this machine,", pw->pw_name, uid);
}

static bool was_told(const struct master_alert *a, uint64_t seq)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->surges_told); i++)
		if (a->surges_told[i] == seq)
			return true;
	return false;
}

void surge_take(struct master *m, const struct proc_state *state)
{
	struct master_alert *a = &m->alert;

	if (a->surge_count > 0)
		return;
	for (size_t i = 0; i < state->surges.n && i < PROC_SURGES_MAX; i++) {
		const struct proc_surge *from = &state->surges.v[i];
		struct told_surge *to = &a->surges[a->surge_count];

		if (was_told(a, from->seq))
			continue;
		a->surge_count++;
		*to = (struct told_surge){.surge = {.seq = from->seq,
						    .since = (int64_t)from->since,
						    .hour = from->hour,
						    .hour_top = from->hour_top,
						    .day = from->day,
						    .day_top = from->day_top}};
		snprintf(to->surge.who, sizeof(to->surge.who), "%.*s", STR_ARG(from->who));
		/* A program's mail would be read by nobody. */
		to->user_told = strchr(to->surge.who, '@') == NULL;
		add_user_name(&to->surge);
	}
}

/* ---- to the user ---- */

static void user_told(struct master *m, int exit_status)
{
	/* What can be no address never will be. */
	if (exit_status != EX_OK && exit_status != EX_DATAERR)
		return;
	for (size_t i = 0; i < m->alert.surge_count; i++)
		if (!m->alert.surges[i].user_told) {
			m->alert.surges[i].user_told = true;
			break;
		}
	surge_tell(m);
}

static void tell_user(struct master *m, const struct surge *s)
{
	struct buf subject, text;

	buf_init(&subject, 1000);
	buf_init(&text, TEXT_MAX);
	surge_compose_user(s, m->bundle->conf, &subject, &text);
	alert_send(m, s->who, &subject, &text, false, user_told);
	buf_release(&subject);
	buf_release(&text);
}

/* ---- to the administrator ---- */

static void admin_told(struct master *m, int exit_status)
{
	if (exit_status != EX_OK)
		return;
	alarms_mailed(&m->alert.alarms, clock_wall());
	for (size_t i = 0; i < m->alert.surge_count; i++)
		m->alert.surges[i].admin_told = true;
	surge_tell(m);
}

static void tell_admin(struct master *m)
{
	struct surge list[PROC_SURGES_MAX];
	struct buf subject, text;

	for (size_t i = 0; i < m->alert.surge_count; i++)
		list[i] = m->alert.surges[i].surge;
	buf_init(&subject, 1000);
	buf_init(&text, TEXT_MAX);
	surge_compose_admin(list, m->alert.surge_count, m->bundle->conf, &subject, &text);
	log_warning("alert: %s", subject.ptr);
	alert_send(m, NULL, &subject, &text, false, admin_told);
	buf_release(&subject);
	buf_release(&text);
}

static void all_told(struct master *m)
{
	for (size_t i = 0; i < m->alert.surge_count; i++) {
		struct dir_surge_told told = {.seq = m->alert.surges[i].surge.seq};

		m->alert.surges_told[m->alert.surges_told_count++ % ARRAY_SIZE(m->alert.surges_told)] = told.seq;
		/* Not heard: after a restart of master told once more, which is better than never. */
		if (rpc_send(m->callees[PROCESS_DIRECTORY], &DIR_SURGE_TOLD, &told) < 0)
			log_debug("alert: directory does not hear that a surge was told");
	}
	m->alert.surge_count = 0;
}

void surge_tell(struct master *m)
{
	struct master_alert *a = &m->alert;
	const struct conf *conf = m->bundle->conf;

	if (a->surge_count == 0 || a->mailer || m->phase != MASTER_SERVING)
		return;
	for (size_t i = 0; i < a->surge_count; i++)
		if (!a->surges[i].user_told) {
			tell_user(m, &a->surges[i].surge);
			return;
		}
	if (a->surges[0].admin_told || conf->alert_recipient.len == 0)
		all_told(m);
	else if (alarms_may_mail(&a->alarms, conf, clock_wall()))
		tell_admin(m);
}
