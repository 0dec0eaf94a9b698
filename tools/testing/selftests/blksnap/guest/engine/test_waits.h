/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of test_waits share
 *
 * All that a test makes is kept in one place, so that waits_tear_down() can end
 * it, whatever became of the test: hung devices go on, children are killed.
 */
#ifndef TEST_WAITS_H
#define TEST_WAITS_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "blksnap_test.h"

#define NS_PER_MS 1000000ULL
#define NS_PER_S 1000000000ULL

/* What a call that waits for no device may take on an emulated machine. */
#define CALL_LIMIT_MS 2000U

/* How long a hung device may hang: the kernel calls a task hung after 60 s. */
#define HANG_MS 40000U

/* Time after which a request that was submitted is where it is to be. */
#define UNDER_WAY_MS 400U

/* --- devices --- */

struct disk *rig_disk(uint64_t nr_mib, const struct null_disk_options *options);
struct disk *rig_linear(const struct disk *lower);
struct disk *rig_delay(const struct disk *lower, unsigned int write_ms);
struct disk *rig_stripe(const struct disk *a, const struct disk *b);
struct disk *rig_multipath(void);
const char *rig_mapping_name(const struct disk *mapping);
void rig_hang(const struct disk *mapping);
void rig_go_on(void);
const char *rig_mount(const struct disk *disk);
bool rig_reload(const char *parameters);
void waits_tear_down(void);

/* --- processes --- */

pid_t child_start(int (*fn)(void *data), void *data);
bool child_ends_within(pid_t child, unsigned int ms);
int child_join(pid_t child);

/* --- a cgroup of little bandwidth --- */

bool throttle_set(const struct disk *disk, uint64_t bytes_per_s);

/**
 * struct child_write - one direct write by another process
 * @path:	of the device
 * @at:		where, in bytes
 * @nr_bytes:	how much
 * @byte:	what
 * @is_slow:	from inside the cgroup of little bandwidth
 * @delay_ms:	time before it begins
 */
struct child_write {
	const char *path;
	uint64_t at;
	size_t nr_bytes;
	int byte;
	bool is_slow;
	unsigned int delay_ms;
};

pid_t child_write_start(const struct child_write *write);

/* --- writers whose longest write is of interest --- */

/**
 * struct writer - a thread that writes 4 KiB again and again
 * @fd:		of a device or file
 * @at:		where, in bytes
 * @nr_bytes:	after which it begins at @at again
 * @pause_us:	between two writes
 * @begun_ns:	when the write in progress began, 0 between writes
 * @longest_ns:	of the writes that are done
 */
struct writer {
	pthread_t thread;
	int fd;
	uint64_t at;
	uint64_t nr_bytes;
	unsigned int pause_us;
	atomic_bool is_over;
	atomic_uint_fast64_t begun_ns;
	atomic_uint_fast64_t longest_ns;
	atomic_uint nr_writes;
	atomic_uint nr_failed;
};

void writer_start(const char *path, uint64_t at, unsigned int pause_us);
void writer_start_over(const char *path, uint64_t nr_bytes, unsigned int pause_us);
void writers_begin_anew(void);
uint64_t writers_longest_ns(void);
void writers_stop(void);

/* --- calls in the background --- */

struct call {
	pthread_t thread;
	int (*fn)(void *data);
	void *data;
	int ret;
	uint64_t ns;
	atomic_bool is_done;
	bool is_joined;
};

struct call *call_start(int (*fn)(void *data), void *data);
bool call_ends_within(struct call *call, unsigned int ms);
void call_join(struct call *call);

int take_fn(void *snapshot);
void expect_all_calls_quick(const struct disk *disk, const struct disk *storage,
			    uint64_t storage_sector);

/* --- the tests of the other files --- */

extern const struct ktap_test start_tests[];
extern const struct ktap_test take_tests[];
extern const struct ktap_test hung_tests[];
extern const struct ktap_test freeze_tests[];
extern const struct ktap_test open_tests[];
extern const struct ktap_test landing_tests[];
void open_tear_down(void);
void landing_tear_down(void);

#endif /* TEST_WAITS_H */
