/* Entries of smtp_tls_policy_maps and lists of protocols: what has a fault is refused with a sentence, and what is
 * taken can be used.
 *
 * Covers: src/relay/tls_policy.c */
#include "base/fatal.h"
#include "relay/tls_policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_protocols(struct str in)
{
	struct tls_protocols p;
	struct err err = ERR_NONE;

	if (tls_protocols_parse(in, &p, &err) < 0) {
		invariant(err.kind == ERR_PERM && err.text[0] != '\0');
		return;
	}
	invariant(p.min == 0 || p.min >= SSL3_VERSION);
	invariant(p.max <= TLS1_3_VERSION && p.max >= 0);
	invariant(p.max == 0 || p.min <= p.max);
}

static void read_entry(const struct conf *conf, struct str in)
{
	struct smtpc_tls_policy p;
	struct tls_protocols protocols;
	struct err err = ERR_NONE;
	struct arena arena;
	struct str list;

	arena_init(&arena);
	if (tls_policy_parse(conf, in, &arena, &p, &err) < 0) {
		invariant(err.kind == ERR_TEMP && err.text[0] != '\0');
	} else {
		invariant(p.level <= TLS_LEVEL_DANE_ONLY && p.grade <= TLS_NULL);
		invariant(p.level != TLS_LEVEL_FINGERPRINT || p.match.len > 0);
		invariant(tls_protocols_parse(p.protocols, &protocols, NULL) == 0);
		invariant(str_chr(p.servername, '\0') < 0);
		invariant(p.exclude.len == 0 || str_chr(p.exclude, '\0') < 0);
		invariant(tls_cipher_list(conf, &p, &arena, &list, NULL) == 0);
		invariant(str_chr(list, '\0') < 0);
	}
	arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf *confs[2];
	struct str in = str_of(data, size);

	if (confs[0] == NULL) {
		confs[0] = conf_parse(STR("myhostname = a.test\n"), "main.cf", NULL, NULL);
		confs[1] = conf_parse(STR("smtp_tls_ciphers = null\nsmtp_tls_mandatory_ciphers = high\n"
					  "smtp_tls_exclude_ciphers = aNULL\nsmtp_tls_fingerprint_cert_match = aa:bb\n"
					  "smtp_tls_trust_anchor_file = /a\n"),
				      "main.cf", NULL, NULL);
		for (size_t i = 0; i < ARRAY_SIZE(confs); i++)
			invariant(tls_parameters_check(confs[i], NULL) == 0);
	}
	if (size > 4096)
		return 0;
	read_protocols(in);
	for (size_t i = 0; i < ARRAY_SIZE(confs); i++)
		read_entry(confs[i], in);
	return 0;
}
