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
	.flags	= FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT,
};

static void notrace filter_table_callback(unsigned long ip, unsigned long parent_ip,
					  struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	filter_replaced((struct gendisk *)ftrace_regs_get_argument(fregs, 0));
}

static struct ftrace_ops filter_table_ops = {
	.func	= filter_table_callback,
	.flags	= FTRACE_OPS_FL_PERMANENT,
};

#ifdef BLKSNAP_HAVE_RW_PAGE

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
	.flags	= FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT,
};

static int filter_find_write_page(void)
{
	unsigned char name[] = "bdev_write_page";

	/* By name, because it is not exported. */
	return ftrace_set_filter(&filter_write_page_ops, name, sizeof(name) - 1, 1);
}

static int filter_close_write_page(void)
{
	return register_ftrace_function(&filter_write_page_ops);
}

static void filter_open_write_page(void)
{
	unregister_ftrace_function(&filter_write_page_ops);
}

static void filter_forget_write_page(void)
{
	ftrace_free_filter(&filter_write_page_ops);
}

#else

static int filter_find_write_page(void)
{
	return 0;
}

static int filter_close_write_page(void)
{
	return 0;
}

static void filter_open_write_page(void)
{
}

static void filter_forget_write_page(void)
{
}

#endif /* BLKSNAP_HAVE_RW_PAGE */

static long filter_count_holders(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(filter_holders, cpu));
	return sum;
}

const bool filter_sees_tables = true;

/* Sleeps for some ten milliseconds.  -EBUSY also if ftrace is switched off. */
int filter_register(void)
{
	int ret;

	ret = filter_close_write_page();
	if (ret)
		goto err_report;
	ret = register_ftrace_function(&filter_table_ops);
	if (ret)
		goto err_open_write_page;
	ret = register_ftrace_function(&filter_ftrace_ops);
	if (ret)
		goto err_unwatch_tables;
	return 0;

err_unwatch_tables:
	unregister_ftrace_function(&filter_table_ops);
err_open_write_page:
	filter_open_write_page();
err_report:
	pr_err("cannot filter bios, is submit_bio_noacct() livepatched or kernel.ftrace_enabled=0? %pe\n",
	       ERR_PTR(ret));
	return ret;
}

/* Sleeps for a tenth of a second. */
void filter_unregister(void)
{
	int ret;

	/* Waits until no task is in filter_callback() or in a stub of it. */
	ret = unregister_ftrace_function(&filter_ftrace_ops);
	if (ret) {
		/* The call stays, and so must what it calls. */
		__module_get(THIS_MODULE);
		pr_err("ftrace has switched itself off and the filter stays: do not unload, but reboot: %pe\n",
		       ERR_PTR(ret));
		return;
	}
	unregister_ftrace_function(&filter_table_ops);
	filter_open_write_page();
}

/*
 * Once for as long as the module is loaded: the filter hash of an ftrace_ops cannot be
 * used again after it has been freed.
 */
int filter_module_init(void)
{
	int ret;

	ret = filter_find_write_page();
	if (ret)
		goto err_forget_write_page;
	ret = ftrace_set_filter_ip(&filter_table_ops, (unsigned long)set_disk_ro, 0, 0);
	if (ret)
		goto err_forget_tables;
	ret = ftrace_set_filter_ip(&filter_ftrace_ops, (unsigned long)submit_bio_noacct, 0, 0);
	if (ret)
		goto err_forget;
	return 0;

err_forget:
	ftrace_free_filter(&filter_ftrace_ops);
err_forget_tables:
	ftrace_free_filter(&filter_table_ops);
err_forget_write_page:
	filter_forget_write_page();
	return ret;
}

void filter_module_exit(void)
{
	/*
	 * A task that was diverted had counted itself when the filter was unregistered.
	 * The count has not grown since, so once the sum is zero all have left.
	 */
	while (filter_count_holders())
		usleep_range(500, 1000);
	/* The last instructions of filter_held(), after its count. */
	synchronize_rcu_tasks();
	ftrace_free_filter(&filter_ftrace_ops);
	ftrace_free_filter(&filter_table_ops);
	filter_forget_write_page();
}
