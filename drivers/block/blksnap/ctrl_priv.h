/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The calls of the control node, shared by ctrl.c and ctrl_node.c
 *
 * ctrl_node.c calls ctrl.c: ctrl_ioctl_native() for the arguments of 64-bit programs,
 * ctrl_ioctl_common() for those that are the same for all, and the other functions
 * with what it has read from the argument of a 32-bit program.  The caller is
 * privileged.
 */
#ifndef BLKSNAP_CTRL_PRIV_H
#define BLKSNAP_CTRL_PRIV_H

#include <linux/types.h>
#include <linux/uuid.h>
#include <linux/blksnap.h>

#include "ctrl.h"

struct file;

/* Copies an array of cbt_info in the layout of the caller. */
typedef int (*ctrl_put_infos_fn)(void __user *array, const struct blk_snap_cbt_info *infos,
				 u32 count);

int ctrl_put_infos(void __user *array, const struct blk_snap_cbt_info *infos, u32 count);
dev_t ctrl_dev(const struct blk_snap_dev *dev);
int ctrl_collect_trackers(void __user *array, u32 *count, ctrl_put_infos_fn put_infos);
int ctrl_mark_dirty_blocks(const struct blk_snap_dev *dev_id, const void __user *array,
			   u32 count);
int ctrl_create_snapshot(const void __user *array, u32 count, uuid_t *id);
int ctrl_append_storage(const struct blk_snap_uuid *user_id, const struct blk_snap_dev *dev_id,
			const void __user *array, u32 count);
long ctrl_ioctl_common(struct file *file, unsigned int cmd, void __user *arg);
long ctrl_ioctl_native(struct file *file, unsigned int cmd, void __user *user_arg);

#endif /* BLKSNAP_CTRL_PRIV_H */
