/* postrider status: what runs, for how long, and what its jail holds. */
#include "cmd/control.h"
#include "cmd/json.h"
#include <inttypes.h>

#define STATUS_TIMEOUT_MS 10000

static void print_text(const struct control_status *s, const char *dir)
{
	printf("%s: %s, version %.*s, pid %" PRIu64 ", up %" PRIu64 " s, %s\n", dir,
	       s->stopping ? "stopping" : "running", STR_ARG(s->version), s->pid, s->uptime_s,
	       s->privileged ? "privileged" : "without root");
	printf("%-10s %8s %8s %9s %9s  %s\n", "PROCESS", "PID", "UP", "RESTARTS", "SESSIONS", "JAIL");
	for (size_t i = 0; i < s->processes.n; i++) {
		const struct control_process *p = &s->processes.v[i];

		if (p->pid == 0)
			printf("%-10.*s %8s %8s %9" PRIu32 " %9s  not running\n", STR_ARG(p->name), "-", "-",
			       p->restarts, "-");
		else
			printf("%-10.*s %8" PRIu64 " %7" PRIu64 "s %9" PRIu32 " %9" PRIu64 "  %.*s\n", STR_ARG(p->name),
			       p->pid, p->uptime_s, p->restarts, p->sessions,
			       STR_ARG(p->ready ? p->jail : STR("starting")));
	}
}

static void print_json(const struct control_status *s)
{
	json_t *list = json_array(), *all;

	for (size_t i = 0; i < s->processes.n; i++) {
		const struct control_process *p = &s->processes.v[i];

		json_array_append_new(list, json_pack("{s:o, s:I, s:I, s:i, s:b, s:o, s:I}", "name", json_of(p->name),
						      "pid", (json_int_t)p->pid, "uptime", (json_int_t)p->uptime_s,
						      "restarts", (int)p->restarts, "ready", (int)p->ready, "jail",
						      json_of(p->jail), "sessions", (json_int_t)p->sessions));
	}
	all = json_pack("{s:o, s:I, s:I, s:b, s:b, s:I, s:o}", "version", json_of(s->version), "pid",
			(json_int_t)s->pid, "uptime", (json_int_t)s->uptime_s, "privileged", (int)s->privileged,
			"stopping", (int)s->stopping, "reloads", (json_int_t)s->reloads, "processes", list);
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

static bool all_ready(const struct control_status *s)
{
	for (size_t i = 0; i < s->processes.n; i++)
		if (!s->processes.v[i].ready)
			return false;
	return !s->stopping;
}

int cmd_status(struct cmd *c)
{
	struct control_ok request = {0};
	struct control_status status;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int exit_status;

	if (c->argc > 0)
		return cmd_usage(c);
	if (control_call(c->dir, &CONTROL_STATUS, &request, &status, &hold, STATUS_TIMEOUT_MS, &err) < 0) {
		rpc_reply_release(&hold);
		return cmd_error(cmd_status_of(&err), "%s", err.text);
	}
	if (c->json)
		print_json(&status);
	else
		print_text(&status, c->dir);
	exit_status = all_ready(&status) ? EX_OK : EX_TEMPFAIL;
	rpc_reply_release(&hold);
	return exit_status;
}
