/* directory/verified - passwords that were found right a while ago, so that who comes back soon is not made to wait for
 * a slow hash again: a phone that connects every few minutes, a thousand clients behind a restart.
 *
 * What is remembered is that this password fits this hash, which stays true: the account is looked up each time, and a
 * changed password has another hash. A pair is kept as its HMAC under a key that only this process ever has; wrong
 * passwords are never remembered, and cost what they cost. In memory only, of bounded size. Thread-safe. */
#ifndef DIRECTORY_VERIFIED_H
#define DIRECTORY_VERIFIED_H

#include "base/str.h"

struct verified;

struct verified *verified_new(void);
void verified_free(struct verified **v);
/* password_verify(), unless it is known. keep_ms: for how long it is known then; 0: nothing is, and nothing remembered.
 * now_ms: clock_ms(). */
bool verified_password(struct verified *v, struct str stored, struct str password, int64_t keep_ms, int64_t now_ms);
/* Whether it is known. */
bool verified_has(struct verified *v, struct str stored, struct str password, int64_t now_ms);
void verified_clear(struct verified *v);

#endif
