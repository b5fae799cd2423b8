#include "config/man.h"
#include "base/mem.h"
#include "config/params.h"

static const char HEAD[] =
	".\\\" Made from src/config/params.def by `postrider config --man`. Do not edit: run `make man`.\n"
	".Dd November 22, 2026\n"
	".Dt MAIN.CF 5\n"
	".Os Postrider\n"
	".Sh NAME\n"
	".Nm main.cf\n"
	".Nd parameters of Postrider\n"
	".Sh DESCRIPTION\n"
	"The file\n"
	".Nm\n"
	"stands in the directory of an instance\n"
	".Pq Pa /etc/postrider , No or what Fl c No names .\n"
	"Each line sets a parameter:\n"
	".Pp\n"
	".Dl name = value\n"
	".Pp\n"
	"The language, and every name that Postfix has too, is Postfix's.\n"
	"A line that begins with a blank goes on with the line before.\n"
	"Empty lines, and lines whose first character behind blanks is\n"
	".Ql # ,\n"
	"are skipped, also between a line and its continuation.\n"
	"Where a name is set twice, the last setting counts.\n"
	"A parameter without a value\n"
	".Pq Ql name =\n"
	"is empty, which is not the same as its default.\n"
	"The file may hold 1 MB.\n"
	".Ss Values that mention others\n"
	".Bl -tag -width Ds\n"
	".It Cm $name , ${name} , $(name)\n"
	"The value of that parameter; names of your own may be set and used like that.\n"
	".It Cm ${name?text} , ${name:text}\n"
	"The text if the parameter is not empty; if it is.\n"
	".It Cm ${name?{text1}:{text2}}\n"
	"Both.\n"
	".It Cm \"${{text1} == {text2} ? {text3} : {text4}}\"\n"
	"A comparison with ==, !=, <, <=, > or >=; of numbers if both sides are numbers.\n"
	".It Cm $$\n"
	"A dollar sign.\n"
	".El\n"
	".Pp\n"
	"A parameter that refers to itself is an error.\n"
	".Ss Kinds of values\n"
	".Bl -tag -width Ds\n"
	".It yes or no\n"
	"In upper or lower case.\n"
	".It number, bytes\n"
	"Digits, within the bounds given.\n"
	".It time\n"
	"Digits and s, m, h, d or w for seconds, minutes, hours, days, weeks; without a letter in the unit given.\n"
	".It list\n"
	"Words with commas or blanks between; { } keeps together what has blanks.\n"
	".El\n"
	".Pp\n"
	"A value that does not fit is an error with file and line, and the configuration is not taken.\n"
	"Parameters of Postfix that Postrider does not use yet are accepted;\n"
	".Cm postrider check\n"
	"names them, and the names that nobody knows.\n"
	".Pp\n"
	"After a change,\n"
	".Cm postrider reload\n"
	"is enough, unless\n"
	".Dq needs a restart\n"
	"is said below.\n"
	"A service in\n"
	".Xr master.cf 5\n"
	"may have values of its own.\n"
	".Sh PARAMETERS\n"
	".Bl -tag -width Ds\n";

static const char TAIL[] = ".El\n"
			   ".Sh FILES\n"
			   ".Pa /etc/postrider/main.cf\n"
			   ".Sh SEE ALSO\n"
			   ".Xr master.cf 5 ,\n"
			   ".Xr postrider 1\n";

/* Text that roff must not read: backslashes, and dots and apostrophes where a line begins. */
static void roff(struct buf *out, struct str text)
{
	if (text.len > 0 && (text.ptr[0] == '.' || text.ptr[0] == '\''))
		buf_addz(out, "\\&");
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] == '\\')
			buf_addz(out, "\\e");
		else if (text.ptr[i] == '-')
			buf_addz(out, "\\-");
		else if (text.ptr[i] == '"')
			buf_addz(out, "\\(dq");
		else
			buf_addc(out, text.ptr[i]);
	}
}

static const char *unit_name(char unit)
{
	switch (unit) {
	case 's':
		return "seconds";
	case 'm':
		return "minutes";
	case 'h':
		return "hours";
	case 'd':
		return "days";
	default:
		return "weeks";
	}
}

static void kind(struct buf *out, const struct param *p)
{
	switch (p->type) {
	case PARAM_TYPE_STR:
		break;
	case PARAM_TYPE_BOOL:
		buf_addz(out, "Yes or no.\n");
		break;
	case PARAM_TYPE_INT:
		buf_addf(out, "A number from %lld to %lld.\n", (long long)p->min, (long long)p->max);
		break;
	case PARAM_TYPE_SIZE:
		buf_addf(out, "Bytes, from %lld to %lld.\n", (long long)p->min, (long long)p->max);
		break;
	case PARAM_TYPE_TIME:
		buf_addf(out, "A time from %lld%c to %lld%c; without a letter in %s.\n", (long long)p->min, p->unit,
			 (long long)p->max, p->unit, unit_name(p->unit));
		break;
	case PARAM_TYPE_ENUM:
		buf_addf(out, "One of: %s.\n", p->words);
		break;
	}
}

static void item(struct buf *out, const struct param *p)
{
	struct str def = param_default(p);

	buf_addf(out, ".It Cm %s No \"(default: ", p->name); /* quoted: no word of it is a macro */
	roff(out, def.len > 0 ? def : STR("empty"));
	buf_addz(out, ")\"\n");
	roff(out, str_from(p->text));
	buf_addc(out, '\n');
	kind(out, p);
	if (p->when == PARAM_RESTART)
		buf_addz(out, "A change needs a restart.\n");
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct param *const *)a)->name, (*(const struct param *const *)b)->name);
}

void params_man(struct buf *out)
{
	const struct param **sorted = mem_alloc(PARAM_COUNT * sizeof(*sorted));

	for (size_t i = 0; i < PARAM_COUNT; i++)
		sorted[i] = &PARAMS[i];
	qsort(sorted, PARAM_COUNT, sizeof(*sorted), by_name);
	buf_addz(out, HEAD);
	for (size_t i = 0; i < PARAM_COUNT; i++)
		item(out, sorted[i]);
	buf_addz(out, TAIL);
	free(sorted);
}
