/* encode - see base/encode.h. */
#include "base/encode.h"
#include "base/fatal.h"
#include <errno.h>
#include <pthread.h>
#include <sys/random.h>
#include <sysexits.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buf *out, struct str in)
{
	const unsigned char *p = (const unsigned char *)in.ptr;
	size_t left = in.len;

	for (; left >= 3; p += 3, left -= 3) {
		char quad[4] = {alphabet[p[0] >> 2], alphabet[(p[0] & 3) << 4 | p[1] >> 4],
				alphabet[(p[1] & 15) << 2 | p[2] >> 6], alphabet[p[2] & 63]};

		buf_add(out, quad, 4);
	}
	if (left == 1) {
		char quad[4] = {alphabet[p[0] >> 2], alphabet[(p[0] & 3) << 4], '=', '='};

		buf_add(out, quad, 4);
	} else if (left == 2) {
		char quad[4] = {alphabet[p[0] >> 2], alphabet[(p[0] & 3) << 4 | p[1] >> 4], alphabet[(p[1] & 15) << 2],
				'='};

		buf_add(out, quad, 4);
	}
}

int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (ascii_digit(c))
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

/* Four characters, `pad` of them '='. Bits that the padding leaves over must be zero (RFC 4648 3.5). */
static bool decode_quad(struct buf *out, const char *p, unsigned pad)
{
	uint32_t bits = 0;
	char bytes[3];

	for (unsigned i = 0; i < 4; i++) {
		int value = i < 4 - pad ? base64_value(p[i]) : 0;

		if (value < 0)
			return false;
		bits = bits << 6 | (uint32_t)value;
	}
	if (bits & ((1u << (8 * pad)) - 1))
		return false;
	bytes[0] = (char)(bits >> 16);
	bytes[1] = (char)(bits >> 8);
	bytes[2] = (char)bits;
	buf_add(out, bytes, 3 - pad);
	return true;
}

bool base64_decode(struct buf *out, struct str in)
{
	if (in.len % 4)
		return false;
	for (size_t i = 0; i < in.len; i += 4) {
		const char *p = in.ptr + i;
		unsigned pad = i + 4 < in.len || p[3] != '=' ? 0 : p[2] != '=' ? 1 : 2;

		if (!decode_quad(out, p, pad))
			return false;
	}
	return !out->failed;
}

void hex_encode(struct buf *out, struct str in)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < in.len; i++) {
		buf_addc(out, digits[(unsigned char)in.ptr[i] >> 4]);
		buf_addc(out, digits[(unsigned char)in.ptr[i] & 15]);
	}
}

static int nibble(char c)
{
	c = ascii_lower(c);
	if (ascii_digit(c))
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hex_decode(struct buf *out, struct str in)
{
	if (in.len % 2)
		return false;
	for (size_t i = 0; i < in.len; i += 2) {
		int high = nibble(in.ptr[i]), low = nibble(in.ptr[i + 1]);

		if (high < 0 || low < 0)
			return false;
		buf_addc(out, (char)(high << 4 | low));
	}
	return !out->failed;
}

#define CASTAGNOLI 0x82f63b78u /* reflected */

static uint32_t crc_table[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_table_make(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ CASTAGNOLI : c >> 1;
		crc_table[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 8; t++)
			crc_table[t][i] = crc_table[t - 1][i] >> 8 ^ crc_table[0][crc_table[t - 1][i] & 255];
}

/* Eight table look-ups for eight bytes. */
static uint32_t crc_soft(uint32_t c, const unsigned char *p, size_t len)
{
	pthread_once(&crc_once, crc_table_make);
	for (; len >= 8; p += 8, len -= 8) {
		c ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
		c = crc_table[7][c & 255] ^ crc_table[6][c >> 8 & 255] ^ crc_table[5][c >> 16 & 255] ^
		    crc_table[4][c >> 24] ^ crc_table[3][p[4]] ^ crc_table[2][p[5]] ^ crc_table[1][p[6]] ^
		    crc_table[0][p[7]];
	}
	while (len--)
		c = c >> 8 ^ crc_table[0][(c ^ *p++) & 255];
	return c;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_hard(uint32_t crc, const unsigned char *p, size_t len)
{
	uint64_t c = crc, word;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&word, p, 8);
		c = __builtin_ia32_crc32di(c, word);
	}
	while (len--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
	return (uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc_hard(~crc, data, len);
#endif
	return ~crc_soft(~crc, data, len);
}

void random_bytes(void *out, size_t len)
{
	char *at = out;

	while (len) {
		ssize_t got = getrandom(at, len, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			die(EX_OSERR, "the kernel gives no random numbers: %s", strerror(errno));
		at += got;
		len -= (size_t)got;
	}
}

/* Several numbers for each call of the kernel. A child that was forked must not go on with its parent's:
 * `forks` tells it. What was given out is wiped. */
#define POOL_SIZE 32

static _Atomic unsigned forks;
static pthread_once_t forks_once = PTHREAD_ONCE_INIT;
static __thread struct {
	uint64_t values[POOL_SIZE];
	unsigned left, forks;
} pool;

static void count_fork(void)
{
	forks++;
}

static void forks_watch(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

uint64_t random_u64(void)
{
	uint64_t value;

	if (pool.left == 0 || pool.forks != forks) {
		pthread_once(&forks_once, forks_watch);
		pool.forks = forks;
		random_bytes(pool.values, sizeof(pool.values));
		pool.left = POOL_SIZE;
	}
	value = pool.values[--pool.left];
	pool.values[pool.left] = 0;
	return value;
}

uint64_t random_below(uint64_t limit)
{
	uint64_t least, value;

	invariant(limit > 0);
	least = -limit % limit; /* values below would make the small remainders likelier */
	do
		value = random_u64();
	while (value < least);
	return value % limit;
}
