/* See sts_policy.h. */
#include "relay/sts_policy.h"
#include "base/vec.h"
#include "msg/address.h"

/* ---- the record ---- */

static bool is_name_char(char c, size_t at)
{
	return ascii_alnum(c) || (at > 0 && (c == '_' || c == '-' || c == '.'));
}

/* sts-ext-name: a letter or digit, and at most 31 more. */
static bool is_name(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_name_char(s.ptr[i], i))
			return false;
	return s.len >= 1 && s.len <= 32;
}

static bool is_value(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] <= ' ' || s.ptr[i] >= 0x7f || s.ptr[i] == ';' || s.ptr[i] == '=')
			return false;
	return s.len > 0;
}

static bool is_id(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!ascii_alnum(s.ptr[i]))
			return false;
	return s.len >= 1 && s.len <= STS_ID_MAX;
}

static struct str trim_wsp(struct str s)
{
	while (s.len > 0 && ascii_blank(s.ptr[0]))
		s = str_skip(s, 1);
	while (s.len > 0 && ascii_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

int sts_record_parse(struct str text, struct str *id_r)
{
	struct str version, rest, field, name, value;
	bool more = str_split(text, ';', &version, &rest);

	*id_r = STR("");
	if (!str_eq(trim_wsp(version), STR("v=STSv1")) || !str_starts(text, STR("v=STSv1")))
		return 0;
	if (!more)
		return -1;
	while (more) {
		more = str_split(rest, ';', &field, &rest);
		field = trim_wsp(field);
		if (field.len == 0 && !more)
			break; /* the delimiter behind the last field */
		if (!str_split(field, '=', &name, &value) || !is_name(name) || !is_value(value))
			return -1;
		if (!str_eq(name, STR("id")))
			continue;
		if (id_r->len > 0 || !is_id(value))
			return -1;
		*id_r = value;
	}
	return id_r->len > 0 ? 1 : -1;
}

/* ---- the policy ---- */

struct reading {
	struct arena *arena;
	struct sts_policy *policy;
	size_t mx_cap;
	bool has_version, has_mode, has_max_age;
};

static int malformed(struct err *err, const char *what, struct str line)
{
	return err_set(err, ERR_SYNTAX, "", "%s: \"%.*s\"", what, STR_ARG(str_sub(line, 0, 80)));
}

static int take_mode(struct reading *r, struct str value, struct err *err)
{
	static const struct {
		struct str word;
		enum sts_mode mode;
	} modes[] = {{STR("none"), STS_NONE}, {STR("testing"), STS_TESTING}, {STR("enforce"), STS_ENFORCE}};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (str_eq(value, modes[i].word)) {
			r->policy->mode = modes[i].mode;
			r->has_mode = true;
			return 0;
		}
	return malformed(err, "there is no such mode", value);
}

static int take_max_age(struct reading *r, struct str value, struct err *err)
{
	if (value.len > 10 || !str_to_u64(value, &r->policy->max_age) || r->policy->max_age > STS_MAX_AGE_MAX)
		return malformed(err, "that is no max_age", value);
	r->has_max_age = true;
	return 0;
}

/* "mx.example.org", "*.example.org"; in U-labels too, as some have it. */
static int take_mx(struct reading *r, struct str value, struct err *err)
{
	struct {
		struct str *v;
		size_t n, cap;
	} mx = {r->policy->mx, r->policy->mx_count, r->mx_cap};
	bool wild = str_starts(value, STR("*."));
	struct str host;

	if (mx.n >= STS_MX_MAX)
		return err_set(err, ERR_LIMIT, "", "it names more than %d hosts", STS_MX_MAX);
	if (!domain_normalize(wild ? str_skip(value, 2) : value, r->arena, &host))
		return malformed(err, "that is no host", value);
	if (wild)
		host = arena_printf(r->arena, "*.%.*s", STR_ARG(host));
	vec_push_arena(r->arena, &mx, host);
	r->policy->mx = mx.v;
	r->policy->mx_count = mx.n;
	r->mx_cap = mx.cap;
	return 0;
}

static bool has_control(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (((unsigned char)s.ptr[i] < ' ' && s.ptr[i] != '\t') || s.ptr[i] == 0x7f)
			return true;
	return false;
}

/* Of a field that comes twice the first counts, but for mx; what is not known is left to those who do. */
static int take_field(struct reading *r, struct str line, struct err *err)
{
	struct str key, value;

	if (!str_split(line, ':', &key, &value))
		return malformed(err, "that is no field", line);
	key = trim_wsp(key);
	value = trim_wsp(value);
	if (str_eq(key, STR("version")) && !r->has_version) {
		r->has_version = str_eq(value, STR("STSv1"));
		return r->has_version ? 0 : malformed(err, "that version is not known", value);
	}
	if (str_eq(key, STR("mode")) && !r->has_mode)
		return take_mode(r, value, err);
	if (str_eq(key, STR("max_age")) && !r->has_max_age)
		return take_max_age(r, value, err);
	return str_eq(key, STR("mx")) ? take_mx(r, value, err) : 0;
}

int sts_policy_parse(struct str text, struct arena *arena, struct sts_policy *policy_r, struct err *err)
{
	struct reading r = {.arena = arena, .policy = policy_r};
	struct str line;

	*policy_r = (struct sts_policy){.mode = STS_NONE};
	if (text.len > STS_POLICY_SIZE_MAX)
		return err_set(err, ERR_LIMIT, "", "it is larger than %d bytes", STS_POLICY_SIZE_MAX);
	while (text.len > 0) {
		str_split(text, '\n', &line, &text);
		if (line.len > 0 && line.ptr[line.len - 1] == '\r')
			line.len--;
		line = trim_wsp(line);
		if (has_control(line))
			return malformed(err, "there are control characters in it", line);
		if (line.len > 0 && take_field(&r, line, err) < 0)
			return -1;
	}
	if (!r.has_version || !r.has_mode || !r.has_max_age)
		return err_set(err, ERR_SYNTAX, "", "it has no %s",
			       !r.has_version ? "version"
			       : !r.has_mode  ? "mode"
					      : "max_age");
	if (policy_r->mx_count == 0 && policy_r->mode != STS_NONE)
		return err_set(err, ERR_SYNTAX, "", "it names no mx");
	return 0;
}

bool sts_policy_names(const struct sts_policy *policy, struct str host, struct arena *arena)
{
	struct str name, first, above;

	if (!domain_normalize(host, arena, &name))
		return false;
	if (!str_split(name, '.', &first, &above))
		above = STR("");
	for (size_t i = 0; i < policy->mx_count; i++) {
		struct str mx = policy->mx[i];

		if (str_eq(mx, name) || (above.len > 0 && str_starts(mx, STR("*.")) && str_eq(str_skip(mx, 2), above)))
			return true;
	}
	return false;
}

const char *sts_mode_text(enum sts_mode mode)
{
	static const char *const names[] = {"none", "testing", "enforce"};

	return names[mode];
}
