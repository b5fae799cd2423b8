# Postrider. `make` builds build/postrider; `make check` tests it; `make demo` shows it.
#
# Variables:  B=DIR            build directory (default build)
#             SAN=address,undefined   or SAN=thread: sanitizers (give B= as well)
#             CC=clang         another compiler
#             M=msg            unit, fuzz: only this module

B      ?= build
CC     ?= gcc
SAN    ?=
M      ?=
CFLAGS ?= -O2 -g

MODULES := base os engine config msg journal dns store directory queue policy deliver smtp imap pop3 relay proc cmd

WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wpointer-arith -Wvla -Wno-missing-field-initializers
CPPALL := -Isrc -D_GNU_SOURCE
CALL   := -std=gnu17 $(WARN) $(WERROR) -fPIE -pthread -fno-strict-aliasing -fstack-protector-strong
LIBS   := -lssl -lcrypto -llmdb -lsqlite3 -lgsasl -lidn2 -lcrypt -lseccomp -ljansson -lz -lunbound -lpcre2-8
LDALL  := -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed

ifneq ($(SAN),)
CALL   += -fsanitize=$(SAN) -fno-omit-frame-pointer -DARENA_DEBUG -DPOSTRIDER_TEST
LDALL  += -fsanitize=$(SAN)
else
CPPALL += -D_FORTIFY_SOURCE=2
endif

src_of = $(wildcard src/$(1)/*.c src/$(1)/*/*.c)
objs_of = $(patsubst %.c,$(B)/obj/%.o,$(call src_of,$(1)))
lib_of = $(B)/lib/$(1).a

# A module may use its own row and the rows above it; this is also what its tests are linked with.
ROW1 := base os engine config msg journal
MIDDLE := dns store directory queue policy deliver smtp imap pop3 relay
USES_base := base
USES_os := $(USES_base) os
USES_engine := $(USES_os) engine
USES_config := $(USES_engine) config
USES_msg := $(USES_config) msg
USES_journal := $(USES_msg) journal
USES_dns := $(ROW1) dns
USES_store := $(ROW1) store
USES_directory := $(ROW1) directory store
USES_queue := $(ROW1) queue
USES_policy := $(ROW1) policy dns directory store queue
USES_deliver := $(ROW1) deliver store directory queue
USES_smtp := $(ROW1) smtp deliver dns store directory queue policy
USES_imap := $(ROW1) imap store directory
USES_pop3 := $(ROW1) pop3 store directory
USES_relay := $(ROW1) relay deliver dns store directory queue
USES_proc := $(ROW1) $(MIDDLE) proc
USES_cmd := $(ROW1) $(MIDDLE) proc cmd

.PHONY: all unit clean
all: $(B)/postrider $(B)/postrider-client

libs_for = $(foreach m,$(USES_$(1)),$(call lib_of,$(m)))

$(B)/postrider: $(B)/obj/src/main.o $(call libs_for,cmd)
	$(CC) $(LDALL) $(CFLAGS) -o $@ $(B)/obj/src/main.o -Wl,--start-group $(call libs_for,cmd) -Wl,--end-group $(LIBS)

# The same commands, by name and alone: linked with what they use, which is the C library and little else.
$(B)/postrider-client: $(B)/obj/src/main_client.o $(call libs_for,cmd)
	$(CC) $(LDALL) $(CFLAGS) -o $@ $(B)/obj/src/main_client.o -Wl,--start-group $(call libs_for,cmd) -Wl,--end-group $(LIBS)

define LIB_RULE
$(call lib_of,$(1)): $(call objs_of,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	@ar rcs $$@ $(call objs_of,$(1))
endef
$(foreach m,$(MODULES),$(eval $(call LIB_RULE,$(m))))

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CALL) $(CFLAGS) $(CPPALL) -MMD -MP -c -o $@ $<

