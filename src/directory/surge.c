/* What the mails about surges say (sending.h). */
#include "directory/sending.h"
#include "msg/date.h"
#include <inttypes.h>

static void add_figures(struct buf *text, const struct surge *s)
{
	buf_addf(text,
		 "%s\n"
		 "    recipients within the last hour: %" PRIu64 ", the most of an hour before: %" PRIu64 "\n"
		 "    recipients within the last day: %" PRIu64 ", the most of a day before: %" PRIu64 "\n"
		 "    it began ",
		 s->who, s->hour, s->hour_top, s->day, s->day_top);
	date_write(text, s->since, 0);
	buf_addz(text, "\n\n");
}

void surge_compose_admin(const struct surge *list, size_t count, const struct conf *conf, struct buf *subject,
			 struct buf *text)
{
	buf_addf(subject, "ALARM: %s", list[0].who);
	if (count > 1)
		buf_addf(subject, " and %zu more", count - 1);
	buf_addf(subject, " suddenly %s much more than ever on %.*s", count > 1 ? "send" : "sends",
		 STR_ARG(conf->myhostname));
	buf_addf(text, "%s much more mail than in the last weeks (submission_surge_factor = %" PRId64 "):\n\n",
		 count > 1 ? "These accounts suddenly send" : "This account suddenly sends",
		 conf->submission_surge_factor);
	for (size_t i = 0; i < count; i++)
		add_figures(text, &list[i]);
	buf_addz(text,
		 "If nobody meant to, somebody else has the password, or a program of this machine was taken over:\n"
		 "  - see what was sent: postrider trace ADDRESS; what waits: postrider queue list --sender ADDRESS\n"
		 "  - stop it: postrider user set ADDRESS --disable, or a new password: postrider user set ADDRESS "
		 "--password\n"
		 "  - take back what waits: postrider queue delete --sender ADDRESS\n"
		 "If it is meant, there is nothing to do: as much as this is usual from now on.\n"
		 "Each account is told of once, and its user was told, too; again after a day without too much.\n");
}

void surge_compose_user(const struct surge *s, const struct conf *conf, struct buf *subject, struct buf *text)
{
	buf_addf(subject, "Your account %s suddenly sends much more mail than ever", s->who);
	buf_addf(text, "The mail system %.*s has noticed that your account sends much more mail than before:\n\n",
		 STR_ARG(conf->myhostname));
	add_figures(text, s);
	buf_addz(text, "If that was you, there is nothing to do.\n\n"
		       "If it was not, somebody else has your password: change it now, look for malware on the devices "
		       "that know it, and tell your administrator, who got this message, too.\n");
}
