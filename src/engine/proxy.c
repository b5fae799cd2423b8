/* The PROXY protocol, versions 1 and 2, as haproxy's proxy-protocol.txt describes it (2.1, 2.2): a header in
 * front of everything else that tells whom the proxy speaks for. */
#include "engine/private.h"

#include <arpa/inet.h>

#define V1_MAX	 107u
#define V2_FIXED 16u
#define V2_MAX	 (V2_FIXED + 536u)

static const char v2_signature[] = "\r\n\r\n\0\r\nQUIT\n";

/* "TCP4 192.0.2.1 198.51.100.2 56324 25" */
static bool v1_fields(struct str line, struct net_addr *peer_r, struct net_addr *local_r)
{
	struct str family, src, dst, sport, dport;
	uint32_t src_port, dst_port;
	sa_family_t want;

	if (!str_token(&line, " ", &family) || !str_token(&line, " ", &src) || !str_token(&line, " ", &dst) ||
	    !str_token(&line, " ", &sport) || !str_token(&line, " ", &dport) || line.len > 0)
		return false;
	if (str_eq(family, STR("TCP4")))
		want = AF_INET;
	else if (str_eq(family, STR("TCP6")))
		want = AF_INET6;
	else
		return false;
	return str_to_u32(sport, &src_port) && str_to_u32(dport, &dst_port) && src_port <= 65535 && dst_port <= 65535 &&
	       net_addr_parse(src, (uint16_t)src_port, peer_r) && net_addr_parse(dst, (uint16_t)dst_port, local_r) &&
	       peer_r->any.sa_family == want && local_r->any.sa_family == want;
}

static ssize_t v1_parse(struct str in, struct net_addr *peer_r, struct net_addr *local_r, bool *known_r)
{
	struct str head = str_sub(in, 0, V1_MAX);
	ptrdiff_t end = str_find(head, STR("\r\n"));
	struct str line;

	if (end < 0)
		return in.len >= V1_MAX ? -1 : 0;
	line = str_sub(head, 6, (size_t)end - 6);
	*known_r = !str_starts(line, STR("UNKNOWN"));
	if (*known_r && !v1_fields(line, peer_r, local_r))
		return -1;
	return end + 2;
}

static void v2_addr4(const char *addr, const char *port, struct net_addr *a)
{
	a->v4.sin_family = AF_INET;
	memcpy(&a->v4.sin_addr, addr, 4);
	memcpy(&a->v4.sin_port, port, 2);
	a->len = sizeof(a->v4);
}

static void v2_addr6(const char *addr, const char *port, struct net_addr *a)
{
	a->v6.sin6_family = AF_INET6;
	memcpy(&a->v6.sin6_addr, addr, 16);
	memcpy(&a->v6.sin6_port, port, 2);
	a->len = sizeof(a->v6);
}

static ssize_t v2_parse(struct str in, struct net_addr *peer_r, struct net_addr *local_r, bool *known_r)
{
	uint8_t command, family;
	size_t len;
	const char *at = in.ptr + V2_FIXED;

	if (in.len < V2_FIXED)
		return 0;
	command = (uint8_t)in.ptr[12];
	family = (uint8_t)in.ptr[13];
	len = (size_t)(uint8_t)in.ptr[14] << 8 | (uint8_t)in.ptr[15];
	if (command >> 4 != 2 || (command & 15) > 1 || V2_FIXED + len > V2_MAX)
		return -1;
	if (in.len < V2_FIXED + len)
		return 0;
	*known_r = (command & 15) == 1 && (family == 0x11 || family == 0x21);
	if (*known_r && family == 0x11) {
		if (len < 12)
			return -1;
		v2_addr4(at, at + 8, peer_r);
		v2_addr4(at + 4, at + 10, local_r);
	} else if (*known_r) {
		if (len < 36)
			return -1;
		v2_addr6(at, at + 32, peer_r);
		v2_addr6(at + 16, at + 34, local_r);
	}
	return (ssize_t)(V2_FIXED + len);
}

ssize_t proxy_parse(struct str in, struct net_addr *peer_r, struct net_addr *local_r, bool *known_r)
{
	struct str v1 = STR("PROXY "), v2 = str_of(v2_signature, 12);

	memset(peer_r, 0, sizeof(*peer_r));
	memset(local_r, 0, sizeof(*local_r));
	*known_r = false;
	if (str_starts(in, v1))
		return v1_parse(in, peer_r, local_r, known_r);
	if (str_starts(in, v2))
		return v2_parse(in, peer_r, local_r, known_r);
	return str_starts(v1, in) || str_starts(v2, in) ? 0 : -1;
}

int proxy_header_take(struct session *s)
{
	struct net_addr peer, local;
	bool known;
	ssize_t len = proxy_parse(session_input(s), &peer, &local, &known);

	if (len <= 0)
		return (int)len;
	if (known) {
		s->peer = peer;
		s->local = local;
		session_set_peer(s);
	}
	session_consume(s, (size_t)len);
	return 1;
}
