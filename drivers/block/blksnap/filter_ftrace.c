// SPDX-License-Identifier: GPL-2.0
/*
 * The bio filter on a stock kernel, through ftrace
 *
 * Mainline has no hook for bios, but one function that all of them pass:
 * submit_bio_noacct().  ftrace calls filter_callback() there, and where the
 * verdict is not FILTER_PASS the instruction pointer is set to a function of
 * ours with the same signature, which then runs in place of the original.
 *
 * The callback may run with preemption disabled (it does as soon as the function has
 * another tracer), so nothing in it sleeps, submits or waits.
 *
 * Device mapper calls set_disk_ro() when it has put a new table in the place of another
 * one and before it lets bios pass again.  That call is watched, not diverted.
 *
 * FTRACE_OPS_FL_PERMANENT keeps sysctl kernel.ftrace_enabled=0 from silently
 * switching the filter off.  FTRACE_OPS_FL_RECURSION is left out on purpose: it asks
 * for a slower wrapper that protects against recursion, and filter_judge() calls
 * nothing that submits.
 */
#include "blksnap.h"

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "filter.h"

/* Calls of filter_held() in progress; the share of a CPU may be negative. */
static DEFINE_PER_CPU(long, filter_holders);

/* Runs in place of submit_bio_noacct() for a bio that filter_judge() has taken. */
static notrace noinline void filter_taken(struct bio *bio)
{
}

/* Runs in place of submit_bio_noacct() for a bio that is to be held. */
static notrace noinline void filter_held(struct bio *bio)
{
	this_cpu_inc(filter_holders);
	filter_hold(bio);
	this_cpu_dec(filter_holders);
}

static void notrace filter_callback(unsigned long ip, unsigned long parent_ip,
				    struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct bio *bio = (struct bio *)ftrace_regs_get_argument(fregs, 0);
	enum filter_verdict verdict;
	void (*diverted)(struct bio *bio);

	/* No switch: every bio would pay for it. */
	verdict = filter_judge(bio);
	if (likely(verdict == FILTER_PASS))
		return;
	diverted = verdict == FILTER_TAKEN ? filter_taken : filter_held;
	ftrace_regs_set_instruction_pointer(fregs, (unsigned long)diverted);
}

static struct ftrace_ops filter_ftrace_ops = {
	.func	= filter_callback,
	.flags	= FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT |
		  COMPAT_FTRACE_FLAGS,
};

static void notrace filter_table_callback(unsigned long ip, unsigned long parent_ip,
					  struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	filter_replaced((struct gendisk *)ftrace_regs_get_argument(fregs, 0));
}

static struct ftrace_ops filter_table_ops = {
	.func	= filter_table_callback,
	.flags	= FTRACE_OPS_FL_PERMANENT | COMPAT_FTRACE_FLAGS,
};

#ifdef BLKSNAP_HAVE_BDEV_WRITE_PAGE

/*
 * Up to 6.2, mpage and swap write single pages through
 * block_device_operations->rw_page() where a driver has it (brd, zram, pmem), without
 * any bio.
 *
 * Runs in place of bdev_write_page() while the filter is registered.  Its callers
 * understand "this driver has no ->rw_page()" and submit a bio, which the filter sees.
 */
static notrace noinline int filter_no_write_page(struct block_device *bdev, sector_t sector,
						 struct page *page,
						 struct writeback_control *wbc)
{
	return -EOPNOTSUPP;
}

static void notrace filter_write_page_callback(unsigned long ip, unsigned long parent_ip,
					       struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	ftrace_regs_set_instruction_pointer(fregs, (unsigned long)filter_no_write_page);
}

static struct ftrace_ops filter_write_page_ops = {
	.func	= filter_write_page_callback,
	.flags	= FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT |
		  COMPAT_FTRACE_FLAGS,
};

static int filter_find_write_page(void)
{
	unsigned char name[] = "bdev_write_page";

	/* By name, because it is not exported. */
	return ftrace_set_filter(&filter_write_page_ops, name, sizeof(name) - 1, 1);
}

#else

static int filter_find_write_page(void)
{
	return 0;
}

#endif /* BLKSNAP_HAVE_BDEV_WRITE_PAGE */

/* In the order in which they are registered. */
static struct ftrace_ops *const filter_ops[] = {
#ifdef BLKSNAP_HAVE_BDEV_WRITE_PAGE
	&filter_write_page_ops,
#endif
	&filter_table_ops,
	&filter_ftrace_ops,
};

/* Waits until no task is in a callback or in a stub of it. */
static int filter_remove(unsigned int nr_ops)
{
	int ret = 0;

	while (!ret && nr_ops-- > 0)
		ret = unregister_ftrace_function(filter_ops[nr_ops]);
	return ret;
}

/* How often, and after how many ms, to try again while BPF changes the function, too. */
#define FILTER_TRIES 200
#define FILTER_TRY_MS 5

