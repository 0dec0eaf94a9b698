// SPDX-License-Identifier: GPL-2.0
/*
 * A second module that diverts submit_bio_noacct(), as others for snapshots do
 *
 * It asks ftrace for the right to divert, and then diverts nothing.  If another module
 * has that right already, loading fails with EBUSY.
 */
#include <linux/blkdev.h>
#include <linux/ftrace.h>
#include <linux/module.h>

static unsigned long nr_calls;
module_param(nr_calls, ulong, 0444);
MODULE_PARM_DESC(nr_calls, "How often it was called, more or less");

static void notrace second_user_callback(unsigned long ip, unsigned long parent_ip,
					 struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	nr_calls++;
}

static struct ftrace_ops second_user_ops = {
	.func	= second_user_callback,
	.flags	= FTRACE_OPS_FL_IPMODIFY,
};

static int __init second_user_init(void)
{
	int ret;

	ret = ftrace_set_filter_ip(&second_user_ops, (unsigned long)submit_bio_noacct, 0, 0);
	if (ret)
		return ret;
	ret = register_ftrace_function(&second_user_ops);
	if (ret)
		ftrace_free_filter(&second_user_ops);
	return ret;
}

static void __exit second_user_exit(void)
{
	unregister_ftrace_function(&second_user_ops);
	ftrace_free_filter(&second_user_ops);
}

module_init(second_user_init);
module_exit(second_user_exit);
MODULE_DESCRIPTION("A second user of submit_bio_noacct(), for tests of blksnap");
MODULE_LICENSE("GPL");
