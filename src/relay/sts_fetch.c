/* See sts_fetch.h. */
#include "relay/sts_fetch.h"
#include "base/clock.h"
#include "os/fd.h"
#include "relay/smtp.h"
#include "relay/sts_policy.h"
#include <dlfcn.h>
#include <poll.h>
/* Its checks of types are macros around the function itself, which is a pointer here. */
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#define HEADER_SIZE_MAX 16384

/* ---- the library ---- */

static struct {
	bool there;
	CURLcode (*global_init)(long flags);
	CURL *(*init)(void);
	void (*cleanup)(CURL *c);
	CURLcode (*setopt)(CURL *c, CURLoption option, ...);
	CURLcode (*perform)(CURL *c);
	CURLcode (*getinfo)(CURL *c, CURLINFO info, ...);
	const char *(*strerror)(CURLcode code);
	struct curl_slist *(*append)(struct curl_slist *list, const char *text);
	void (*free_all)(struct curl_slist *list);
} curl;

int sts_fetch_init(struct err *err)
{
	const struct {
		void **where;
		const char *name;
	} symbols[] = {
		{(void **)&curl.global_init, "curl_global_init"}, {(void **)&curl.init, "curl_easy_init"},
		{(void **)&curl.cleanup, "curl_easy_cleanup"},	  {(void **)&curl.setopt, "curl_easy_setopt"},
		{(void **)&curl.perform, "curl_easy_perform"},	  {(void **)&curl.getinfo, "curl_easy_getinfo"},
		{(void **)&curl.strerror, "curl_easy_strerror"},  {(void **)&curl.append, "curl_slist_append"},
		{(void **)&curl.free_all, "curl_slist_free_all"},
	};
	/* Never closed again: it is in use until the process ends. */
	void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		return err_set(err, ERR_PERM, "", "there is no libcurl (Debian's package libcurl4): %s", dlerror());
	for (size_t i = 0; i < ARRAY_SIZE(symbols); i++)
		if ((*symbols[i].where = dlsym(library, symbols[i].name)) == NULL)
			return err_set(err, ERR_PERM, "", "libcurl has no %s", symbols[i].name);
	if (curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(err, ERR_PERM, "", "libcurl cannot begin");
	curl.there = true;
	return 0;
}

/* ---- one transfer ---- */

struct transfer {
	const struct sts_fetch *f;
	struct buf *body;
	size_t header_size;
	int fd; /* connected; libcurl's once it has asked for it */
	bool too_large;
};

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
	struct transfer *t = ctx;

	buf_add(t->body, data, size * n);
	t->too_large = buf_failed(t->body);
	return t->too_large ? 0 : size * n;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
	struct transfer *t = ctx;

	(void)data;
	t->header_size += size * n;
	t->too_large = t->header_size > HEADER_SIZE_MAX;
	return t->too_large ? 0 : size * n;
}

/* One connection, that is already there: a second one has no socket. */
static curl_socket_t on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct transfer *t = ctx;
	int fd = t->fd;

	(void)purpose;
	(void)address;
	t->fd = -1;
	return fd;
}

static int on_socket_options(void *ctx, curl_socket_t fd, curlsocktype purpose)
{
	(void)ctx;
	(void)fd;
	(void)purpose;
	return CURL_SOCKOPT_ALREADY_CONNECTED;
}

static CURLcode on_tls(CURL *c, void *ctx, void *arg)
{
	const struct transfer *t = arg;

	(void)c;
	SSL_CTX_set1_cert_store(ctx, t->f->trusted);
	return CURLE_OK;
}

/* About once a second, and whenever something comes. */
static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct transfer *t = ctx;
	struct pollfd p = {.fd = t->f->stop_fd, .events = POLLIN};

	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return t->f->stop_fd >= 0 && poll(&p, 1, 0) > 0;
}