/* A program of BPF that is attached to the function just now makes it -EAGAIN. */
static int filter_install_ops(struct ftrace_ops *ops)
{
	unsigned int nr_tries = 0;
	int ret;

	while ((ret = register_ftrace_function(ops)) == -EAGAIN && ++nr_tries < FILTER_TRIES)
		msleep(FILTER_TRY_MS);
	return ret;
}

/* Sets @is_left if some of it could not be removed after an error. */
static int filter_install(bool *is_left)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(filter_ops); i++) {
		ret = filter_install_ops(filter_ops[i]);
		if (ret) {
			*is_left = filter_remove(i);
			return ret;
		}
	}
	return 0;
}

/*
 * The end of ftrace
 *
 * When it finds other code than it has put there, ftrace switches itself off until the
 * next boot.  Then it changes no code any more: the calls that are there stay, and what
 * they call has to stay, too.
 */

/* How long the end may go unnoticed. */
#define FILTER_WATCH_INTERVAL HZ

static void filter_watch(struct work_struct *work);

static DECLARE_DELAYED_WORK(filter_watch_work, filter_watch);

/* Of the time between filter_register() and filter_unregister(). */
static bool filter_is_whole;

/* Calls of ours may be there for ever. */
static bool filter_is_pinned;

/* Never registered. */
static struct ftrace_ops filter_question_ops;

/* There is no function that tells, but each one fails so.  Nothing is taken away. */
static bool filter_ftrace_is_off(void)
{
	return ftrace_set_filter_ip(&filter_question_ops, (unsigned long)submit_bio_noacct,
				    1, 0) == -ENODEV;
}

static void filter_pin(void)
{
	if (filter_is_pinned)
		return;
	filter_is_pinned = true;
	__module_get(THIS_MODULE);
	pr_err("ftrace has found a fault and is off: the filter stays, and this module cannot be unloaded before the next boot\n");
}

/* Unloading has to be refused before it begins, so this does not wait for a call. */
static void filter_watch(struct work_struct *work)
{
	if (filter_ftrace_is_off())
		filter_pin();
	else
		schedule_delayed_work(&filter_watch_work, FILTER_WATCH_INTERVAL);
}

static int filter_refuse_for_ever(void)
{
	pr_err("cannot filter bios, ftrace has found a fault and is off until the next boot\n");
	return -EBUSY;
}

static long filter_count_holders(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(filter_holders, cpu));
	return sum;
}

/*
 * Sleeps for some ten milliseconds, or for seconds while BPF changes the function, too.
 * -EBUSY also if ftrace is off, by sysctl or for good.
 */
int filter_register(void)
{
	bool is_left = false;
	int ret;

	/* It could not be removed. */
	if (filter_is_whole)
		return 0;
	if (filter_is_pinned || filter_ftrace_is_off())
		return filter_refuse_for_ever();
	ret = filter_install(&is_left);
	if (is_left || filter_ftrace_is_off()) {
		/* Unless it failed before it changed any code. */
		filter_pin();
		return filter_refuse_for_ever();
	}
	if (ret) {
		pr_err("cannot filter bios, is submit_bio_noacct() livepatched or kernel.ftrace_enabled=0? %pe\n",
		       ERR_PTR(ret));
		return ret;
	}
	filter_is_whole = true;
	schedule_delayed_work(&filter_watch_work, FILTER_WATCH_INTERVAL);
	return 0;
}

/* Sleeps for a tenth of a second.  If ftrace is off, the filter stays and passes all. */
void filter_unregister(void)
{
	cancel_delayed_work_sync(&filter_watch_work);
	if (filter_ftrace_is_off()) {
		filter_pin();
		return;
	}
	filter_is_whole = false;
	if (filter_remove(ARRAY_SIZE(filter_ops)) || filter_ftrace_is_off())
		filter_pin();
}

static void filter_free(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(filter_ops); i++)
		ftrace_free_filter(filter_ops[i]);
}

/*
 * Once for as long as the module is loaded: the filter hash of an ftrace_ops cannot be
 * used again after it has been freed.
 */
int filter_module_init(void)
{
	int ret;

	if (filter_ftrace_is_off())
		return filter_refuse_for_ever();
	ret = filter_find_write_page();
	if (!ret)
		ret = ftrace_set_filter_ip(&filter_table_ops, (unsigned long)set_disk_ro, 0, 0);
	if (!ret)
		ret = ftrace_set_filter_ip(&filter_ftrace_ops,
					   (unsigned long)submit_bio_noacct, 0, 0);
	if (ret)
		filter_free();
	return ret;
}

void filter_module_exit(void)
{
	/* Too late to refuse.  A task that waits does less harm than code that is gone. */
	while (filter_is_pinned)
		schedule_timeout_idle(MAX_SCHEDULE_TIMEOUT);
	/*
	 * A task that was diverted had counted itself when the filter was unregistered.
	 * The count has not grown since, so once the sum is zero all have left.
	 */
	while (filter_count_holders())
		usleep_range(500, 1000);
	/* The last instructions of filter_held(), after its count. */
	synchronize_rcu_tasks();
	filter_free();
}
