/* What must hold of the packets between master and its processes. */
#include "proc/wire.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int pair[2];

static int open_pair(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
}

static int close_pair(void **state)
{
	(void)state;
	close(pair[0]);
	close(pair[1]);
	return 0;
}

static void messages_and_descriptors_arrive_one_by_one(void **state)
{
	struct proc_listen sent = {.name = STR("127.0.0.1:25"), .fd = pair[0]}, got;
	struct proc_stop stop = {.grace_ms = 7};
	struct proc_packet packet;

	(void)state;
	assert_int_equal(proc_send(pair[0], PROC_LISTEN, &proc_listen_type, &sent), 0);
	assert_int_equal(proc_send(pair[0], PROC_STOP, &proc_stop_type, &stop), 0);
	assert_int_equal(proc_recv(pair[1], &packet), 1);
	assert_int_equal(packet.number, PROC_LISTEN);
	assert_int_equal(proc_unpack(&packet, &proc_listen_type, &got, NULL), 0);
	assert_true(str_eq(got.name, sent.name));
	assert_true(got.fd >= 0 && got.fd != pair[0]);
	close(got.fd);
	proc_packet_release(&packet);
	assert_int_equal(proc_recv(pair[1], &packet), 1);
	assert_int_equal(packet.number, PROC_STOP);
	proc_packet_release(&packet);
	assert_int_equal(proc_recv(pair[1], &packet), -1);
	assert_int_equal(errno, EAGAIN);
}

static void a_packet_that_does_not_decode_leaves_no_descriptor_open(void **state)
{
	struct proc_listen sent = {.name = STR("x"), .fd = pair[0]};
	struct proc_stop got;
	struct proc_packet packet;
	int fd;

	(void)state;
	assert_int_equal(proc_send(pair[0], PROC_STOP, &proc_listen_type, &sent), 0);
	assert_int_equal(proc_recv(pair[1], &packet), 1);
	assert_int_equal(packet.fd_count, 1);
	fd = packet.fds[0];
	assert_int_equal(proc_unpack(&packet, &proc_stop_type, &got, NULL), -1);
	proc_packet_release(&packet);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(errno, EBADF);
}

static void a_packet_whose_descriptors_find_no_room_comes_without_them(void **state)
{
	struct proc_listen sent = {.name = STR("smtp"), .address = STR("127.0.0.1:25"), .fd = pair[0]}, got;
	struct rlimit limit, none;
	struct proc_packet packet;

	if (getenv("UNDER_VALGRIND"))
		skip(); /* it keeps the limit to itself */
	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (int i = 0; i < 2; i++) { /* and the next one comes as well */
		assert_int_equal(proc_send(pair[0], PROC_LISTEN, &proc_listen_type, &sent), 0);
		assert_int_equal(proc_recv(pair[1], &packet), 1);
		assert_int_equal(packet.number, PROC_LISTEN);
		assert_true(packet.fds_lost);
		assert_int_equal(packet.fd_count, 0);
		assert_int_equal(proc_unpack(&packet, &proc_listen_type, &got, NULL), 0);
		assert_true(str_eq(got.address, sent.address));
		assert_int_equal(got.fd, -1);
		proc_packet_release(&packet);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(proc_send(pair[0], PROC_LISTEN, &proc_listen_type, &sent), 0);
	assert_int_equal(proc_recv(pair[1], &packet), 1);
	assert_false(packet.fds_lost);
	proc_packet_release(&packet);
}

static void the_end_and_a_stub_are_told_apart(void **state)
{
	struct proc_packet packet;

	(void)state;
	assert_int_equal(write(pair[0], "x", 1), 1);
	assert_int_equal(proc_recv(pair[1], &packet), -1);
	assert_int_equal(errno, EBADMSG);
	assert_int_equal(shutdown(pair[0], SHUT_WR), 0);
	assert_int_equal(proc_recv(pair[1], &packet), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(messages_and_descriptors_arrive_one_by_one, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(a_packet_that_does_not_decode_leaves_no_descriptor_open, open_pair,
						close_pair),
		cmocka_unit_test_setup_teardown(a_packet_whose_descriptors_find_no_room_comes_without_them, open_pair,
						close_pair),
		cmocka_unit_test_setup_teardown(the_end_and_a_stub_are_told_apart, open_pair, close_pair),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
