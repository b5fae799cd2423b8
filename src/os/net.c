/* net - see os/net.h. */
#include "os/net.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/fd.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* The address as 16 bytes, IPv4 in its IPv6-mapped form. False for anything that is no IP address. */
static bool addr_bytes(const struct net_addr *a, uint8_t out[16])
{
	if (a->len == 0)
		return false;
	if (a->any.sa_family == AF_INET) {
		memcpy(out, mapped_prefix, 12);
		memcpy(out + 12, &a->v4.sin_addr, 4);
		return true;
	}
	if (a->any.sa_family != AF_INET6)
		return false;
	memcpy(out, &a->v6.sin6_addr, 16);
	return true;
}

static bool is_mapped(const uint8_t bytes[16])
{
	return memcmp(bytes, mapped_prefix, 12) == 0;
}

static const char *print(const struct net_addr *a, const char *v6_prefix, char out[NET_ADDR_TEXT])
{
	uint8_t bytes[16];
	size_t skip = strlen(v6_prefix);

	if (!addr_bytes(a, bytes)) {
		snprintf(out, NET_ADDR_TEXT, "unix");
	} else if (is_mapped(bytes)) {
		inet_ntop(AF_INET, bytes + 12, out, NET_ADDR_TEXT);
	} else {
		memcpy(out, v6_prefix, skip);
		inet_ntop(AF_INET6, bytes, out + skip, (socklen_t)(NET_ADDR_TEXT - skip));
	}
	return out;
}

const char *net_addr_text(const struct net_addr *a, char out[NET_ADDR_TEXT])
{
	return print(a, "", out);
}

const char *net_addr_literal(const struct net_addr *a, char out[NET_ADDR_TEXT])
{
	return print(a, "IPv6:", out);
}

uint16_t net_addr_port(const struct net_addr *a)
{
	if (a->len == 0)
		return 0;
	if (a->any.sa_family == AF_INET)
		return ntohs(a->v4.sin_port);
	return a->any.sa_family == AF_INET6 ? ntohs(a->v6.sin6_port) : 0;
}

bool net_addr_parse(struct str text, uint16_t port, struct net_addr *a_r)
{
	char name[INET6_ADDRSTRLEN];
	struct net_addr a = {0};

	if (text.len >= 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']')
		text = str_sub(text, 1, text.len - 2);
	if (text.len == 0 || text.len >= sizeof(name) || memchr(text.ptr, 0, text.len))
		return false;
	memcpy(name, text.ptr, text.len);
	name[text.len] = '\0';
	if (inet_pton(AF_INET, name, &a.v4.sin_addr) == 1) {
		a.v4.sin_family = AF_INET;
		a.v4.sin_port = htons(port);
		a.len = sizeof(a.v4);
	} else if (inet_pton(AF_INET6, name, &a.v6.sin6_addr) == 1) {
		a.v6.sin6_family = AF_INET6;
		a.v6.sin6_port = htons(port);
		a.len = sizeof(a.v6);
	} else {
		return false;
	}
	*a_r = a;
	return true;
}

bool net_addr_is_loopback(const struct net_addr *a)
{
	uint8_t bytes[16];

	if (!addr_bytes(a, bytes))
		return false;
	return is_mapped(bytes) ? bytes[12] == 127 : IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr);
}

/* True when every bit of addr from `bits` on is zero. */
static bool host_bits_clear(const uint8_t addr[16], unsigned bits)
{
	for (unsigned i = bits; i < 128; i++)
		if (addr[i / 8] & (0x80 >> i % 8))
			return false;
	return true;
}

int net_cidr_parse(struct str text, struct net_cidr *cidr_r, struct err *err)
{
	struct str host, mask, whole = text;
	struct net_cidr cidr = {.bits = 128};
	struct net_addr a;
	uint32_t bits;
	bool masked;

	if (str_starts(text, STR("!"))) {
		cidr.negate = true;
		text = str_skip(text, 1);
	}
	masked = str_split(text, '/', &host, &mask);
	if (!net_addr_parse(host, 0, &a) || !addr_bytes(&a, cidr.addr))
		return err_set(err, ERR_SYNTAX, "", "\"%.*s\" is not an address or network", STR_ARG(whole));
	if (masked) {
		unsigned width = a.any.sa_family == AF_INET ? 32 : 128;

		if (!str_to_u32(mask, &bits) || bits > width)
			return err_set(err, ERR_SYNTAX, "", "\"%.*s\": the prefix length must be 0 to %u",
				       STR_ARG(whole), width);
		cidr.bits = 128 - width + bits;
	}
	if (!host_bits_clear(cidr.addr, cidr.bits))
		return err_set(err, ERR_SYNTAX, "", "\"%.*s\": bits behind the prefix length must be zero",
			       STR_ARG(whole));
	*cidr_r = cidr;
	return 0;
}

bool net_cidr_match(const struct net_cidr *cidr, const struct net_addr *a)
{
	uint8_t bytes[16];
	unsigned whole = cidr->bits / 8, rest = cidr->bits % 8;

	if (!addr_bytes(a, bytes))
		return false;
	/* ::/0 is all of IPv6; only an IPv4 network (96 bits or more of prefix) matches IPv4. */
	if (is_mapped(bytes) != (cidr->bits >= 96 && is_mapped(cidr->addr)))
		return false;
	if (memcmp(bytes, cidr->addr, whole) != 0)
		return false;
	return rest == 0 || ((bytes[whole] ^ cidr->addr[whole]) & (0xff00 >> rest) & 0xff) == 0;
}

