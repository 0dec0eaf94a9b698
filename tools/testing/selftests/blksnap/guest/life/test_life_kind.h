/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kinds of disks that can be taken away, or resized, while they are in use
 */
#ifndef TEST_LIFE_KIND_H
#define TEST_LIFE_KIND_H

#include "test_life.h"

/**
 * struct life_kind - how disks of one kind come and go
 * @name:	printed in notes
 * @make:	make the disk of this kind, or the same one again; false if the
 *		system cannot have one
 * @take_away:	as an administrator may do it, whoever has the disk open
 * @unmake:	leave nothing behind; whatever was done before, also twice
 * @resize:	give it LARGE_BYTES instead of DISK_MIB, or those again; NULL if
 *		that cannot be done
 * @stays_while_open: @take_away waits for the last close, unnoticed by openers
 * @changes_table: @take_away gives it another table, by which an image is lost
 *
 * There is one disk of each kind at a time, and it has DISK_MIB.
 */
#define LARGE_BYTES (2 * DISK_MIB * MIB)

struct life_kind {
	const char *name;
	bool (*make)(struct disk *disk);
	void (*take_away)(struct disk *disk);
	void (*unmake)(struct disk *disk);
	bool (*resize)(struct disk *disk, uint64_t nr_bytes);
	bool stays_while_open;
	bool changes_table;
};

/* A disk of memory: its driver deletes it at once. */
extern const struct life_kind null_kind;
/* A file: let go of when nobody has it open. */
extern const struct life_kind loop_kind;
/* Mapped to a disk of memory: it is there as long as it is open, but fails. */
extern const struct life_kind dm_kind;
/* Half of a disk of memory, from a sector on that is no multiple of 4 KiB. */
extern const struct life_kind partition_kind;
/* Emulated SCSI: deleted as if pulled. */
extern const struct life_kind scsi_kind;
/* That of --device, taken from its driver. */
extern const struct life_kind virtio_kind;

/* What is sent to the disk of dm_kind waits inside the driver between the two. */
bool dm_kind_suspend(void);
bool dm_kind_resume(void);

/*
 * A disk on top of another one: a read gets there only @read_ms after it was sent,
 * a write at once.
 */
bool slow_reader_make(struct disk *disk, const struct disk *lower,
		      unsigned int read_ms);
void slow_reader_unmake(void);

void virtio_kind_set_device(const char *path);

#endif /* TEST_LIFE_KIND_H */
