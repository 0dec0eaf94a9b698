/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Files that are pinned while a snapshot stores in their blocks
 *
 * A pinned file keeps its blocks where they are, and nobody writes to it: it is a swap
 * file to the kernel, which refuses to delete, truncate, write, punch, share and
 * defragment these.  Only filesystems that honour this without a word of their own are
 * accepted.  What was written to the file before is on the disk when the pin is settled.
 *
 * A file belongs to one snapshot.  The list of pins is protected by the snapshot's lock.
 *
 * Context: everything here sleeps.  storage_pin_open() and storage_pin_settle() may wait
 * for other programs and for the file's device, so no lock is held.
 */
#ifndef BLKSNAP_STORAGE_PIN_H
#define BLKSNAP_STORAGE_PIN_H

struct file;
struct list_head;

struct file *storage_pin_open(int fd);
int storage_pin_add(struct list_head *pins, struct file *file);
int storage_pin_settle(struct file *file);
void storage_pin_remove_all(struct list_head *pins);

#endif /* BLKSNAP_STORAGE_PIN_H */
