/* net - socket addresses: parsing, printing, matching, listening. No name look-ups, ever. */
#ifndef OS_NET_H
#define OS_NET_H

#include "base/err.h"
#include <netinet/in.h>
#include <sys/socket.h>

struct net_addr {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t len; /* 0: a UNIX socket or unknown */
};

#define NET_ADDR_TEXT 64
/* "127.0.0.1", "2001:db8::1" (IPv4-mapped IPv6 printed as IPv4), "unix" without address. Returns out. */
const char *net_addr_text(const struct net_addr *a, char out[NET_ADDR_TEXT]);
/* The form in address literals and Received: "127.0.0.1", "IPv6:2001:db8::1". */
const char *net_addr_literal(const struct net_addr *a, char out[NET_ADDR_TEXT]);
uint16_t net_addr_port(const struct net_addr *a);
bool net_addr_parse(struct str text, uint16_t port, struct net_addr *a_r) WARN_UNUSED; /* brackets allowed */
bool net_addr_is_loopback(const struct net_addr *a);

struct net_cidr {
	uint8_t addr[16]; /* IPv4 as mapped IPv6 */
	unsigned bits;	  /* of 128 */
	bool negate;	  /* "!10.0.0.0/8" */
};
/* "10.0.0.0/8", "[2001:db8::]/32", "127.0.0.1", "!..." . Host bits set are an error, as in Postfix. */
int net_cidr_parse(struct str text, struct net_cidr *cidr_r, struct err *err) WARN_UNUSED;
bool net_cidr_match(const struct net_cidr *cidr, const struct net_addr *a);

/* The next IPv4 gateway of routes as /proc/net/route has them; takes the lines off *routes. False: none is left. */
bool net_gateway_next(struct str *routes, struct net_addr *gateway_r);

/* A listening, non-blocking, close-on-exec TCP socket. host "" or "*": all addresses (IPv6 socket that also
 * takes IPv4 where the kernel allows, else IPv4). Port 0: the kernel chooses. Returns the descriptor, or -1. */
int net_listen_tcp(struct str host, uint16_t port, int backlog, struct err *err) WARN_UNUSED;
/* The same beside `count` listening sockets of ours on that port: an address of theirs, or all, while they still are
 * open. Anybody else's is in the way as ever. */
int net_listen_tcp_beside(struct str host, uint16_t port, int backlog, const int *others, size_t count,
			  struct err *err) WARN_UNUSED;
/* The same on a UNIX socket; a stale socket file is replaced; mode applied before the first connection. */
int net_listen_unix(const char *path, unsigned mode, int backlog, struct err *err) WARN_UNUSED;
/* A connection to it. Both take paths of any length. */
int net_connect_unix(const char *path, struct err *err) WARN_UNUSED;
/* The same, but when too many others wait to be accepted this one does not (EAGAIN). The socket is non-blocking. */
int net_connect_unix_now(const char *path, struct err *err) WARN_UNUSED;

#endif
