/* journal - how fast the journal alone is: what the path of a message can at best come near to.
 *
 *	journal DIR WRITERS SIZE RECORDS
 *
 * Appends RECORDS records of SIZE bytes with WRITERS of them under way at any time, as so many clients would that
 * each wait for their answer, and prints one line of JSON: records a second, and records a flush. */
#include "journal/journal.h"
#include "base/clock.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void run(struct journal *j, uint64_t writers, struct str payload, uint64_t records, struct err *err)
{
	uint64_t lsn = 0;

	for (uint64_t n = 0; n < records; n++) {
		if (lsn - journal_durable(j) >= writers)
			journal_wait(j, lsn - writers + 1);
		if (journal_wants_checkpoint(j))
			journal_release(j, journal_durable(j));
		lsn = journal_append(j, 1, &payload, 1, err);
		if (lsn == 0) {
			fprintf(stderr, "journal: %s\n", err->text);
			exit(74);
		}
	}
	journal_wait(j, lsn);
}

int main(int argc, char **argv)
{
	struct journal_options options = {.size_limit = 256u << 20};
	struct journal_stats stats;
	struct journal *j;
	struct err err = ERR_NONE;
	int64_t start, took;
	char *bytes;
	size_t size;

	if (argc != 5) {
		fprintf(stderr, "usage: journal DIR WRITERS SIZE RECORDS\n");
		return 64;
	}
	size = strtoull(argv[3], NULL, 10);
	bytes = calloc(1, size + 1);
	options.dirfd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (bytes == NULL || options.dirfd < 0 || journal_open(&options, &j, &err) < 0 ||
	    journal_start(j, 1, &err) < 0) {
		fprintf(stderr, "journal: %s: %s\n", argv[1], err.text);
		return 74;
	}
	start = clock_us();
	run(j, strtoull(argv[2], NULL, 10), str_of(bytes, size), strtoull(argv[4], NULL, 10), &err);
	took = clock_us() - start;
	journal_stats(j, &stats);
	journal_close(&j);
	printf("{\"records_per_second\": %.1f, \"records_per_flush\": %.2f}\n",
	       1e6 * (double)stats.records / (double)(took > 0 ? took : 1),
	       (double)stats.records / (double)(stats.flushes > 0 ? stats.flushes : 1));
	close(options.dirfd);
	free(bytes);
	return 0;
}
