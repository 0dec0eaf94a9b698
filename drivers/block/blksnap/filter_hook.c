// SPDX-License-Identifier: GPL-2.0
/*
 * The bio filter through a hook in the block layer
 *
 * A kernel with CONFIG_BLK_BIO_FILTER calls the filter from the first line of
 * submit_bio_noacct(), and goes on as the verdict says.
 */
#include "blksnap.h"

#include <linux/bio-filter.h>

#include "filter.h"

static enum bio_filter_verdict filter_hook_judge(struct bio *bio)
{
	switch (filter_judge(bio)) {
	case FILTER_TAKEN:
		return BIO_FILTER_TAKEN;
	case FILTER_HOLD:
		return BIO_FILTER_HOLD;
	default:
		return BIO_FILTER_PASS;
	}
}

static const struct bio_filter filter_hook = {
	.judge		= filter_hook_judge,
	.hold		= filter_hold,
	.replaced	= filter_replaced,
};

int filter_register(void)
{
	int ret = bio_filter_register(&filter_hook);

	if (ret)
		pr_err("cannot filter bios, another driver does: %pe\n", ERR_PTR(ret));
	return ret;
}

/* Waits until every submitter has left filter_hold(). */
void filter_unregister(void)
{
	bio_filter_unregister();
}

int filter_module_init(void)
{
	return 0;
}

void filter_module_exit(void)
{
}
