#include "cmd/cf_files.h"
#include "base/mem.h"
#include "config/instance.h"
#include "os/fd.h"
#include <fcntl.h>

#define CF_FILE_MAX 1048576

char *cf_read_file(const char *dir, const char *name, char **path_r, struct err *err)
{
	char *path = mem_printf("%s/%s", dir, name), *text = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		err_errno(err, "%s", path);
	else if (fd_read_all(fd, CF_FILE_MAX, &text, err) < 0)
		err_context(err, "%s", path);
	fd_close(&fd);
	if (path_r != NULL)
		*path_r = path;
	else
		free(path);
	return text;
}

struct conf *cf_read_main(const char *dir, bool hostname, struct buf *warnings, struct err *err)
{
	char *path, *text = cf_read_file(dir, INSTANCE_MAIN_CF, &path, err);
	struct conf *conf = NULL;
	struct buf with_name;

	if (text != NULL) {
		buf_init(&with_name, CF_FILE_MAX);
		buf_addz(&with_name, text);
		if (hostname)
			conf_add_hostname(&with_name);
		if (!hostname || conf_add_origin(&with_name, err) == 0)
			conf = conf_parse(buf_str(&with_name), path, warnings, err);
		buf_release(&with_name);
	}
	free(text);
	free(path);
	return conf;
}