/* Each of them a limit: what cannot be set must not be fetched without. */
static bool set_limits(CURL *c, struct transfer *t, int64_t left_ms)
{
	const struct {
		CURLoption option;
		long value;
	} numbers[] = {
		{CURLOPT_FOLLOWLOCATION, 0},
		{CURLOPT_SSL_VERIFYPEER, 1},
		{CURLOPT_SSL_VERIFYHOST, 2},
		{CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2},
		{CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
		{CURLOPT_NOSIGNAL, 1},
		{CURLOPT_NOPROGRESS, 0},
		{CURLOPT_TIMEOUT_MS, (long)left_ms},
		{CURLOPT_CONNECTTIMEOUT_MS, (long)left_ms},
		{CURLOPT_FORBID_REUSE, 1},
	};
	const struct {
		CURLoption option;
		const void *value;
	} pointers[] = {
		{CURLOPT_PROTOCOLS_STR, "https"}, {CURLOPT_PROXY, ""},	     {CURLOPT_NOPROXY, "*"},
		{CURLOPT_CAINFO, NULL},		  {CURLOPT_CAPATH, NULL},    {CURLOPT_USERAGENT, "Postrider"},
		{CURLOPT_WRITEDATA, t},		  {CURLOPT_HEADERDATA, t},   {CURLOPT_OPENSOCKETDATA, t},
		{CURLOPT_SSL_CTX_DATA, t},	  {CURLOPT_XFERINFODATA, t},
	};

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (curl.setopt(c, numbers[i].option, numbers[i].value) != CURLE_OK)
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(pointers); i++)
		if (curl.setopt(c, pointers[i].option, pointers[i].value) != CURLE_OK)
			return false;
	return curl.setopt(c, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
	       curl.setopt(c, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
	       curl.setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket) == CURLE_OK &&
	       curl.setopt(c, CURLOPT_SOCKOPTFUNCTION, on_socket_options) == CURLE_OK &&
	       curl.setopt(c, CURLOPT_SSL_CTX_FUNCTION, on_tls) == CURLE_OK &&
	       curl.setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK;
}

/* RFC 8461 3.2: text/plain, with whatever parameters. */
static bool is_text(const char *type)
{
	struct str before, after;

	str_split(str_from(type), ';', &before, &after);
	return str_ieq(str_trim(before), STR("text/plain"));
}

static int judge(CURL *c, const struct transfer *t, CURLcode result, const char *why, struct err *err)
{
	const char *type = NULL;
	long status = 0;

	if (t->too_large)
		return err_set(err, ERR_LIMIT, "", "the answer is too large");
	if (result != CURLE_OK)
		return err_set(err, ERR_TEMP, "", "%s", why[0] ? why : curl.strerror(result));
	if (curl.getinfo(c, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status != 200)
		return err_set(err, ERR_TEMP, "", "the web server answers %ld%s", status,
			       status / 100 == 3 ? ", and redirects are not followed" : "");
	if (curl.getinfo(c, CURLINFO_CONTENT_TYPE, &type) != CURLE_OK || type == NULL || !is_text(type))
		return err_set(err, ERR_TEMP, "", "the web server sends \"%.60s\" instead of text/plain",
			       type ? type : "");
	return 0;
}

static int transfer(struct transfer *t, int64_t left_ms, struct err *err)
{
	char url[400], host[400], why[CURL_ERROR_SIZE] = "";
	CURL *c = curl.init();
	struct curl_slist *resolve;
	int result = -1;

	snprintf(url, sizeof(url), "https://mta-sts.%.*s/.well-known/mta-sts.txt", STR_ARG(t->f->domain));
	/* Of no meaning: the socket is connected to where it has to be. */
	snprintf(host, sizeof(host), "mta-sts.%.*s:%d:127.0.0.1", STR_ARG(t->f->domain), STS_HTTPS_PORT);
	resolve = curl.append(NULL, host);
	if (c != NULL && resolve != NULL && set_limits(c, t, left_ms) &&
	    curl.setopt(c, CURLOPT_ERRORBUFFER, why) == CURLE_OK && curl.setopt(c, CURLOPT_URL, url) == CURLE_OK &&
	    curl.setopt(c, CURLOPT_RESOLVE, resolve) == CURLE_OK) {
		CURLcode code = curl.perform(c);

		result = judge(c, t, code, why, err);
	} else {
		err_set(err, ERR_TEMP, "", "libcurl does not do what is needed of it");
	}
	if (c != NULL)
		curl.cleanup(c);
	curl.free_all(resolve);
	fd_close(&t->fd);
	return result;
}

int sts_fetch(const struct sts_fetch *f, struct buf *body, struct err *err)
{
	int64_t until = clock_ms() + f->timeout_ms;
	struct transfer t = {.f = f, .body = body, .fd = -1};

	if (!curl.there || f->trusted == NULL)
		return err_set(err, ERR_TEMP, "", "policies cannot be fetched: smtp_mta_sts was no at the start");
	err_set(err, ERR_TEMP, "", "mta-sts.%.*s has no address", STR_ARG(f->domain));
	for (size_t i = 0; i < f->addr_count && t.fd < 0; i++) {
		/* Of the time that is left each address may take its share. */
		int64_t share = (until - clock_ms()) / (int64_t)(f->addr_count - i);

		if (share > 0)
			t.fd = smtpc_connect(&f->addrs[i], NULL, false, f->stop_fd, share, err);
	}
	if (t.fd < 0)
		return -1;
	return transfer(&t, until - clock_ms() > 1 ? until - clock_ms() : 1, err);
}