# Unit tests: test/unit/MODULE/NAME_test.c, each a cmocka program.
UNIT_MODULES := $(if $(M),$(M),$(MODULES))
UNIT := $(foreach m,$(UNIT_MODULES),$(patsubst test/unit/%.c,$(B)/unit/%,$(wildcard test/unit/$(m)/*_test.c)))

define UNIT_RULE
$(B)/unit/$(1)/%_test: $(B)/obj/test/unit/$(1)/%_test.o $(call libs_for,$(1))
	@mkdir -p $$(@D)
	$(CC) $(LDALL) $(CFLAGS) -o $$@ $$< -Wl,--start-group $(call libs_for,$(1)) -Wl,--end-group $(LIBS) -lcmocka
endef
$(foreach m,$(MODULES),$(eval $(call UNIT_RULE,$(m))))

unit: $(UNIT)
	@test/run-unit $(UNIT)

# Fuzz targets: test/fuzz/MODULE_THING.c, built with clang's libFuzzer into $(B)/fuzz/.
FUZZ_B := $(B)-fuzz
FUZZ := $(patsubst test/fuzz/%.c,%,$(wildcard test/fuzz/$(if $(M),$(M)_*,*).c))
.PHONY: fuzz-build
fuzz-build:
	@contrib/install-deps build check
	@$(MAKE) --no-print-directory B=$(FUZZ_B) CC=clang SAN=address,undefined CFLAGS="-O1 -g -fsanitize=fuzzer-no-link" $(patsubst %,$(FUZZ_B)/fuzz/%,$(FUZZ))

define FUZZ_RULE
$(B)/fuzz/$(1)_%: $(B)/obj/test/fuzz/$(1)_%.o $(call libs_for,$(1))
	@mkdir -p $$(@D)
	$(CC) $(LDALL) $(CFLAGS) -fsanitize=fuzzer -o $$@ $$< -Wl,--start-group $(call libs_for,$(1)) -Wl,--end-group $(LIBS)
endef
$(foreach m,$(MODULES),$(eval $(call FUZZ_RULE,$(m))))

# ---- everything that a person or CI calls ------------------------------------------------------------------

JOBS ?= $(shell nproc)
SUB  := $(MAKE) --no-print-directory -j$(JOBS)
SUB_WERROR := $(SUB) WERROR=-Werror
# Modules whose tests run threads: once more under ThreadSanitizer.
TSAN_MODULES := engine journal store queue directory relay

.PHONY: deps check check-build demo bench fuzz fuzz-long fuzz-coverage torture lint install man
deps:
	contrib/install-deps build

check:
	contrib/install-deps build check
	$(SUB) check-build
	test/check $(B)

check-build:
	$(SUB_WERROR) B=$(B)
	$(SUB_WERROR) B=$(B)-asan SAN=address,undefined CFLAGS="-O1 -g" $(B)-asan/postrider $(B)-asan/postrider-client unit-build
	$(SUB_WERROR) B=$(B)-tsan SAN=thread CFLAGS="-O1 -g" $(foreach m,$(TSAN_MODULES),unit-build-$(m))
	$(SUB_WERROR) fuzz-build

.PHONY: unit-build $(foreach m,$(MODULES),unit-build-$(m))
unit-build: $(UNIT)
$(foreach m,$(MODULES),$(eval unit-build-$(m): $(filter $(B)/unit/$(m)/%,$(UNIT))))

# make demo DEMO=once ends after the demonstration.
demo:
	contrib/install-deps build demo
	$(SUB)
	POSTRIDER=$(abspath $(B))/postrider contrib/demo $(DEMO)

# Longer: FUZZ_SECONDS a target.
FUZZ_SECONDS ?= 120
fuzz: fuzz-build
	FUZZ_SECONDS=$(FUZZ_SECONDS) test/check --only-fuzz $(B)

# Until each target has had an hour in all: FUZZ_TOTAL seconds of it (test/fuzz/long).
fuzz-long: fuzz-build
	test/fuzz/long $(B)-fuzz

# Which lines of the parsers the kept corpus reaches.
fuzz-coverage:
	contrib/install-deps build check
	@$(SUB) B=$(B)-cov CC=clang CFLAGS="-O1 -g -fsanitize=fuzzer-no-link -fprofile-instr-generate -fcoverage-mapping" $(patsubst %,$(B)-cov/fuzz/%,$(FUZZ))
	test/fuzz/coverage $(B)-cov

bench:
	contrib/install-deps build bench
	$(SUB)
	$(SUB) bench-build
	POSTRIDER=$(abspath $(B))/postrider test/bench/run $(BENCH)

# Programs that measure one part alone: test/bench/NAME.c. make bench BENCH="--rounds 1 --scale 0.2" is a quick look.
.PHONY: bench-build
BENCHES := $(patsubst test/bench/%.c,$(B)/bench/%,$(wildcard test/bench/*.c))
bench-build: $(BENCHES)
$(B)/bench/%: $(B)/obj/test/bench/%.o $(call libs_for,store)
	@mkdir -p $(@D)
	$(CC) $(LDALL) $(CFLAGS) -o $@ $< -Wl,--start-group $(call libs_for,store) -Wl,--end-group $(LIBS)

# make torture PARTS="kill powerloss" TORTURE_SECONDS=3600: the long form of what check does for seconds.
PARTS ?=
torture:
	contrib/install-deps build check torture
	$(SUB) B=$(B) unit-build
	$(SUB) B=$(B)-asan SAN=address,undefined CFLAGS="-O1 -g" $(B)-asan/postrider unit-build
	$(SUB) B=$(B)-tsan SAN=thread CFLAGS="-O1 -g" $(B)-tsan/postrider
	$(SUB) B=$(B)-tested CFLAGS="-O2 -g -DPOSTRIDER_TEST" $(B)-tested/postrider
	POSTRIDER=$(abspath $(B))-asan/postrider POSTRIDER_TSAN=$(abspath $(B))-tsan/postrider POSTRIDER_TESTED=$(abspath $(B))-tested/postrider \
		UNIT=$(abspath $(B))-asan/unit UNIT_PLAIN=$(abspath $(B))/unit test/torture/run $(PARTS)

lint:
	contrib/install-deps build lint
	test/lint/run

# man/main.cf.5 is made from the parameter table and checked in.
man: $(B)/postrider
	$(B)/postrider config --man >$(B)/main.cf.5
	mv $(B)/main.cf.5 man/main.cf.5

PREFIX  ?= /usr/local
DESTDIR ?=
install: $(B)/postrider $(B)/postrider-client
	install -D -m 0755 $(B)/postrider $(DESTDIR)$(PREFIX)/sbin/postrider
	install -D -m 0755 $(B)/postrider-client $(DESTDIR)$(PREFIX)/sbin/postrider-client
	for n in sendmail mailq postqueue postsuper postcat qshape; do ln -sf postrider-client $(DESTDIR)$(PREFIX)/sbin/$$n; done
	for n in newaliases postmap postalias; do ln -sf postrider $(DESTDIR)$(PREFIX)/sbin/$$n; done
	for f in man/*.[1-8]; do install -D -m 0644 "$$f" "$(DESTDIR)$(PREFIX)/share/man/man$${f##*.}/$${f##*/}"; done
	install -d -m 0755 $(DESTDIR)/lib/systemd/system
	sed 's|@SBINDIR@|$(PREFIX)/sbin|' contrib/postrider.service >$(DESTDIR)/lib/systemd/system/postrider.service
	install -d -m 0755 $(DESTDIR)/etc/logrotate.d
	sed 's|@SBINDIR@|$(PREFIX)/sbin|' contrib/postrider.logrotate >$(DESTDIR)/etc/logrotate.d/postrider

clean:
	rm -rf $(B) $(B)-asan $(B)-tsan $(B)-tested $(B)-cov $(FUZZ_B)

.SECONDARY:
-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
