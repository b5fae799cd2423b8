#include "base/mem.h"
#include "cmd/cf_files.h"
#include "os/fd.h"
#include <fcntl.h>

#define TEMPLATES_MAX 1048576

struct bounce_templates *cf_read_templates(const struct conf *conf, const char *path, struct buf *warnings,
					   struct err *err)
{
	char *named = path ? mem_strdup(path) : str_dup(conf->bounce_template_file), *text = NULL;
	struct bounce_templates *t = NULL;
	int fd = -1;

	if (*named && (fd = open(named, O_RDONLY | O_CLOEXEC)) < 0)
		err_errno(err, "%s", named);
	else if (*named && fd_read_all(fd, TEMPLATES_MAX, &text, err) < 0)
		err_context(err, "%s", named);
	else
		t = bounce_templates_new(str_from(text), named, conf, warnings, err);
	fd_close(&fd);
	free(text);
	free(named);
	return t;
}
