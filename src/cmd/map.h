/* map - look-up tables for commands: `postrider map`, and postmap, postalias, newaliases by name. */
#ifndef CMD_MAP_H
#define CMD_MAP_H

#include "cmd/cmd.h"
#include "directory/tables/files.h"
#include "proc/bundle.h"

/* Files from the disk, relative names from the working directory. */
struct map_files {
	struct table_files *files;
	struct conf *conf; /* of the instance, or NULL: says which files are in the form of aliases(5) */
	bool aliases;	   /* all are (postalias) */
	struct buf warnings;
	struct table_source source;
};
void map_files_init(struct map_files *m, const char *dir);
void map_files_release(struct map_files *m);
/* What was warned of goes to stderr, "COMMAND: warning: " in front. */
void map_files_warn(struct map_files *m, const char *command);

/* postmap, postalias and newaliases, by the name in argv[0]; the exit status. */
int postmap_main(int argc, char **argv);

#endif