bool net_gateway_next(struct str *routes, struct net_addr *gateway_r)
{
	struct str line, column, value;

	while (str_token(routes, "\n", &line)) {
		struct buf bytes;
		uint32_t word = 0;

		str_token(&line, " \t", &column);
		str_token(&line, " \t", &column);
		if (!str_token(&line, " \t", &value) || value.len != 8)
			continue;
		buf_init(&bytes, 8);
		/* The address as a number of this machine, most significant digit first. */
		if (hex_decode(&bytes, value) && bytes.len == 4)
			for (size_t i = 0; i < 4; i++)
				word = word << 8 | (unsigned char)bytes.ptr[i];
		buf_release(&bytes);
		if (word == 0)
			continue;
		*gateway_r = (struct net_addr){.len = sizeof(gateway_r->v4)};
		gateway_r->v4.sin_family = AF_INET;
		gateway_r->v4.sin_addr.s_addr = word;
		return true;
	}
	return false;
}

static int listen_on(const struct net_addr *a, bool both_families, int backlog, bool beside)
{
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1, v6only = !both_families, share = beside;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &share, sizeof(share)) < 0 ||
	    (a->any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) < 0) ||
	    bind(fd, &a->any, a->len) < 0 || listen(fd, backlog) < 0)
		fd_close(&fd);
	return fd;
}

static int listen_tcp(struct str host, uint16_t port, int backlog, bool beside, struct err *err)
{
	struct net_addr a;
	int fd = -1;

	if (host.len == 0 || str_eq(host, STR("*"))) {
		if (net_addr_parse(STR("::"), port, &a))
			fd = listen_on(&a, true, backlog, beside);
		if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL) &&
		    net_addr_parse(STR("0.0.0.0"), port, &a))
			fd = listen_on(&a, false, backlog, beside);
	} else {
		if (str_ieq(host, STR("localhost")))
			host = STR("127.0.0.1");
		if (!net_addr_parse(host, port, &a))
			return err_set(err, ERR_SYNTAX, "", "\"%.*s\" is not an IP address to listen on",
				       STR_ARG(host));
		fd = listen_on(&a, false, backlog, beside);
	}
	if (fd < 0)
		return err_errno(err, "cannot listen on %.*s port %u", STR_ARG(host.len ? host : STR("*")), port);
	return fd;
}

int net_listen_tcp(struct str host, uint16_t port, int backlog, struct err *err)
{
	return listen_tcp(host, port, backlog, false, err);
}

static void share_port(int fd, bool share)
{
	int value = share;

	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, sizeof(value)) < 0)
		log_debug("SO_REUSEPORT: %s", strerror(errno));
}

/* Shared for that moment only: otherwise a second system of the same account could listen there, too. */
int net_listen_tcp_beside(struct str host, uint16_t port, int backlog, const int *others, size_t count, struct err *err)
{
	int fd;

	for (size_t i = 0; i < count; i++)
		share_port(others[i], true);
	fd = listen_tcp(host, port, backlog, true, err);
	for (size_t i = 0; i < count; i++)
		share_port(others[i], false);
	share_port(fd, false);
	return fd;
}

/* The address has room for 107 bytes: a longer path is named through a descriptor of its directory, to be closed
 * after use (-1: none). */
static int unix_address(const char *path, struct sockaddr_un *a, int *dir_r, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir;

	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	*dir_r = -1;
	if (strlen(path) < sizeof(a->sun_path)) {
		memcpy(a->sun_path, path, strlen(path) + 1);
		return 0;
	}
	if (slash == NULL || strlen(slash) > 64)
		return err_set(err, ERR_LIMIT, "", "%s: longer than a socket's name may be", path);
	dir = str_dup(str_of(path, (size_t)(slash - path)));
	*dir_r = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (*dir_r < 0)
		return err_errno(err, "%s", path);
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d%s", *dir_r, slash);
	return 0;
}

static int connect_unix(const char *path, int type, struct err *err)
{
	struct sockaddr_un a;
	int dir, fd;

	if (unix_address(path, &a, &dir, err) < 0)
		return -1;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		err_errno(err, "cannot connect to %s", path);
		fd_close(&fd);
	}
	fd_close(&dir);
	return fd;
}

int net_connect_unix(const char *path, struct err *err)
{
	return connect_unix(path, SOCK_STREAM, err);
}

int net_connect_unix_now(const char *path, struct err *err)
{
	return connect_unix(path, SOCK_STREAM | SOCK_NONBLOCK, err);
}

int net_listen_unix(const char *path, unsigned mode, int backlog, struct err *err)
{
	struct sockaddr_un a;
	struct stat st;
	mode_t before;
	int fd, bound, dir;

	if (unix_address(path, &a, &dir, err) < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		fd_close(&dir);
		return err_errno(err, "cannot make a socket");
	}
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
	before = umask(0777); /* nobody connects before the mode is right */
	bound = bind(fd, (struct sockaddr *)&a, sizeof(a));
	umask(before);
	fd_close(&dir);
	if (bound < 0 || chmod(path, mode) < 0 || listen(fd, backlog) < 0) {
		err_errno(err, "cannot listen on %s", path);
		fd_close(&fd);
	}
	return fd;
}
