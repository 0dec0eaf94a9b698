// SPDX-License-Identifier: GPL-2.0
/*
 * Switches ftrace off, as a fault does that it finds
 *
 *	echo 1 >/sys/module/kill_ftrace/parameters/now
 *
 * There is no way back but another boot.  The function for it is not exported, so a
 * kprobe that is never armed tells where it is.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

static int kill_ftrace(const char *value, const struct kernel_param *param)
{
	struct kprobe probe = {
		.symbol_name = "ftrace_kill",
		.flags = KPROBE_FLAG_DISABLED,
	};
	void (*kill)(void);
	int ret;

	ret = register_kprobe(&probe);
	if (ret)
		return ret;
	kill = (void *)probe.addr;
	unregister_kprobe(&probe);
	kill();
	return 0;
}

static const struct kernel_param_ops kill_ftrace_ops = {
	.set = kill_ftrace,
};

module_param_cb(now, &kill_ftrace_ops, NULL, 0200);
MODULE_PARM_DESC(now, "Switch ftrace off, whatever is written");

MODULE_DESCRIPTION("The end of ftrace, for tests of blksnap");
MODULE_LICENSE("GPL");
