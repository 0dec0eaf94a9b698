// SPDX-License-Identifier: GPL-2.0
/*
 * Random calls: of one caller, and of many at a time
 *
 * The crowd is some threads here, some in a process that has inherited the
 * control node, and one more process that is killed in the middle of whatever it
 * does, again and again.  Beside them: for each process somebody who changes the
 * memory that is being handed over, and signals that interrupt; the honest
 * workload; somebody who writes to the origins of the callers, and somebody who
 * works on their images.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_hostile.h"

#define NR_THREADS 3		/* of each of two processes */
#define NR_OTHERS 3
#define VICTIM_LIFE_MS 1500
#define ALONE_SHARE 8		/* one of so many calls is made by one caller */

/* --- snapshots that some caller has made --- */

#define NR_SLOTS 8U

/*
 * For all processes, so without a lock that a dying one could keep.  What is
 * read while somebody writes is an identifier of nobody.
 */
static struct {
	atomic_uint next;
	atomic_ullong ids[NR_SLOTS][2];	/* 0: a slot that is free */
} *pool;

void crowd_set_up(void)
{
	pool = mmap(NULL, sizeof(*pool), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pool == MAP_FAILED)
		exit(KTAP_FAIL);
}

void crowd_add_id(const struct blk_snap_uuid *id)
{
	unsigned int i, slot = atomic_fetch_add(&pool->next, 1) % NR_SLOTS;
	unsigned long long halves[2];

	memcpy(halves, id, sizeof(halves));
	for (i = 0; i < NR_SLOTS; i++)
		if (atomic_load(&pool->ids[i][0]) == halves[0])
			return;
	/* None that is in use, if there is another one. */
	for (i = 0; i < NR_SLOTS && atomic_load(&pool->ids[slot][0]); i++)
		slot = (slot + 1) % NR_SLOTS;
	atomic_store(&pool->ids[slot][1], halves[1]);
	atomic_store(&pool->ids[slot][0], halves[0]);
}

/* There is no such snapshot any more. */
void crowd_forget_id(const struct blk_snap_uuid *id)
{
	unsigned long long halves[2];
	unsigned int slot;

	memcpy(halves, id, sizeof(halves));
	for (slot = 0; slot < NR_SLOTS; slot++)
		if (atomic_load(&pool->ids[slot][0]) == halves[0])
			atomic_store(&pool->ids[slot][0], 0);
}

void crowd_pick_id(struct random *random, struct blk_snap_uuid *id)
{
	unsigned int i, slot = random_below(random, NR_SLOTS);
	unsigned long long halves[2];

	for (i = 0; i < NR_SLOTS && !atomic_load(&pool->ids[slot][0]); i++)
		slot = (slot + 1) % NR_SLOTS;
	halves[0] = atomic_load(&pool->ids[slot][0]);
	halves[1] = atomic_load(&pool->ids[slot][1]);
	memcpy(id, halves, sizeof(halves));
}

/* --- callers --- */

struct member {
	struct caller caller;
	pthread_t thread;
};

struct gang {
	unsigned int nr;
	struct member members[NR_THREADS];
	pthread_t meddler;
	struct random random;
};

static void *call_on(void *data)
{
	struct member *member = data;

	while (stats_take_turn())
		caller_make_call(&member->caller);
	return NULL;
}

static void ignore(int signal)
{
	(void)signal;
}

static void *meddle(void *data)
{
	struct gang *gang = data;
	struct caller *caller;

	while (!stats_is_over()) {
		caller = &gang->members[random_below(&gang->random,
						     gang->nr)].caller;
		arena_meddle(&caller->arg_arena, &gang->random);
		arena_meddle(&caller->array_arena, &gang->random);
		if (!random_below(&gang->random, 100))
			pthread_kill(gang->members[random_below(&gang->random,
								gang->nr)].thread,
				     SIGUSR1);
		usleep(300);
	}
	return NULL;
}

static void gang_start(struct gang *gang, unsigned int nr, uint64_t seed,
		       int inherited_fd, unsigned int slow_page, bool may_borrow)
{
	unsigned int i;

	gang->nr = nr;
	random_init(&gang->random, seed);
	for (i = 0; i < nr; i++) {
		struct member *member = &gang->members[i];

		caller_create(&member->caller, seed + 1 + i, inherited_fd,
			      slow_page + 2 * i);
		member->caller.may_borrow = may_borrow;
		if (pthread_create(&member->thread, NULL, call_on, member))
			exit(KTAP_FAIL);
	}
	if (pthread_create(&gang->meddler, NULL, meddle, gang))
		exit(KTAP_FAIL);
}

static void gang_join(struct gang *gang)
{
	unsigned int i;

	/* It sends signals to the others, so it has to end first. */
	pthread_join(gang->meddler, NULL);
	for (i = 0; i < gang->nr; i++)
		pthread_join(gang->members[i].thread, NULL);
	for (i = 0; i < gang->nr; i++)
		caller_destroy(&gang->members[i].caller);
}

/* --- processes --- */

/* Pages on the slow disk: two for each caller. */
#define SLOW_PAGES_HERE 0
#define SLOW_PAGES_CHILD (2 * NR_THREADS)
#define SLOW_PAGES_VICTIM (4 * NR_THREADS)
#define NR_SLOW_PAGES (4 * NR_THREADS + 2)

static struct gang gang;

static pid_t start_child(uint64_t seed)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child)
		return child;
	gang_start(&gang, NR_THREADS, seed, ctl, SLOW_PAGES_CHILD, false);
	gang_join(&gang);
	fflush(stdout);
	_exit(KTAP_PASS);
}

static void be_victim(uint64_t seed)
{
	gang_start(&gang, 1, seed, ctl, SLOW_PAGES_VICTIM, false);
	gang_join(&gang);
	_exit(KTAP_PASS);
}

