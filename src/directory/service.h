/* directory/service - the process `directory` without its process: answers directory/schema.h over channels.
 *
 * Requests run on up to directory_thread_limit threads, each with a database connection of its own while it works.
 * What a session must not be overtaken by (its end, an abort) is handled on the loop, in the order of the wire.
 * A watcher thread looks for revoked accounts when told (DIR_CHANGED), when the database was changed by another
 * connection (asked every few seconds while rights are granted), and repeats the living grants to a new store.
 *
 * Life: new (before the jail: opens the database once to see that it can be), add_peer and attaching the store at any
 * time, run until stop, free. Everything but run and free is for any thread. */
#ifndef DIRECTORY_SERVICE_H
#define DIRECTORY_SERVICE_H

#include "config/conf.h"
#include "directory/sending.h"
#include "directory/tables/set.h"
#include "engine/rpc.h"

struct directory_service;

struct directory_options {
	const char *database;	  /* path of directory.sqlite; must stay openable for reading and writing, with the
				     files -wal and -shm beside it */
	struct conf *conf;	  /* a reference is taken */
	struct table_set *tables; /* those that conf and its services name; a reference is taken; NULL: none */
};

/* NULL with err, a sentence for die(). Starts no thread. */
struct directory_service *directory_service_new(const struct directory_options *options, struct err *err);
/* A front end's channel (now owned), and who that is: process_tag(). */
void directory_service_add_peer(struct directory_service *s, int fd, uint64_t tag);
/* The channel to the store, for attaching it: again after each restart of the store. Stays the service's. */
struct rpc_channel *directory_service_store(struct directory_service *s);
/* The configuration for requests from now on, and its look-up tables (NULL: none); references are taken. */
void directory_service_reload(struct directory_service *s, struct conf *conf, struct table_set *tables);
/* Log-ins that failed within the last hour. */
uint64_t directory_service_login_failures(struct directory_service *s);
/* sending_untold(). Any thread. */
size_t directory_service_surges(struct directory_service *s, struct surge *list_r, size_t max);
/* The loop, for watching further descriptors (master's). */
struct rpc_server *directory_service_server(struct directory_service *s);
void directory_service_run(struct directory_service *s);
void directory_service_stop(struct directory_service *s);
void directory_service_free(struct directory_service **s);

#endif
