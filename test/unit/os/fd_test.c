/* What must hold of os/fd and os/net. */
#include "os/fd.h"
#include "os/net.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void descriptors_travel_with_the_first_byte(void **state)
{
	int pair[2], files[2], got[FD_PASS_MAX];
	char data[8];
	size_t count;

	(void)state;
	assert_int_equal(fd_socketpair(pair), 0);
	assert_int_equal(pipe(files), 0);
	assert_int_equal(fd_send(pair[0], "hello", 5, files, 2), 5);
	assert_int_equal(fd_recv(pair[1], data, sizeof(data), got, FD_PASS_MAX, &count), 5);
	assert_int_equal(count, 2);
	assert_int_equal(write(got[1], "x", 1), 1);
	assert_int_equal(read(files[0], data, 1), 1);
	close(got[0]);
	close(got[1]);
	/* More than asked for: all closed, an error. */
	assert_int_equal(fd_send(pair[0], "y", 1, files, 2), 1);
	assert_int_equal(fd_recv(pair[1], data, sizeof(data), got, 1, &count), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(count, 0);
	close(pair[0]);
	assert_int_equal(fd_recv(pair[1], data, sizeof(data), got, 1, &count), 0);
	close(pair[1]);
	close(files[0]);
	close(files[1]);
}

static void of_descriptors_that_find_no_room_the_loss_is_told_and_the_bytes_come(void **state)
{
	int pair[2], files[2], got[FD_PASS_MAX];
	struct rlimit limit, few;
	char data[8];
	size_t count;

	if (getenv("UNDER_VALGRIND"))
		skip(); /* it keeps the limit to itself */
	(void)state;
	assert_int_equal(fd_socketpair(pair), 0);
	assert_int_equal(pipe(files), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = limit;
	/* Room for one more, and then for none. */
	few.rlim_cur = (rlim_t)dup(files[0]) + 1;
	close((int)few.rlim_cur - 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(fd_send(pair[0], "hello", 5, files, 2), 5);
	assert_int_equal(fd_recv(pair[1], data, sizeof(data), got, FD_PASS_MAX, &count), 5);
	assert_int_equal(count, 2);
	assert_int_equal(got[0], (int)few.rlim_cur - 1);
	assert_int_equal(got[1], FD_LOST);
	assert_int_equal(fd_send(pair[0], "again", 5, files, 2), 5);
	assert_int_equal(fd_recv(pair[1], data, sizeof(data), got + 1, 1, &count), 5);
	assert_int_equal(count, 1);
	assert_int_equal(got[1], FD_LOST);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(files[i]);
	}
	close(got[0]);
}

static void a_sealed_file_cannot_be_changed(void **state)
{
	int fd = fd_sealed("test", STR("contents"));
	struct err err = ERR_NONE;
	char *data;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(fd_read_all(fd, 100, &data, &err), 8);
	assert_string_equal(data, "contents");
	free(data);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(fd_read_all(fd, 7, &data, &err), -1);
	assert_int_equal(err.kind, ERR_LIMIT);
	fd_close(&fd);
	assert_int_equal(fd, -1);
}

static void a_memory_file_made_in_pieces_is_read_from_its_beginning(void **state)
{
	int fd = fd_memory("test");
	struct err err = ERR_NONE;
	char *data;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fd_memory_add(fd, STR("one ")), 0);
	assert_int_equal(fd_memory_add(fd, STR("")), 0);
	assert_int_equal(fd_memory_add(fd, STR("two")), 0);
	assert_int_equal(fd_memory_seal(fd), 0);
	assert_int_equal(fd_memory_add(fd, STR("three")), -1);
	assert_int_equal(fd_read_all(fd, 100, &data, &err), 7);
	assert_string_equal(data, "one two");
	free(data);
	fd_close(&fd);
}

static void waiting_ends_at_the_deadline_or_the_byte(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(fd_socketpair(pair), 0);
	assert_int_equal(fd_wait(pair[0], POLLIN, 10), 0);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_int_equal(fd_wait(pair[0], POLLIN, -1), 1);
	close(pair[0]);
	close(pair[1]);
}

static const char *printed(const char *text)
{
	static char out[NET_ADDR_TEXT];
	struct net_addr a;

	if (!net_addr_parse(str_from(text), 25, &a))
		return NULL;
	assert_int_equal(net_addr_port(&a), 25);
	return net_addr_text(&a, out);
}

static void addresses_print_as_they_parse(void **state)
{
	struct net_addr a = {.len = 0};
	char out[NET_ADDR_TEXT];

	(void)state;
	assert_string_equal(printed("127.0.0.1"), "127.0.0.1");
	assert_string_equal(printed("[2001:DB8::1]"), "2001:db8::1");
	assert_string_equal(printed("::ffff:192.0.2.1"), "192.0.2.1");
	assert_null(printed("localhost"));
	assert_null(printed("127.1"));
	assert_null(printed(""));
	assert_string_equal(net_addr_text(&a, out), "unix");
	assert_true(net_addr_parse(STR("2001:db8::1"), 0, &a));
	assert_string_equal(net_addr_literal(&a, out), "IPv6:2001:db8::1");
	assert_false(net_addr_is_loopback(&a));
	assert_true(net_addr_parse(STR("::1"), 0, &a) && net_addr_is_loopback(&a));
	assert_true(net_addr_parse(STR("::ffff:127.0.0.9"), 0, &a) && net_addr_is_loopback(&a));
}

static bool matches(const char *network, const char *address)
{
	struct net_cidr cidr;
	struct net_addr a;

	assert_int_equal(net_cidr_parse(str_from(network), &cidr, NULL), 0);
	assert_true(net_addr_parse(str_from(address), 0, &a));
	return net_cidr_match(&cidr, &a);
}

static void networks_match_their_own_family_only(void **state)
{
	struct net_cidr cidr;
	struct err err = ERR_NONE;

	(void)state;
	assert_true(matches("10.0.0.0/8", "10.255.0.1"));
	assert_true(matches("10.0.0.0/8", "::ffff:10.1.2.3"));
	assert_false(matches("10.0.0.0/8", "11.0.0.1"));
	assert_true(matches("192.0.2.128/25", "192.0.2.200"));
	assert_false(matches("192.0.2.128/25", "192.0.2.100"));
	assert_true(matches("0.0.0.0/0", "8.8.8.8"));
	assert_false(matches("0.0.0.0/0", "2001:db8::1"));
	assert_true(matches("::/0", "2001:db8::1"));
	assert_false(matches("::/0", "8.8.8.8"));
	assert_true(matches("[2001:db8::]/33", "2001:db8:7fff::1"));
	assert_false(matches("[2001:db8::]/33", "2001:db8:8000::1"));
	assert_true(matches("!127.0.0.1", "127.0.0.1"));
	assert_int_equal(net_cidr_parse(STR("10.0.0.1/8"), &cidr, &err), -1);
	assert_non_null(strstr(err.text, "must be zero"));
	assert_int_equal(net_cidr_parse(STR("10.0.0.0/33"), &cidr, &err), -1);
	assert_int_equal(net_cidr_parse(STR("host"), &cidr, &err), -1);
}

static void gateways_are_read_from_routes(void **state)
{
	struct str routes = STR("Iface\tDestination\tGateway \tFlags\tRefCnt\n"
				"lo\n"
				"eth0\t000200C0\t00000000\t0001\t0\n"
				"eth0\t00000000\tnonsense\t0003\t0\n"
				"eth0\t00000000\t7F7F7F7F\t0003\t0\n"
				"eth1\t00000000\t0A0A0A0A   \t0003\t0");
	struct net_addr a;
	char text[NET_ADDR_TEXT];

	(void)state;
	assert_true(net_gateway_next(&routes, &a));
	assert_string_equal(net_addr_text(&a, text), "127.127.127.127");
	assert_true(net_gateway_next(&routes, &a));
	assert_string_equal(net_addr_text(&a, text), "10.10.10.10");
	assert_false(net_gateway_next(&routes, &a));
}

static void listening_takes_a_port_from_the_kernel_and_replaces_stale_sockets(void **state)
{
	char dir[] = "/tmp/postrider-net-XXXXXX", path[64];
	struct err err = ERR_NONE;
	struct stat st;
	int fd;

	(void)state;
	fd = net_listen_tcp(STR("127.0.0.1"), 0, 10, &err);
	assert_true(fd >= 0);
	close(fd);
	fd = net_listen_tcp(STR(""), 0, 10, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(net_listen_tcp(STR("mail.example"), 0, 10, &err), -1);
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	for (int i = 0; i < 2; i++) {
		fd = net_listen_unix(path, 0600, 10, &err);
		assert_true(fd >= 0);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
		close(fd);
	}
	unlink(path);
	rmdir(dir);
}

static void a_socket_may_have_a_long_path(void **state)
{
	char dir[] = "/tmp/postrider-net-test.XXXXXX", deep[200], path[220];
	struct err err = ERR_NONE;
	int fd, client;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(deep, sizeof(deep), "%s/%0120d", dir, 0);
	assert_int_equal(mkdir(deep, 0700), 0);
	snprintf(path, sizeof(path), "%s/socket", deep);
	assert_int_equal(net_connect_unix(path, &err), -1);
	assert_int_equal(err.sys, ENOENT);
	for (int i = 0; i < 2; i++) {
		fd = net_listen_unix(path, 0600, 10, &err);
		assert_true(fd >= 0);
		client = net_connect_unix(path, &err);
		assert_true(client >= 0);
		close(client);
		close(fd);
	}
	unlink(path);
	rmdir(deep);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_travel_with_the_first_byte),
		cmocka_unit_test(of_descriptors_that_find_no_room_the_loss_is_told_and_the_bytes_come),
		cmocka_unit_test(a_sealed_file_cannot_be_changed),
		cmocka_unit_test(a_memory_file_made_in_pieces_is_read_from_its_beginning),
		cmocka_unit_test(waiting_ends_at_the_deadline_or_the_byte),
		cmocka_unit_test(addresses_print_as_they_parse),
		cmocka_unit_test(networks_match_their_own_family_only),
		cmocka_unit_test(gateways_are_read_from_routes),
		cmocka_unit_test(listening_takes_a_port_from_the_kernel_and_replaces_stale_sockets),
		cmocka_unit_test(a_socket_may_have_a_long_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
