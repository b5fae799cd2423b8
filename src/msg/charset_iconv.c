#include "msg/charset_iconv.h"
#include "base/utf8.h"
#include "msg/charset.h"
#include <errno.h>
#include <iconv.h>
#include <pthread.h>

/* One descriptor a charset, which one thread at a time may use: such text is rare, and short beside the rest. */
struct converter {
	const char *system; /* what iconv(3) calls it */
	iconv_t cd;	    /* NULL until loaded */
	pthread_mutex_t lock;
};

/* As browsers do (the WHATWG Encoding Standard): the vendors' supersets in place of what the label says. */
enum { GB18030, BIG5, EUC_JP, ISO_2022_JP, SHIFT_JIS, EUC_KR };
static struct converter converters[] = {
#define CONVERTER(index, name) [index] = {name, NULL, PTHREAD_MUTEX_INITIALIZER}
	CONVERTER(GB18030, "GB18030"),		 CONVERTER(BIG5, "BIG5-HKSCS"), CONVERTER(EUC_JP, "EUC-JP-MS"),
	CONVERTER(ISO_2022_JP, "ISO-2022-JP-2"), CONVERTER(SHIFT_JIS, "CP932"), CONVERTER(EUC_KR, "UHC"),
#undef CONVERTER
};

static const struct {
	const char *name;
	size_t index;
} NAMES[] = {
	{"gb18030", GB18030},
	{"gb2312", GB18030},
	{"gbk", GB18030},
	{"cp936", GB18030},
	{"x-gbk", GB18030},
	{"gb-2312-80", GB18030},
	{"euc-cn", GB18030},
	{"big5", BIG5},
	{"big5-hkscs", BIG5},
	{"cn-big5", BIG5},
	{"cp950", BIG5},
	{"x-x-big5", BIG5},
	{"euc-jp", EUC_JP},
	{"x-euc-jp", EUC_JP},
	{"iso-2022-jp", ISO_2022_JP},
	{"iso-2022-jp-2", ISO_2022_JP},
	{"shift-jis", SHIFT_JIS},
	{"sjis", SHIFT_JIS},
	{"x-sjis", SHIFT_JIS},
	{"cp932", SHIFT_JIS},
	{"windows-31j", SHIFT_JIS},
	{"ms932", SHIFT_JIS},
	{"euc-kr", EUC_KR},
	{"ks-c-5601-1987", EUC_KR},
	{"ksc5601", EUC_KR},
	{"cp949", EUC_KR},
	{"windows-949", EUC_KR},
	{"uhc", EUC_KR},
};

void charset_load(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(converters); i++) {
		iconv_t cd = iconv_open("UTF-8", converters[i].system);

		converters[i].cd = cd == (iconv_t)-1 ? NULL : cd;
	}
}

static struct converter *converter_of(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(NAMES); i++)
		if (str_eq(name, str_from(NAMES[i].name)))
			return converters[NAMES[i].index].cd != NULL ? &converters[NAMES[i].index] : NULL;
	return NULL;
}

bool charset_iconv_known(struct str name)
{
	return converter_of(name) != NULL;
}

static void convert(struct buf *out, iconv_t cd, struct str bytes)
{
	char *in = (char *)bytes.ptr; /* iconv() does not write there, whatever its type says */
	size_t left = bytes.len;
	char piece[512];

	iconv(cd, NULL, NULL, NULL, NULL); /* forget the last text's shifts, and what a fault left */
	while (left > 0) {
		char *to = piece;
		size_t room = sizeof(piece);
		size_t rc = iconv(cd, &in, &left, &to, &room);

		buf_add(out, piece, sizeof(piece) - room);
		if (rc != (size_t)-1 || errno == E2BIG)
			continue;
		utf8_add(out, 0xfffd);
		if (errno != EILSEQ)
			return; /* ended within a character */
		in++;
		left--;
	}
}

/* What a charset kept back until it knew what follows (BIG5-HKSCS combines two characters). */
static void convert_rest(struct buf *out, iconv_t cd)
{
	char piece[64], *to = piece;
	size_t room = sizeof(piece);

	iconv(cd, NULL, NULL, &to, &room);
	buf_add(out, piece, sizeof(piece) - room);
}

bool charset_iconv_decode(struct buf *out, struct str name, struct str bytes)
{
	struct converter *c = converter_of(name);

	if (c == NULL)
		return false;
	pthread_mutex_lock(&c->lock);
	convert(out, c->cd, bytes);
	convert_rest(out, c->cd);
	pthread_mutex_unlock(&c->lock);
	return true;
}
