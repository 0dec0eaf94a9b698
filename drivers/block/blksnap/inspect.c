// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots and trackers in debugfs
 *
 * Two files, blksnap/snapshots and blksnap/trackers, with a line for each object: words
 * of the form NAME=VALUE, so that programs find what they know.  Everything is computed
 * when a file is read, and nothing is counted for it on the path of a write.
 *
 * The files are there from loading to unloading, not from the beginning to the end of an
 * object, so no object has to wait for a reader.  An open file keeps the module.
 *
 * A snapshot is looked at under snapshots_lock, which keeps it in the list and with it
 * its storage.  A tracker is looked at by tracker_stats().  The lines go to memory of
 * seq_file, and from there to user space without a lock.
 */
#include "blksnap.h"

#include <linux/debugfs.h>
#include <linux/kdev_t.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/timekeeping.h>

#include "inspect.h"
#include "snapshot_priv.h"
#include "tracker.h"

static struct dentry *inspect_dir;

static void *snapshots_start(struct seq_file *file, loff_t *pos)
{
	mutex_lock(&snapshots_lock);
	return seq_list_start(&snapshots, *pos);
}

static void *snapshots_next(struct seq_file *file, void *entry, loff_t *pos)
{
	return seq_list_next(entry, &snapshots, pos);
}

static void snapshots_stop(struct seq_file *file, void *entry)
{
	mutex_unlock(&snapshots_lock);
}

static const char *snapshot_state_name(const struct snapshot *snapshot)
{
	static const char * const names[] = {
		[SNAPSHOT_CREATED] = "created",
		[SNAPSHOT_TAKING] = "taking",
		[SNAPSHOT_TAKEN] = "taken",
	};

	return snapshot->is_ending ? "ending" : names[snapshot->state];
}

static int snapshots_show(struct seq_file *file, void *entry)
{
	const struct snapshot *snapshot = list_entry(entry, struct snapshot, link);
	u64 age_ns = ktime_get_boottime_ns() - snapshot->created_ns;
	struct diff_storage *storage = snapshot->storage;
	u32 i;

	seq_printf(file, "id=%pUb state=%s age_ms=%llu", &snapshot->id,
		   snapshot_state_name(snapshot), div_u64(age_ns, NSEC_PER_MSEC));
	seq_printf(file, " storage_bytes=%llu storage_free_bytes=%llu fill_bytes_per_second=%llu",
		   (u64)diff_storage_capacity(storage) << SECTOR_SHIFT,
		   (u64)diff_storage_free_sectors(storage) << SECTOR_SHIFT,
		   diff_storage_fill_rate(storage) << SECTOR_SHIFT);
	for (i = 0; i < snapshot->nr_members; i++)
		seq_printf(file, "%s%u:%u", i ? "," : " devices=",
			   MAJOR(snapshot->members[i].dev), MINOR(snapshot->members[i].dev));
	seq_putc(file, '\n');
	return 0;
}

static const struct seq_operations snapshots_sops = {
	.start = snapshots_start,
	.next = snapshots_next,
	.stop = snapshots_stop,
	.show = snapshots_show,
};

DEFINE_SEQ_ATTRIBUTE(snapshots);

/* The entry is memory of the open file's own, so nothing is locked between the lines. */
static void *trackers_start(struct seq_file *file, loff_t *pos)
{
	struct tracker_stats *stats = file->private;

	return tracker_stats(*pos, stats) ? stats : NULL;
}

static void *trackers_next(struct seq_file *file, void *entry, loff_t *pos)
{
	++*pos;
	return trackers_start(file, pos);
}

static void trackers_stop(struct seq_file *file, void *entry)
{
}

static int trackers_show(struct seq_file *file, void *entry)
{
	const struct tracker_stats *stats = entry;
	const struct cbt_map_info *map = &stats->map;

	seq_printf(file, "device=%u:%u generation=%pUb began=%s snap_number=%u",
		   MAJOR(stats->dev), MINOR(stats->dev), &map->generation,
		   cbt_reason_name(map->began), map->snap_number);
	seq_printf(file, " block_bytes=%u blocks=%u memory_bytes=%llu", map->block_bytes,
		   map->nr_blocks, stats->usage.memory_bytes);
	/* What has changed is of no use where the next take begins a new generation. */
	if (map->ends)
		seq_printf(file, " ends=%s\n", cbt_reason_name(map->ends));
	else
		seq_printf(file, " changed_blocks=%u\n", stats->usage.nr_changed);
	return 0;
}

static const struct seq_operations trackers_sops = {
	.start = trackers_start,
	.next = trackers_next,
	.stop = trackers_stop,
	.show = trackers_show,
};

static int trackers_open(struct inode *inode, struct file *file)
{
	return seq_open_private(file, &trackers_sops, sizeof(struct tracker_stats));
}

static const struct file_operations trackers_fops = {
	.owner = THIS_MODULE,
	.open = trackers_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};

/* Nothing depends on debugfs, so it does not matter whether there is one. */
int inspect_module_init(void)
{
	inspect_dir = debugfs_create_dir("blksnap", NULL);
	debugfs_create_file("snapshots", 0444, inspect_dir, NULL, &snapshots_fops);
	debugfs_create_file("trackers", 0444, inspect_dir, NULL, &trackers_fops);
	return 0;
}

/* Waits for readers that are inside. */
void inspect_module_exit(void)
{
	debugfs_remove_recursive(inspect_dir);
}
