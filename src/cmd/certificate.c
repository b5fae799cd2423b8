/* certificate - see certificate.h. */
#include "cmd/certificate.h"
#include "base/encode.h"
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define VALID_SECONDS	(10L * 365 * 24 * 3600)
#define COMMON_NAME_MAX 64 /* RFC 5280 A.1, ub-common-name */

static bool add_extension(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool ok = ext && X509_add_ext(x, ext, -1) == 1;

	X509_EXTENSION_free(ext);
	return ok;
}

static bool set_serial(X509 *x)
{
	uint8_t bytes[16];
	BIGNUM *number;
	bool ok;

	random_bytes(bytes, sizeof(bytes));
	bytes[0] &= 0x7f; /* RFC 5280 4.1.2.2: positive */
	number = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));
	BN_free(number);
	return ok;
}

static bool set_name(X509 *x, const char *host)
{
	X509_NAME *name = X509_get_subject_name(x);
	const char *common = strlen(host) <= COMMON_NAME_MAX ? host : "localhost";

	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common, -1, -1, 0) == 1 &&
	       X509_set_issuer_name(x, name) == 1;
}

static bool set_extensions(X509 *x, const char *host, const char *domain)
{
	struct buf names;
	bool ok;

	buf_init(&names, 2048);
	buf_addf(&names, "DNS:%s", host);
	if (strcmp(host, domain) != 0)
		buf_addf(&names, ",DNS:%s", domain);
	buf_addz(&names, ",DNS:localhost,IP:127.0.0.1,IP:::1");
	ok = !buf_failed(&names) && add_extension(x, NID_subject_alt_name, names.ptr) &&
	     add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
	     add_extension(x, NID_key_usage, "critical,digitalSignature") &&
	     add_extension(x, NID_ext_key_usage, "serverAuth");
	buf_release(&names);
	return ok;
}

static bool fill(X509 *x, EVP_PKEY *key, const char *host, const char *domain)
{
	return X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
	       X509_gmtime_adj(X509_getm_notBefore(x), -3600) &&
	       X509_gmtime_adj(X509_getm_notAfter(x), VALID_SECONDS) && X509_set_pubkey(x, key) == 1 &&
	       set_name(x, host) && set_extensions(x, host, domain) && X509_sign(x, key, EVP_sha256()) > 0;
}

static bool take(BIO *bio, struct buf *out)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);

	if (len <= 0)
		return false;
	buf_add(out, data, (size_t)len);
	return !buf_failed(out);
}

int certificate_make(const char *host, const char *domain, struct buf *cert_pem, struct buf *key_pem, struct err *err)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	BIO *cert_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_secmem());
	bool ok = key && x && cert_bio && key_bio && fill(x, key, host, domain) &&
		  PEM_write_bio_X509(cert_bio, x) == 1 &&
		  PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL) == 1 && take(cert_bio, cert_pem) &&
		  take(key_bio, key_pem);

	if (!ok)
		err_set(err, ERR_PERM, "", "cannot make a certificate for %s: %s", host,
			ERR_reason_error_string(ERR_peek_last_error()) ? ERR_reason_error_string(ERR_peek_last_error())
								       : "OpenSSL");
	BIO_free(cert_bio);
	BIO_free(key_bio);
	X509_free(x);
	EVP_PKEY_free(key);
	return ok ? 0 : -1;
}
