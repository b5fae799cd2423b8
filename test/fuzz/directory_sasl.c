/* Log-in exchanges with foreign bytes: the first byte chooses mechanism and channel binding, lines are responses.
 * Nobody gets in who does not send the password. */
#include "directory/sasl.h"

static struct account alice = {
	.id = 1,
	.address = {"alice@example.test", 18},
	.password = {"{PLAIN}a password that no fuzzer guesses", 40},
	.enabled = true,
	.active = true,
	.scram = {.iterations = 4096, .salt_len = 4, .salt = "salt"},
};

static int find(void *ctx, struct str user, struct arena *arena, struct account *user_r, struct err *err)
{
	(void)ctx;
	(void)arena;
	if (user.len > 0 && user.ptr[0] == 't')
		return err_set(err, ERR_TEMP, "4.3.0", "away");
	*user_r = alice;
	return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct str names[] = {
		{"PLAIN", 5}, {"LOGIN", 5}, {"SCRAM-SHA-256", 13}, {"SCRAM-SHA-256-PLUS", 18}};
	struct sasl_env env = {.find = find, .secret = "secret", .scram_iterations = 4096};
	struct sasl_options options = {0};
	enum dir_auth_status status = AUTH_CONTINUE;
	struct str rest, response;
	struct buf challenge;
	struct sasl *sasl;
	struct err why;

	if (size < 1)
		return 0;
	options.mechanism = names[data[0] & 3];
	options.binding_exporter = data[0] & 4 ? STR("exporter") : STR_NULL;
	options.binding_unique = data[0] & 8 ? STR("unique") : STR_NULL;
	sasl = sasl_new(&options);
	if (!sasl)
		return 0;
	buf_init(&challenge, SASL_RESPONSE_MAX);
	rest = str_of(data + 1, size - 1);
	if (data[0] & 16)
		status = sasl_step(sasl, &env, NULL, &challenge, &why);
	while (status == AUTH_CONTINUE && rest.len > 0) {
		if (!str_split(rest, '\n', &response, &rest))
			rest = STR_NULL;
		status = sasl_step(sasl, &env, &response, &challenge, &why);
	}
	if (status == AUTH_OK)
		abort();
	sasl_free(&sasl);
	buf_release(&challenge);
	return 0;
}