/* A process whose children are killed, one after the other. */
static pid_t start_nursery(uint64_t seed)
{
	struct random random;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child)
		return child;
	random_init(&random, seed);
	while (!stats_is_over()) {
		child = fork();
		if (!child)
			be_victim(random_next(&random));
		sleep_ms(50 + random_below(&random, VICTIM_LIFE_MS));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	_exit(KTAP_PASS);
}

static bool process_ended_well(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == KTAP_PASS;
}

/* --- the tests --- */

/* Enough calls for every way to be gone. */
#define CALLS_FOR_ALL_ERRNOS 20000

struct outcome {
	unsigned int kind;
	int errors[10];
};

/* What has to be seen, else the calls do not reach what they should. */
static const struct outcome outcomes[] = {
	{ blk_snap_ioctl_version, { 0, EFAULT } },
	{ blk_snap_ioctl_tracker_remove, { 0, EFAULT, ENODATA, EBUSY } },
	{ blk_snap_ioctl_tracker_collect, { 0, EFAULT, ENOBUFS } },
	{ blk_snap_ioctl_tracker_read_cbt_map,
	  { 0, EFAULT, ENODATA, EPERM, EINVAL } },
	{ blk_snap_ioctl_tracker_mark_dirty_blocks,
	  { 0, EFAULT, ENODEV, EINVAL, E2BIG } },
	{ blk_snap_ioctl_snapshot_create,
	  { 0, EFAULT, EINVAL, EALREADY, ENXIO, ENODEV, EOPNOTSUPP } },
	{ blk_snap_ioctl_snapshot_destroy, { 0, EFAULT, ENODEV } },
	{ blk_snap_ioctl_snapshot_append_storage,
	  { 0, EFAULT, ESRCH, EROFS, EINVAL, EBUSY, E2BIG } },
	{ blk_snap_ioctl_snapshot_take, { 0, EFAULT, ESRCH, EALREADY } },
	{ blk_snap_ioctl_snapshot_collect, { 0, EFAULT, ENODATA } },
	{ blk_snap_ioctl_snapshot_collect_images,
	  { 0, EFAULT, ESRCH, ENODEV, ENODATA } },
	{ blk_snap_ioctl_snapshot_wait_event, { 0, EFAULT, ESRCH, ENOENT } },
	{ CALL_UNKNOWN, { ENOTTY } },
};

static void check_outcomes(void)
{
	unsigned int i, j;

	if (stats_total() < CALLS_FOR_ALL_ERRNOS)
		return;
	for (i = 0; i < ARRAY_SIZE(outcomes); i++)
		for (j = 0; !j || (j < 10 && outcomes[i].errors[j]); j++)
			if (!stats_nr(outcomes[i].kind, outcomes[i].errors[j]))
				FAIL("call %u never ended with %s",
				     outcomes[i].kind,
				     strerrorname_np(outcomes[i].errors[j]) ?: "success");
}

static void test_calls_of_one_caller_do_what_they_say(void)
{
	struct caller *caller = calloc(1, sizeof(*caller));

	ASSERT(caller);
	stats_clear();
	model_set_up();
	slow_memory_set_up(NR_SLOW_PAGES);
	caller_create(caller, ktap_options.seed, ctl, SLOW_PAGES_HERE);
	caller->is_alone = true;
	stats_start(hostile_options.nr_calls / ALONE_SHARE,
		    hostile_options.max_seconds / 2);
	while (stats_take_turn())
		caller_make_call(caller);
	model_compare(caller, NULL);
	stats_print("one caller");
	ktap_note("seed %llu, outcome %016llx",
		  (unsigned long long)ktap_options.seed,
		  (unsigned long long)caller->hash);
	EXPECT_EQ(nr_complaints(), 0);
	check_outcomes();
	caller_destroy(caller);
	slow_memory_tear_down();
	model_tear_down();
	free(caller);
}

static void test_calls_of_many_harm_nobody(void)
{
	static void *(*const others[NR_OTHERS])(void *data) = {
		honest_run, stamp_run, image_run,
	};
	const struct sigaction action = { .sa_handler = ignore };
	uint64_t seed = ktap_options.seed, seeds[NR_OTHERS];
	pthread_t threads[NR_OTHERS];
	unsigned int i;
	pid_t child, nursery;

	stats_clear();
	model_tear_down();	/* nobody knows anything */
	honest_set_up();
	slow_memory_set_up(NR_SLOW_PAGES);
	sigaction(SIGUSR1, &action, NULL);
	stats_start(hostile_options.nr_calls -
		    hostile_options.nr_calls / ALONE_SHARE,
		    hostile_options.max_seconds / 2);
	child = start_child(seed + 1000);
	nursery = start_nursery(seed + 2000);
	for (i = 0; i < NR_OTHERS; i++) {
		seeds[i] = seed + 100 * i;
		ASSERT_EQ(pthread_create(&threads[i], NULL, others[i],
					 &seeds[i]), 0);
	}
	gang_start(&gang, NR_THREADS, seed, ctl, SLOW_PAGES_HERE, true);
	gang_join(&gang);
	for (i = 0; i < NR_OTHERS; i++)
		pthread_join(threads[i], NULL);
	EXPECT(process_ended_well(child));
	EXPECT(process_ended_well(nursery));
	stats_print("many callers");
	EXPECT_EQ(nr_complaints(), 0);
	check_outcomes();
	destroy_all_snapshots();
	honest_check();
	slow_memory_tear_down();
	honest_tear_down();
}

const struct ktap_test random_tests[] = {
	KTAP_TEST(test_calls_of_one_caller_do_what_they_say),
	KTAP_TEST(test_calls_of_many_harm_nobody),
	KTAP_END
};
