/* directory/route - by which transport, and to whom next, mail for an address travels: Postfix's trivial-rewrite(8),
 * address classes of ADDRESS_CLASS_README, transport(5), relocated(5).
 *
 *   class of the domain            transport, nexthop
 *   an account domain of ours      virtual_transport, domain
 *   mydestination                  local_transport
 *   virtual_alias_domains          error, "User unknown in virtual alias table"
 *   relay_domains                  relay_transport, sender's relayhost or relayhost or domain
 *   any other                      sender's transport or default_transport, as above
 *
 * then transport_maps, which override both, then relocated_maps. */
#ifndef DIRECTORY_ROUTE_H
#define DIRECTORY_ROUTE_H

#include "directory/db.h"
#include "directory/schema.h"
#include "directory/tables/find.h"

struct router {
	struct db *db;
	struct finder finder;
};

struct route {
	enum route_class class;
	struct str transport, nexthop;
	struct str recipient; /* user@domain, routing by % and ! through our own domains taken off */
	bool routed;	      /* the local part still holds @, % or !: it may be meant for yet another host */
};

/* sender "": the null sender; STR_NULL: nobody knows who. 0, or -1: ERR_TEMP when a table or the database failed,
 * ERR_PERM (5.1.3) when the recipient is no address. Strings live in the arena of the finder, or as long as the
 * configuration. */
int route(const struct router *r, struct str sender, struct str recipient, struct route *out,
	  struct err *err) WARN_UNUSED;
/* The sender of our own notices (double_bounce_sender): it exists, for whoever asks, and what comes to it is dropped.
 */
bool route_is_notice_sender(const struct conf *conf, struct str address);
/* May transports and tables of the configuration make of an address of ours, or refuse, what no look-up of users tells?
 * Where not, route_judge() need not be asked. */
bool route_matters(const struct conf *conf);
enum route_verdict { ROUTE_HERE, ROUTE_ELSEWHERE, ROUTE_REFUSED };
/* Whether users of ours are where their transport leads, whoever sends; and whether mail is refused at the door,
 * because its transport is error or retry, or because the user has moved: *why_r as in Postfix's replies. -1 as
 * route(). */
int route_judge(const struct router *r, struct str recipient, enum route_verdict *verdict_r, struct err *why_r,
		struct err *err) WARN_UNUSED;
/* The class of a domain alone: what a recipient in it has to be judged by. 1, or -1 with err. */
int route_class_of(const struct router *r, struct str domain, enum route_class *class_r, struct err *err) WARN_UNUSED;

#endif
