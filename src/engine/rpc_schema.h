/* rpc_schema - what a message between processes consists of, said once.
 *
 * A module lists the fields of a message in one macro, and RPC_DECLARE / RPC_DEFINE make the struct, its
 * table, and through the table the encoder, the bounds-checked decoder and the fuzz target:
 *
 *	#define STORE_FLAGS_FIELDS(F, S)       \
 *		F(S, u64, session)             \
 *		F(S, u32, mailbox)             \
 *		F(S, bytes, keyword)           \
 *		F(S, list, ranges, uid_range)  \
 *		F(S, fd, body)
 *	RPC_DECLARE(store_flags, STORE_FLAGS_FIELDS)      // header: struct store_flags, store_flags_type
 *	RPC_DEFINE(store_flags, STORE_FLAGS_FIELDS)       // one .c file
 *
 * Kinds: u8 u16 u32 u64 (little-endian on the wire), bytes (struct str, u32 length), fd (int, -1 absent;
 * travels beside the bytes), one (an embedded struct of another declared type), list (field.v / field.n of
 * another declared type). Decoded bytes and lists live in the arena given to the decoder, or point into the
 * message itself; decoded descriptors belong to the receiver. Enum values travel as u8..u32 and are checked
 * by the receiver, who trusts no peer more than its jail. */
#ifndef ENGINE_RPC_SCHEMA_H
#define ENGINE_RPC_SCHEMA_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum rpc_kind {
	RPC_KIND_u8,
	RPC_KIND_u16,
	RPC_KIND_u32,
	RPC_KIND_u64,
	RPC_KIND_bytes,
	RPC_KIND_fd,
	RPC_KIND_one,
	RPC_KIND_list
};

struct rpc_field {
	const char *name;
	enum rpc_kind kind;
	size_t offset;
	const struct rpc_type *of; /* one, list */
};

struct rpc_type {
	const char *name;
	size_t size;
	const struct rpc_field *fields;
	size_t field_count;
};

/* Hard limits of one message. */
#define RPC_BYTES_MAX (4u << 20)
#define RPC_LIST_MAX  100000u
#define RPC_DEPTH_MAX 6

#define RPC_MEMBER_u8(name)	   uint8_t name;
#define RPC_MEMBER_u16(name)	   uint16_t name;
#define RPC_MEMBER_u32(name)	   uint32_t name;
#define RPC_MEMBER_u64(name)	   uint64_t name;
#define RPC_MEMBER_bytes(name)	   struct str name;
#define RPC_MEMBER_fd(name)	   int name;
#define RPC_MEMBER_one(name, type) struct type name;
#define RPC_MEMBER_list(name, type)                                                                                    \
	struct {                                                                                                       \
		struct type *v;                                                                                        \
		size_t n;                                                                                              \
	} name;
#define RPC_MEMBER(S, kind, ...) RPC_MEMBER_##kind(__VA_ARGS__)

#define RPC_FIELD_plain(S, kind_, name_)                                                                               \
	{.name = #name_, .kind = RPC_KIND_##kind_, .offset = offsetof(struct S, name_), .of = NULL},
#define RPC_FIELD_u8(S, name)	 RPC_FIELD_plain(S, u8, name)
#define RPC_FIELD_u16(S, name)	 RPC_FIELD_plain(S, u16, name)
#define RPC_FIELD_u32(S, name)	 RPC_FIELD_plain(S, u32, name)
#define RPC_FIELD_u64(S, name)	 RPC_FIELD_plain(S, u64, name)
#define RPC_FIELD_bytes(S, name) RPC_FIELD_plain(S, bytes, name)
#define RPC_FIELD_fd(S, name)	 RPC_FIELD_plain(S, fd, name)
#define RPC_FIELD_one(S, name_, type)                                                                                  \
	{.name = #name_, .kind = RPC_KIND_one, .offset = offsetof(struct S, name_), .of = &type##_type},
#define RPC_FIELD_list(S, name_, type)                                                                                 \
	{.name = #name_, .kind = RPC_KIND_list, .offset = offsetof(struct S, name_), .of = &type##_type},
#define RPC_FIELD(S, kind, ...) RPC_FIELD_##kind(S, __VA_ARGS__)

/* In the header. A message without content needs a member all the same: F(S, u8, unused). */
#define RPC_DECLARE(type, FIELDS)                                                                                      \
	struct type {                                                                                                  \
		FIELDS(RPC_MEMBER, type)                                                                               \
	};                                                                                                             \
	extern const struct rpc_type type##_type;

/* In one .c file. */
#define RPC_DEFINE(type_, FIELDS)                                                                                      \
	static const struct rpc_field type_##_fields[] = {FIELDS(RPC_FIELD, type_)};                                   \
	const struct rpc_type type_##_type = {.name = #type_,                                                          \
					      .size = sizeof(struct type_),                                            \
					      .fields = type_##_fields,                                                \
					      .field_count = ARRAY_SIZE(type_##_fields)};

/* Appends the wire form of *msg to out and its descriptors (borrowed) to fds. Returns 0, or -1 with err
 * when a limit above is exceeded: the caller's input was too large, not a bug. */
int rpc_encode(const struct rpc_type *type, const void *msg, struct buf *out, int *fds, size_t *fd_count,
	       struct err *err) WARN_UNUSED;
/* Decodes the whole of `in` into *msg_r (type->size bytes). Lists come from the arena; bytes point into `in`.
 * Descriptors are taken from fds in order; all must be used. Returns 0, or -1 with err, taking nothing. */
int rpc_decode(const struct rpc_type *type, struct str in, const int *fds, size_t fd_count, struct arena *arena,
	       void *msg_r, struct err *err) WARN_UNUSED;
/* The same of a message whose descriptors did not come (FD_LOST): all of its are -1. */
int rpc_decode_without_fds(const struct rpc_type *type, struct str in, struct arena *arena, void *msg_r,
			   struct err *err) WARN_UNUSED;
/* Sets every descriptor field (in lists that are there too) to -1. Call on a zeroed message, before filling it in. */
void rpc_init(const struct rpc_type *type, void *msg);

#endif
