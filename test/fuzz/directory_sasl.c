/* Log-in exchanges with foreign bytes: the first byte chooses mechanism and channel binding, lines are responses. Bit 5
 * plays SCRAM's own messages for the lines "1" and "2", bit 6 lets that client know the password. Nobody gets in who
 * does not send or know it.
 *
 * Covers: src/directory/sasl.c src/directory/sasl_scram.c */
#include "../unit/directory/scram_client.h"
#include "base/fatal.h"
#include "directory/sasl.h"

#define PASSWORD   "a password that no fuzzer guesses"
#define ITERATIONS 4

static struct account alice = {
	.id = 1,
	.address = {"alice@example.test", 18},
	.password = {"{PLAIN}" PASSWORD, sizeof("{PLAIN}" PASSWORD) - 1},
	.enabled = true,
	.active = true,
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

/* What the line stands for: itself, or the next message of a SCRAM client. */
static struct str said(struct scram_client *client, struct str line, const struct buf *challenge, struct buf *out)
{
	if (str_eq(line, STR("1")))
		return scram_first(client, out);
	if (str_eq(line, STR("2")) && str_find(buf_str(challenge), STR(",i=")) > 0)
		return scram_final(client, buf_str(challenge), out);
	return line;
}

static void look_at(const struct sasl *sasl)
{
	invariant(sasl_user(sasl).len <= SASL_USER_MAX + 1 && sasl_epoch(sasl) == 7);
	invariant(str_eq(sasl_service(sasl), STR("imap")) && str_eq(sasl_client(sasl), STR("192.0.2.1")));
	invariant(sasl_account(sasl)->id <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct str names[] = {
		{"PLAIN", 5}, {"LOGIN", 5}, {"SCRAM-SHA-256", 13}, {"SCRAM-SHA-256-PLUS", 18}};
	struct sasl_env env = {.find = find, .secret = "secret", .scram_iterations = ITERATIONS};
	struct sasl_options options = {.service = STR("imap"), .client = STR("192.0.2.1"), .epoch = 7};
	struct scram_client client = {.gs2 = "n,,", .user = "alice@example.test", .password = "wrong"};
	enum dir_auth_status status = AUTH_CONTINUE;
	struct str rest, line;
	struct buf challenge, out;
	struct sasl *sasl;
	struct err why;

	if (size < 1)
		return 0;
	(void)!scram_keys_derive(STR(PASSWORD), ITERATIONS, "salt", 4, &alice.scram, &why);
	options.mechanism = names[data[0] & 3];
	options.binding_exporter = data[0] & 4 ? STR("exporter") : STR_NULL;
	options.binding_unique = data[0] & 8 ? STR("unique") : STR_NULL;
	if (data[0] & 4 && (data[0] & 3) == 3) {
		client.gs2 = "p=tls-exporter,,";
		client.binding = STR("exporter");
	}
	if (data[0] & 64)
		client.password = PASSWORD;
	sasl = sasl_new(&options);
	if (!sasl)
		return 0;
	buf_init(&challenge, SASL_RESPONSE_MAX);
	buf_init(&out, SASL_RESPONSE_MAX);
	rest = str_of(data + 1, size - 1);
	if (data[0] & 16)
		status = sasl_step(sasl, &env, NULL, &challenge, &why);
	while (status == AUTH_CONTINUE && rest.len > 0) {
		struct str response;

		if (!str_split(rest, '\n', &line, &rest))
			rest = STR_NULL;
		response = data[0] & 32 ? said(&client, line, &challenge, &out) : line;
		buf_clear(&challenge);
		status = sasl_step(sasl, &env, &response, &challenge, &why);
	}
	invariant(status != AUTH_OK || data[0] & 64 || str_find(str_of(data, size), STR(PASSWORD)) > 0);
	look_at(sasl);
	sasl_free(&sasl);
	buf_release(&challenge);
	buf_release(&out);
	return 0;
}
