/* probe - a process does, from inside its jail and on the tester's request, what a captured one would. Test builds
 * only: an intruder would like it, too. See test/e2e/test_jails.py. */
#ifndef PROC_PROBE_H
#define PROC_PROBE_H

#include "engine/rpc.h"

/* what: a verb and its arguments, in words. callees: the channels of the process, by role. The answer is text. */
void proc_probe(struct str what, struct rpc_channel *const *callees, struct buf *out);

/* Words: KEY=VALUE|VALUE... Tries everything that is not a process's to do: with the paths `out`; with the processes
 * `pids`, the port `port`, the socket `control`, what is open, and the system. Says "allowed ..." of what worked, the
 * error's name of what failed for another reason than the jail, and at the end how much was tried. hidden=1: names are
 * out of a chroot's sight. */
void probe_paths(struct str words, struct buf *out);
void probe_jail(struct str words, struct buf *out);
/* The same for a directory that is its own: which verbs work there. */
void probe_row(struct str path, struct buf *out);
/* PORT...: TCP to and from these ports of this host, with sockets of its own. */
void probe_network(struct str words, struct buf *out);
/* Takes every listening socket apart and tries to connect with what is left of it. */
void probe_listeners(struct str port, struct buf *out);

/* ROLE NUMBER HEX [MS], and HEX may be long: says what came back. */
void probe_call(struct str words, struct rpc_channel *const *callees, struct buf *out);
/* ROLE HEX: bytes as they are. */
void probe_frame(struct str words, struct rpc_channel *const *callees, struct buf *out);
/* ROLE NUMBER HEX COUNT: the same call again and again, its answers not waited for. */
void probe_flood(struct str words, struct rpc_channel *const *callees, struct buf *out);
/* ROLE NUMBER HEX: the call with descriptors that it has no field for. */
void probe_descriptors(struct str words, struct rpc_channel *const *callees, struct buf *out);
/* ROLE BYTES: has the role open a blob and writes until it is told to stop, or BYTES are there. */
void probe_blob(struct str words, struct rpc_channel *const *callees, struct buf *out);

#endif
