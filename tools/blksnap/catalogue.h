/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The catalogue of the backups of one source
 *
 * A source is what is backed up together, a machine as a rule.  It has a folder
 * of its own below the folder of all backups.  There a point is what one backup
 * saved: for each disk one layer, which is a qcow2 file and its map.  A layer is
 * full, or based on that of an earlier point.
 *
 * catalogue.json says which files belong to the backup.  A file is written under
 * the name NAME.partial, brought to the disk and renamed, before a catalogue
 * that names it takes the place of the one before.  So whatever happens, what is
 * in the catalogue is whole.  Files of ours that it does not name were left by a
 * run that was interrupted; the next one removes them.  So a catalogue that is older than
 * the layers, because an old copy was put back, is refused for writing.
 *
 * catalogue-copy.json is a copy of the catalogue, written after it, in case that
 * it is damaged.
 *
 * A layer that is merged with those below it is the one file that changes under
 * its name, because the layer above has that name in its header.  What it holds
 * after that is still right by the map that it had: the catalogue before the
 * merge describes both files, and says so.
 *
 * A writer holds the lock alone, readers share it.
 */
#ifndef CATALOGUE_H
#define CATALOGUE_H

#include <stdbool.h>
#include <stdint.h>

#include <json.h>

#include "key.h"

struct catalogue_disk {
	char *disk;		/* name in this catalogue */
	char *file;		/* of the layer */
	char *map;		/* file of its map */
	char *map_sha256;
	uint64_t base;		/* number of the point below, 0 if full */
	/* If not 0, the file may already be merged with the layers from this one on. */
	uint64_t merging;
	char *reason;		/* why it is full, NULL if it is not */
	char *device;		/* path or number at that time */
	char *wwid;		/* of the disk; NULL if unknown, like those below */
	char *serial;
	char *partuuid;
	char *ptuuid;		/* of the partition table on it */
	char *fs_uuid;
	char *fs_uuid_sub;	/* of this device of the filesystem or array */
	char *fs_type;
	uint64_t capacity_bytes;
	uint64_t block_bytes;	/* of change tracking */
	char *generation;
	uint64_t snap_number;
	bool frozen;		/* the filesystem was, at the take */
	bool encrypted;		/* like all layers of its chain */
	bool used_only;		/* what the filesystem did not use is not in it */
	uint64_t read_bytes;
	uint64_t data_bytes;	/* of these, not zeros */
	uint64_t file_bytes;
	/* Those below are of the running program alone. */
	bool damaged;		/* cannot be restored; set by retention_apply() */
	unsigned int kept_by;	/* rules of retention.h */
	bool needed;		/* another layer is based on it, or it is kept */
};

struct catalogue_point {
	uint64_t number;
	uint64_t time;		/* of the take, in seconds since 1970 */
	struct catalogue_disk *disks;
	size_t nr_disks;
};

struct catalogue {
	char *dir;		/* absolute path of the source's folder */
	char *source;
	int lock_fd;
	const struct key *key;	/* of encrypted layers; set by the caller */
	uint64_t next_point;
	struct catalogue_point *points;	/* in order of their numbers */
	size_t nr_points;
};

enum catalogue_access {
	CATALOGUE_LOOK,		/* without the lock */
	CATALOGUE_READ,
	CATALOGUE_WRITE,
	CATALOGUE_CREATE,	/* as WRITE, and there may be none yet */
};

int catalogue_open(struct catalogue *catalogue, const char *dir,
		   const char *source, enum catalogue_access mode);
int catalogue_save(struct catalogue *catalogue);
int catalogue_sync(const struct catalogue *catalogue);
void catalogue_remove_leftovers(const struct catalogue *catalogue, bool quiet);
void catalogue_close(struct catalogue *catalogue);

struct json_object *catalogue_disk_to_json(const struct catalogue_disk *disk);
struct json_object *catalogue_point_to_json(const struct catalogue_point *point);

int catalogue_add_point(struct catalogue *catalogue,
			const struct catalogue_point *point);
void catalogue_forget_disk(struct catalogue_disk *disk);
void catalogue_remove_unneeded(struct catalogue *catalogue);
void catalogue_forget_point(struct catalogue_point *point);

const struct catalogue_point *
catalogue_find_point(const struct catalogue *catalogue, uint64_t number);
struct catalogue_disk *
catalogue_find_disk(const struct catalogue_point *point, const char *disk);
const struct catalogue_disk *
catalogue_newest_disk(const struct catalogue *catalogue, const char *disk,
		      uint64_t *number);
const struct catalogue_disk *
catalogue_below(const struct catalogue *catalogue,
		const struct catalogue_disk *disk);
const struct key *catalogue_key(const struct catalogue *catalogue,
				const struct catalogue_disk *disk);
char *catalogue_path(const struct catalogue *catalogue, const char *name);
const char *catalogue_layer_damage(const struct catalogue *catalogue,
				   const struct catalogue_disk *disk);
const char *catalogue_layer_problem(const struct catalogue *catalogue,
				    const struct catalogue_disk *disk);
int catalogue_check_files(const struct catalogue *catalogue,
			  const struct catalogue_disk *top,
			  const struct catalogue_disk *bottom);
uint64_t catalogue_newest_whole(const struct catalogue *catalogue,
				const char *disk);

#endif /* CATALOGUE_H */
