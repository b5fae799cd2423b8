#include "directory/tables/private.h"
struct table *table_open_sqlite(const struct opening *o, struct err *err)
{
	(void)o;
	err_set(err, ERR_PERM, "", "sqlite: not yet");
	return NULL;
}
